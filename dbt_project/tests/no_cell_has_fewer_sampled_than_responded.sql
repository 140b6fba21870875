select
    cells.survey_year,
    {{ shown_trust('cells.trust') }} as trust,
    cells.weight_cell,
    sum(cells.sampled) as sampled,
    sum(cells.responded) as responded,
    'check the sampled file: age and gender must come from the same source in both files' as what_to_do
from {{ ref('int_weight_cells') }} as cells
where cells.sampled is not null
group by cells.survey_year, cells.trust, cells.weight_cell
having sum(cells.sampled) < sum(cells.responded)
order by cells.survey_year, cells.trust, cells.weight_cell
