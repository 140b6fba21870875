-- One row per wave, question and response that the crosswalk says was offered, for the whole country.
with

offered as (

    select distinct
        question_map.survey_year,
        question_map.question_id,
        response_map.response
    from crosswalk.question_map
    inner join crosswalk.response_map
        on
            question_map.survey_year = response_map.survey_year
            and question_map.question_id = response_map.question_id
    where response_map.treatment = 'answered'

),

national as (

    select estimates.*
    from marts.estimates
    inner join crosswalk.geographies
        on
            estimates.geography_level = geographies.geography_level
            and estimates.geography_code = geographies.geography_code
    where estimates.breakdown = 'all'

)

select
    offered.survey_year,
    offered.question_id,
    offered.response,
    case when mart.survey_year is null then 'missing' when mart.suppressed then 'suppressed' else 'shown' end as state,
    mart.pct,
    -- The mart hides a small base; the check must not be blind to it.
    exact.base,
    expected_rows.minimum_base,
    sum(mart.pct) over (partition by offered.survey_year, offered.question_id) as pct_of_question,
    abs(mart.pct - before.pct) as change,
    waves.maximum_change
from offered
inner join crosswalk.waves on offered.survey_year = waves.survey_year
left join national as mart
    on
        offered.survey_year = mart.survey_year
        and offered.question_id = mart.question_id
        and offered.response = mart.response
left join (
    select
        estimates.survey_year,
        estimates.question_id,
        max(estimates.base) as base
    from intermediate.int_estimates as estimates
    group by estimates.survey_year, estimates.question_id
) as exact
    on
        offered.survey_year = exact.survey_year
        and offered.question_id = exact.question_id
left join crosswalk.expected_rows
    on
        offered.survey_year = expected_rows.survey_year
        and offered.question_id = expected_rows.question_id
left join crosswalk.comparability
    on
        offered.question_id = comparability.question_id
        and offered.survey_year = comparability.to_year
        and comparability.comparable
left join national as before
    on
        comparability.from_year = before.survey_year
        and offered.question_id = before.question_id
        and offered.response = before.response
order by offered.survey_year, offered.question_id, offered.response
