-- One row per wave and score that the crosswalk says was offered.
with

offered as (

    select distinct
        question_map.survey_year,
        question_map.question_id,
        cast(response_map.response as integer) as score
    from crosswalk.question_map
    inner join crosswalk.questions on question_map.question_id = questions.question_id
    inner join crosswalk.response_map
        on
            question_map.survey_year = response_map.survey_year
            and question_map.question_id = response_map.question_id
    where questions.indicator = 'overall_experience' and response_map.treatment = 'answered'

)

select
    offered.survey_year,
    offered.score,
    case when mart.survey_year is null then 'missing' when mart.suppressed then 'suppressed' else 'shown' end as state,
    mart.pct,
    -- The mart hides a small base; the check must not be blind to it.
    exact.base,
    expected_rows.minimum_base,
    sum(mart.pct) over (partition by offered.survey_year) as pct_of_wave,
    abs(mart.pct - before.pct) as change,
    waves.maximum_change
from offered
inner join crosswalk.waves on offered.survey_year = waves.survey_year
left join marts.overall_experience as mart
    on
        offered.survey_year = mart.survey_year
        and offered.score = mart.score
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
left join marts.overall_experience as before
    on
        comparability.from_year = before.survey_year
        and offered.score = before.score
order by offered.survey_year, offered.score
