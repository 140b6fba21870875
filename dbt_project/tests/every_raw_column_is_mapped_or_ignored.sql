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

),

columns as (

    select
        variables.survey_year,
        variables.file_role,
        variables.raw_column,
        variables.label,
        variables.position,
        known.raw_column is not null as is_known,
        avg(case when known.raw_column is null then 0 else 1 end)
            over (partition by variables.survey_year, variables.file_role)
        >= 0.5 as has_header
    from {{ source('raw', 'variables') }} as variables
    left join known
        on
            variables.survey_year = known.survey_year
            and variables.file_role = known.file_role
            and lower(trim(variables.raw_column)) = known.raw_column

)

-- A file without its header has a person's answers for names: then only their places are told.
select
    columns.survey_year,
    columns.file_role,
    case when columns.has_header then columns.raw_column else 'number ' || columns.position end as raw_column,
    case when columns.has_header then columns.label end as label,
    case
        when columns.has_header then 'add it to question_map, key_variables or ignored_columns'
        else 'most columns of this file are unknown: is its first line the header?'
    end as what_to_do
from columns
where not columns.is_known
order by columns.survey_year, columns.file_role, columns.position
