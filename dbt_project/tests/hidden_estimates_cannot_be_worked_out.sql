with

estimates as (

    select distinct
        survey_year,
        geography_level,
        geography_code,
        breakdown,
        category,
        question_id,
        base,
        suppressed
    from {{ ref('estimates') }}

),

national as (

    select estimates.*
    from estimates
    inner join {{ ref('geographies') }} as geographies
        on
            estimates.geography_level = geographies.geography_level
            and estimates.geography_code = geographies.geography_code
    where estimates.breakdown = 'all'

),

margins as (

    select
        survey_year,
        question_id,
        case when breakdown = 'all' then geography_level else breakdown end as margin,
        count_if(suppressed) as hidden_parts,
        coalesce(sum(base), 0) as shown_base
    from estimates
    where breakdown <> 'all' or geography_level = 'trust'
    group by survey_year, question_id, case when breakdown = 'all' then geography_level else breakdown end

)

select
    margins.survey_year,
    margins.question_id,
    margins.margin,
    margins.hidden_parts,
    national.base - margins.shown_base as hidden_base
from margins
inner join national
    on
        margins.survey_year = national.survey_year
        and margins.question_id = national.question_id
where
    margins.hidden_parts > 0
    and not national.suppressed
    and (
        margins.hidden_parts = 1
        or national.base - margins.shown_base < {{ var('minimum_published_base') }}
    )
order by margins.survey_year, margins.question_id, margins.margin
