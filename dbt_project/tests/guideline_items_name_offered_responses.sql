select
    items.statement,
    items.question_id,
    items.response,
    'the question has no such response: correct the row' as what_to_do
from {{ ref('guideline_items') }} as items
left join {{ ref('responses') }} as responses
    on
        items.question_id = responses.question_id
        and items.response = responses.response
where responses.response is null
order by items.statement, items.question_id
