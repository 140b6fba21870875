-- One row per wave and numeric question that the crosswalk says was asked, for the whole country.
with

numeric_questions as (

    select questions.question_id
    from crosswalk.questions
    where questions.is_numeric

),

national as (

    select geographies.geography_level
    from crosswalk.geographies

),

shares as (

    select
        survey_year,
        question_id,
        sum(cast(response as double) * pct) / 100 as mean_of_shares
    from marts.estimates
    where
        breakdown = 'all'
        and geography_level in (select national.geography_level from national)
        and question_id in (select numeric_questions.question_id from numeric_questions)
    group by survey_year, question_id

),

scores as (

    select
        survey_year,
        question_id,
        min(cast(response as double)) as lowest_score,
        max(cast(response as double)) as highest_score
    from crosswalk.response_map
    where
        treatment = 'answered'
        and question_id in (select numeric_questions.question_id from numeric_questions)
    group by survey_year, question_id

)

select
    scores.survey_year,
    scores.question_id,
    case when mart.survey_year is null then 'missing' when mart.suppressed then 'suppressed' else 'shown' end as state,
    scores.lowest_score,
    scores.highest_score,
    mart.mean_score,
    mart.ci_low,
    mart.ci_high,
    abs(mart.mean_score - shares.mean_of_shares) as difference_to_estimates
from scores
left join (
    select means.*
    from marts.means
    where means.breakdown = 'all' and means.geography_level in (select national.geography_level from national)
) as mart
    on
        scores.survey_year = mart.survey_year
        and scores.question_id = mart.question_id
left join shares
    on
        scores.survey_year = shares.survey_year
        and scores.question_id = shares.question_id
order by scores.survey_year, scores.question_id
