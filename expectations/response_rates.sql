-- One row per wave that has a sampling frame.
select
    waves.survey_year,
    max(mart.sampled) filter (where mart.geography_level <> 'trust') as sampled,
    sum(mart.sampled) filter (where mart.geography_level = 'trust') as sampled_in_trusts,
    max(mart.responded) filter (where mart.geography_level <> 'trust') as responded,
    sum(mart.responded) filter (where mart.geography_level = 'trust') as responded_in_trusts,
    max(mart.response_rate) filter (where mart.geography_level <> 'trust') as response_rate,
    waves.minimum_response_rate,
    waves.maximum_response_rate,
    count(*) filter (where mart.geography_level = 'trust') as trusts,
    waves.minimum_trusts,
    waves.maximum_trusts
from crosswalk.waves
left join marts.response_rates as mart on waves.survey_year = mart.survey_year
where waves.sample_frame <> 'none'
group by
    waves.survey_year,
    waves.minimum_response_rate,
    waves.maximum_response_rate,
    waves.minimum_trusts,
    waves.maximum_trusts
order by waves.survey_year
