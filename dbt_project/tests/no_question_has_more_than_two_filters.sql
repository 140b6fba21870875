select
    survey_year,
    question_id,
    count(distinct filter_question_id) as filters,
    'question_wording names two filters at most: extend it' as what_to_do
from {{ ref('routing') }}
group by survey_year, question_id
having count(distinct filter_question_id) > 2
