select
    survey_year,
    trust,
    weight_cell,
    sum(sampled) as sampled,
    sum(responded) as responded,
    'check the sampled file: age and gender must come from the same source in both files' as what_to_do
from {{ ref('int_weight_cells') }}
where sampled is not null
group by survey_year, trust, weight_cell
having sum(sampled) < sum(responded)
order by survey_year, trust, weight_cell
