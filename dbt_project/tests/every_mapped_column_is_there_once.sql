with

named as (

    select
        survey_year,
        'responses' as file_role,
        raw_column,
        'question_map' as seed
    from {{ ref('question_map') }}
    union all
    select
        survey_year,
        file_role,
        raw_column,
        'key_variables' as seed
    from {{ ref('key_variables') }}
    union all
    select
        survey_year,
        file_role,
        raw_column,
        'ignored_columns' as seed
    from {{ ref('ignored_columns') }}

),

counted as (

    select
        survey_year,
        file_role,
        lower(trim(raw_column)) as raw_column,
        min(seed) as seed,
        max(seed) as last_seed,
        count(*) as n
    from named
    group by survey_year, file_role, lower(trim(raw_column))

)

select
    counted.survey_year,
    counted.file_role,
    counted.raw_column,
    counted.seed,
    case
        when counted.n > 1
            then 'named ' || counted.n || ' times (' || counted.seed || ', ' || counted.last_seed || '): keep one'
        else 'the file has no such column: correct or remove the row'
    end as what_to_do
from counted
left join {{ source('raw', 'variables') }} as variables
    on
        counted.survey_year = variables.survey_year
        and counted.file_role = variables.file_role
        and counted.raw_column = lower(trim(variables.raw_column))
where variables.raw_column is null or counted.n > 1
order by counted.survey_year, counted.file_role, counted.raw_column
