with

known as (

    select
        survey_year,
        'responses' as file_role,
        lower(trim(raw_column)) as raw_column
    from {{ ref('question_map') }}
    union all
    select
        survey_year,
        file_role,
        lower(trim(raw_column)) as raw_column
    from {{ ref('key_variables') }}
    union all
    select
        survey_year,
        file_role,
        lower(trim(raw_column)) as raw_column
    from {{ ref('ignored_columns') }}

)

select
    variables.survey_year,
    variables.file_role,
    variables.raw_column,
    variables.label,
    'add it to question_map, key_variables or ignored_columns' as what_to_do
from {{ source('raw', 'variables') }} as variables
left join known
    on
        variables.survey_year = known.survey_year
        and variables.file_role = known.file_role
        and lower(trim(variables.raw_column)) = known.raw_column
where known.raw_column is null
order by variables.survey_year, variables.file_role, variables.raw_column
