select
    trusts.survey_year,
    {{ shown_trust('trusts.stratum') }} as stratum,
    sum(trusts.responded) as responded,
    'join it to another trust in merged_strata' as what_to_do
from {{ ref('int_trusts') }} as trusts
group by trusts.survey_year, trusts.stratum
having sum(trusts.responded) < 2
order by trusts.survey_year, trusts.stratum
