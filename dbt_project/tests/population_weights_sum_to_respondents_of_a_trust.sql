select
    survey_year,
    trust,
    sum(responded) as respondents,
    sum(responded * population_weight) as weights
from {{ ref('int_weight_cells') }}
where sampled is not null
group by survey_year, trust
having coalesce(abs(sum(responded * population_weight) - sum(responded)), 1) > cast(1e-9 as double) * sum(responded)
