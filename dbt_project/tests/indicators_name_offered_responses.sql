with

judged as (

    select
        questions.question_id,
        questions.indicator,
        questions.area,
        questions.indicator_response,
        case
            when questions.indicator_response is not null and responses.response is null
                then 'the question has no such response: correct indicator_response'
            when questions.indicator <> 'overall_experience' and questions.indicator_response is null
                then 'say in indicator_response whose share is published'
            when questions.indicator = 'support_not_received' and questions.area is null
                then 'say in area which area of life it is about'
        end as what_to_do
    from {{ ref('questions') }} as questions
    left join {{ ref('responses') }} as responses
        on
            questions.question_id = responses.question_id
            and questions.indicator_response = responses.response

)

select *
from judged
where what_to_do is not null
order by question_id
