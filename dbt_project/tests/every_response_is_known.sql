select
    response_map.survey_year,
    response_map.question_id,
    response_map.code,
    response_map.treatment,
    response_map.response,
    case
        when response_map.treatment <> 'answered' then 'only answered codes have a response'
        else 'add the response to the seed responses, or correct it'
    end as what_to_do
from {{ ref('response_map') }} as response_map
left join {{ ref('responses') }} as responses
    on
        response_map.question_id = responses.question_id
        and response_map.response = responses.response
where
    (response_map.treatment = 'answered' and responses.response is null)
    or (response_map.treatment <> 'answered' and response_map.response is not null)
order by response_map.survey_year, response_map.question_id, response_map.code
