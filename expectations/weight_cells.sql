-- One row per wave that has a sampling frame.
select
    waves.survey_year,
    count(mart.trust) as cells,
    waves.minimum_weight,
    waves.maximum_weight,
    min(mart.weight) as smallest_weight,
    max(mart.weight) as largest_weight,
    min(mart.sampled) as smallest_sampled,
    min(mart.responded) as smallest_responded
from crosswalk.waves
left join marts.weight_cells as mart on waves.survey_year = mart.survey_year
where waves.sample_frame <> 'none'
group by waves.survey_year, waves.minimum_weight, waves.maximum_weight
order by waves.survey_year
