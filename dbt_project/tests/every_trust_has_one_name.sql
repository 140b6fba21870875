select
    responses.survey_year,
    {{ shown_trust('responses.trust') }} as trust,
    count(distinct responses.trust_name) as names,
    'is it the right column? if it is, list it in ignored_columns instead of key_variables' as what_to_do
from {{ ref('stg_responses') }} as responses
group by responses.survey_year, responses.trust
having count(distinct responses.trust_name) > 1
order by responses.survey_year, responses.trust
