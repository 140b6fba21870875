select
    cells.survey_year,
    {{ shown_trust('cells.trust') }} as trust,
    cells.weight_cell,
    sum(cells.sampled) as sampled,
    sum(cells.responded) as responded,
    'no rule merges this cell further: check the sampling frame, or lower min_cell of the wave' as what_to_do
from {{ ref('int_weight_cells') }} as cells
inner join {{ ref('waves') }} as waves on cells.survey_year = waves.survey_year
where cells.sampled is not null and cells.weight_cell <> 'unknown'
group by cells.survey_year, cells.trust, cells.weight_cell, waves.min_cell
having sum(cells.responded) < waves.min_cell or sum(cells.sampled) = 0
order by cells.survey_year, cells.trust, cells.weight_cell
