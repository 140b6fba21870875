select
    survey_year,
    trust,
    sampled,
    responded,
    case
        when responded = 0 then 'nobody responded: is its part of the file missing?'
        else 'fewer persons were drawn than responded: check the sampled file'
    end as what_to_do
from {{ ref('int_trusts') }}
where responded = 0 or sampled < responded
order by survey_year, trust
