-- One row per wave, question and response with an estimate that is shown.
select
    estimates.survey_year,
    estimates.question_id,
    estimates.response,
    weighted.pct,
    unweighted.pct as unweighted_pct,
    abs(weighted.pct - unweighted.pct) as effect,
    waves.maximum_weighting_effect,
    abs(weighted.pct - estimates.pct) as difference_to_estimates
from marts.estimates
inner join crosswalk.waves on estimates.survey_year = waves.survey_year
left join marts.weighting_effect as weighted
    on
        estimates.survey_year = weighted.survey_year
        and estimates.question_id = weighted.question_id
        and estimates.response = weighted.response
        and weighted.is_published_scheme
left join marts.weighting_effect as unweighted
    on
        estimates.survey_year = unweighted.survey_year
        and estimates.question_id = unweighted.question_id
        and estimates.response = unweighted.response
        and unweighted.scheme = 'none'
where
    estimates.breakdown = 'all'
    and not estimates.suppressed
    and estimates.geography_level in (select geographies.geography_level from crosswalk.geographies)
order by estimates.survey_year, estimates.question_id, estimates.response
