select
    counts.survey_year,
    counts.question_id,
    question_map.raw_column,
    {{ shown_code('counts.code') }} as code,
    sum(counts.n) as n,
    'add the code to response_map' as what_to_do
from {{ ref('int_response_counts') }} as counts
inner join {{ ref('question_map') }} as question_map
    on
        counts.survey_year = question_map.survey_year
        and counts.question_id = question_map.question_id
left join {{ ref('response_map') }} as response_map
    on
        counts.survey_year = response_map.survey_year
        and counts.question_id = response_map.question_id
        and counts.code = response_map.code
where counts.code is not null and response_map.code is null
group by counts.survey_year, counts.question_id, question_map.raw_column, counts.code
order by counts.survey_year, counts.question_id, counts.code
