select
    figures.question_id,
    figures.survey_year,
    figures.response,
    figures.vintage,
    'the question has no such response: correct the row' as what_to_do
from {{ ref('published_figures') }} as figures
left join {{ ref('responses') }} as responses
    on
        figures.question_id = responses.question_id
        and figures.response = responses.response
where responses.response is null
order by figures.question_id, figures.survey_year, figures.response, figures.vintage
