select
    routing.survey_year,
    routing.question_id,
    routing.filter_question_id,
    routing.filter_code,
    'both questions must be in question_map and the code in response_map of this wave' as what_to_do
from {{ ref('routing') }} as routing
left join {{ ref('question_map') }} as question_map
    on
        routing.survey_year = question_map.survey_year
        and routing.question_id = question_map.question_id
left join {{ ref('response_map') }} as response_map
    on
        routing.survey_year = response_map.survey_year
        and routing.filter_question_id = response_map.question_id
        and routing.filter_code = response_map.code
where question_map.question_id is null or response_map.code is null
order by routing.survey_year, routing.question_id, routing.filter_question_id, routing.filter_code
