select
    survey_year,
    stratum,
    sum(responded) as responded,
    'join it to another trust in merged_strata' as what_to_do
from {{ ref('int_trusts') }}
group by survey_year, stratum
having sum(responded) < 2
order by survey_year, stratum
