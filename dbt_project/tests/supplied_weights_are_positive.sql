select
    persons.survey_year,
    {{ shown_trust('persons.trust') }} as trust,
    count(*) as n,
    'the weight is missing, zero or negative: ask the depositor' as what_to_do
from {{ ref('int_persons') }} as persons
inner join {{ ref('waves') }} as waves on persons.survey_year = waves.survey_year
where
    waves.weighting_scheme = 'supplied'
    and persons.person_status is null
    and coalesce(persons.supplied_weight, 0) <= 0
group by persons.survey_year, persons.trust
order by persons.survey_year, persons.trust
