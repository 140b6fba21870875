select
    cells.survey_year,
    sum(cells.responded) as respondents,
    sum(cells.responded * cells.trust_weight * cells.population_weight) as weights
from {{ ref('int_weight_cells') }} as cells
where cells.sampled is not null
group by cells.survey_year
having
    abs(sum(cells.responded * cells.trust_weight * cells.population_weight) - sum(cells.responded))
    > cast(1e-9 as double) * sum(cells.responded)
    or sum(cells.responded * cells.trust_weight * cells.population_weight) is null
