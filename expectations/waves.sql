-- One row per wave of the crosswalk.
select
    waves.survey_year,
    case when mart.survey_year is null then 'missing' else 'shown' end as state,
    mart.sampled,
    mart.responded,
    count(question_map.question_id) - coalesce(max(mart.questions), 0) as missing_questions
from crosswalk.waves
left join marts.waves as mart on waves.survey_year = mart.survey_year
left join crosswalk.question_map on waves.survey_year = question_map.survey_year
group by waves.survey_year, mart.survey_year, mart.sampled, mart.responded
order by waves.survey_year
