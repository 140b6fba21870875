select
    cells.survey_year,
    {{ shown_trust('cells.trust') }} as trust,
    sum(cells.responded) as respondents,
    sum(cells.responded * cells.population_weight) as weights
from {{ ref('int_weight_cells') }} as cells
where cells.sampled is not null
group by cells.survey_year, cells.trust
having
    coalesce(abs(sum(cells.responded * cells.population_weight) - sum(cells.responded)), 1)
    > cast(1e-9 as double) * sum(cells.responded)
