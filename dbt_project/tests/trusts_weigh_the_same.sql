select
    cells.survey_year,
    {{ shown_trust('cells.trust') }} as trust,
    sum(cells.responded * cells.trust_weight * cells.population_weight) as weights,
    max(cast(trusts.wave_responded as double) / trusts.wave_trusts) as expected
from {{ ref('int_weight_cells') }} as cells
inner join {{ ref('int_trusts') }} as trusts
    on
        cells.survey_year = trusts.survey_year
        and cells.trust = trusts.trust
where cells.sampled is not null
group by cells.survey_year, cells.trust
having
    coalesce(
        abs(
            sum(cells.responded * cells.trust_weight * cells.population_weight)
            - max(cast(trusts.wave_responded as double) / trusts.wave_trusts)
        ),
        1
    ) > cast(1e-9 as double) * max(cast(trusts.wave_responded as double) / trusts.wave_trusts)
