select
    trusts.survey_year,
    {{ shown_trust('trusts.trust') }} as trust,
    trusts.sampled,
    trusts.responded,
    case
        when trusts.responded = 0 then 'nobody responded: is its part of the file missing?'
        else 'fewer persons were drawn than responded: check the sampled file'
    end as what_to_do
from {{ ref('int_trusts') }} as trusts
where trusts.responded = 0 or trusts.sampled < trusts.responded
order by trusts.survey_year, trusts.trust
