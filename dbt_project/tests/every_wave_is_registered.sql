with

landed as (

    select distinct survey_year from {{ source('raw', 'files') }}
    where file_role = 'responses'

),

sampled as (

    select distinct survey_year from {{ source('raw', 'files') }}
    where file_role = 'sampled'

),

waves as (

    select * from {{ ref('waves') }}

)

select
    coalesce(waves.survey_year, landed.survey_year) as survey_year,
    case
        when landed.survey_year is null then 'the seed waves has it, the registry has not: register its responses file'
        when waves.survey_year is null then 'the registry has it, the seed waves does not: add its row'
        when waves.weighting_scheme = 'trust_population' and waves.sample_frame = 'none'
            then 'its scheme trust_population needs the persons drawn, but its sample frame is none: correct one'
        when waves.sample_frame = 'apart' then 'its sample frame is apart, but the registry has no file of role sampled'
        else 'the registry has a file of role sampled, but its sample frame is not apart'
    end as what_to_do
from waves
full outer join landed on waves.survey_year = landed.survey_year
left join sampled on waves.survey_year = sampled.survey_year
where
    landed.survey_year is null
    or waves.survey_year is null
    or (waves.sample_frame = 'apart') <> (sampled.survey_year is not null)
    or (waves.weighting_scheme = 'trust_population' and waves.sample_frame = 'none')
order by 1
