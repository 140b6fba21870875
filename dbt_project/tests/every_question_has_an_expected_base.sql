select
    coalesce(question_map.survey_year, expected_rows.survey_year) as survey_year,
    coalesce(question_map.question_id, expected_rows.question_id) as question_id,
    case
        when expected_rows.question_id is null then 'add the smallest believable base to expected_rows'
        else 'the wave did not ask this: correct or remove the row of expected_rows'
    end as what_to_do
from {{ ref('question_map') }} as question_map
full outer join {{ ref('expected_rows') }} as expected_rows
    on
        question_map.survey_year = expected_rows.survey_year
        and question_map.question_id = expected_rows.question_id
where question_map.question_id is null or expected_rows.question_id is null
order by 1, 2
