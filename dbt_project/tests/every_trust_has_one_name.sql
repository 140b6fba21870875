-- A name that only some persons of a trust have may be what one of them wrote.
select
    responses.survey_year,
    {{ shown_trust('responses.trust') }} as trust,
    count(distinct responses.trust_name) as names,
    count(*) - count(responses.trust_name) as rows_without,
    'is it the right column? if it is, list it in ignored_columns instead of key_variables' as what_to_do
from {{ ref('stg_responses') }} as responses
group by responses.survey_year, responses.trust
having
    count(distinct responses.trust_name) > 1
    or (count(responses.trust_name) > 0 and count(responses.trust_name) < count(*))
order by responses.survey_year, responses.trust
