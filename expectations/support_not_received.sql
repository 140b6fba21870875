-- One row per wave and area that the crosswalk says was asked about.
select
    question_map.survey_year,
    questions.area,
    case when mart.survey_year is null then 'missing' when mart.suppressed then 'suppressed' else 'shown' end as state,
    mart.pct,
    -- The mart hides a small base; the check must not be blind to it.
    exact.base,
    expected_rows.minimum_base,
    abs(mart.pct - before.pct) as change,
    waves.maximum_change
from crosswalk.question_map
inner join crosswalk.questions on question_map.question_id = questions.question_id
inner join crosswalk.waves on question_map.survey_year = waves.survey_year
left join marts.support_not_received as mart
    on
        question_map.survey_year = mart.survey_year
        and questions.area = mart.area
left join (
    select
        estimates.survey_year,
        estimates.question_id,
        max(estimates.base) as base
    from intermediate.int_estimates as estimates
    group by estimates.survey_year, estimates.question_id
) as exact
    on
        question_map.survey_year = exact.survey_year
        and question_map.question_id = exact.question_id
left join crosswalk.expected_rows
    on
        question_map.survey_year = expected_rows.survey_year
        and question_map.question_id = expected_rows.question_id
left join crosswalk.comparability
    on
        question_map.question_id = comparability.question_id
        and question_map.survey_year = comparability.to_year
        and comparability.comparable
left join marts.support_not_received as before
    on
        comparability.from_year = before.survey_year
        and questions.area = before.area
where questions.indicator = 'support_not_received'
order by question_map.survey_year, questions.area
