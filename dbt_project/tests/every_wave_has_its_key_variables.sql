with

needed as (

    select
        survey_year,
        'responses' as file_role,
        'trust' as variable
    from {{ ref('waves') }}
    union all
    select
        survey_year,
        'responses' as file_role,
        'record' as variable
    from {{ ref('waves') }}
    union all
    select
        survey_year,
        'responses' as file_role,
        'weight' as variable
    from {{ ref('waves') }}
    where weighting_scheme = 'supplied'
    union all
    select
        survey_year,
        'responses' as file_role,
        'outcome' as variable
    from {{ ref('waves') }}
    where sample_frame = 'in_file'
    union all
    select
        waves.survey_year,
        'sampled' as file_role,
        variables.variable
    from {{ ref('waves') }} as waves
    cross join (
        select 'trust' as variable
        union all
        select 'frame_age' as variable
        union all
        select 'frame_gender' as variable
        union all
        select 'persons' as variable
    ) as variables
    where waves.sample_frame = 'apart'

)

select
    needed.survey_year,
    needed.file_role,
    needed.variable,
    'add its row to key_variables' as what_to_do
from needed
left join {{ ref('key_variables') }} as key_variables
    on
        needed.survey_year = key_variables.survey_year
        and needed.file_role = key_variables.file_role
        and needed.variable = key_variables.variable
where key_variables.variable is null
order by 1, 2, 3
