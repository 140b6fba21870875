-- One row per wave, question and response that can be good or bad for a trust.
with

offered as (

    select distinct
        response_map.survey_year,
        response_map.question_id,
        response_map.response
    from crosswalk.response_map
    inner join crosswalk.responses
        on
            response_map.question_id = responses.question_id
            and response_map.response = responses.response
    where response_map.treatment = 'answered' and responses.better_when is not null

),

comparisons as (

    select
        survey_year,
        question_id,
        response,
        count(*) filter (where band is not null) as banded
    from marts.trust_comparisons
    group by survey_year, question_id, response

)

select
    offered.survey_year,
    offered.question_id,
    offered.response,
    case
        when mart.survey_year is not null then 'shown'
        when coalesce(comparisons.banded, 0) = 0 then 'nothing to compare'
        else 'missing'
    end as state,
    mart.trusts - mart.better - mart.about_the_same - mart.worse as not_counted,
    100.0 * (mart.better + mart.worse) / nullif(mart.trusts, 0) as flagged_percent
from offered
left join marts.trust_band_counts as mart
    on
        offered.survey_year = mart.survey_year
        and offered.question_id = mart.question_id
        and offered.response = mart.response
left join comparisons
    on
        offered.survey_year = comparisons.survey_year
        and offered.question_id = comparisons.question_id
        and offered.response = comparisons.response
order by offered.survey_year, offered.question_id, offered.response
