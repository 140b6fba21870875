-- One row per wave and question of the crosswalk.
select
    question_map.survey_year,
    question_map.question_id,
    mart.wording,
    length(trim(mart.wording)) as wording_length,
    mart.comparability
from crosswalk.question_map
left join marts.question_wording as mart
    on
        question_map.survey_year = mart.survey_year
        and question_map.question_id = mart.question_id
order by question_map.survey_year, question_map.question_id
