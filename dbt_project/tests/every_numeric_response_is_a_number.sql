select
    responses.question_id,
    responses.response,
    'the question is numeric, but this is no number: correct the response, or is_numeric of the question' as what_to_do
from {{ ref('responses') }} as responses
inner join {{ ref('questions') }} as questions on responses.question_id = questions.question_id
where questions.is_numeric and not coalesce(abs({{ as_number('responses.response') }}) < 1000000, false)
order by responses.question_id, responses.response
