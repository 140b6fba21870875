select
    question_map.survey_year,
    question_map.question_id,
    'add the smallest believable base to expected_rows' as what_to_do
from {{ ref('question_map') }} as question_map
left join {{ ref('expected_rows') }} as expected_rows
    on
        question_map.survey_year = expected_rows.survey_year
        and question_map.question_id = expected_rows.question_id
where expected_rows.minimum_base is null
order by question_map.survey_year, question_map.question_id
