select
    merged_strata.survey_year,
    merged_strata.trust,
    'the wave has no such trust: correct or remove the row' as what_to_do
from {{ ref('merged_strata') }} as merged_strata
left join {{ ref('int_trusts') }} as trusts
    on
        merged_strata.survey_year = trusts.survey_year
        and merged_strata.trust = trusts.trust
where trusts.trust is null
order by 1, 2
