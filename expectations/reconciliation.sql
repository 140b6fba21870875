-- One row per final published figure of the waves in the crosswalk.
select
    published_figures.survey_year,
    published_figures.question_id,
    published_figures.response,
    mart.published_pct,
    round(mart.our_pct, 3) as our_pct,
    case
        when mart.our_pct is null then 'missing'
        when mart.agrees then 'agrees'
        when mart.accepted then 'accepted by a reviewer'
        else 'disagrees: published ' || mart.published_pct || ', ours ' || round(mart.our_pct, 3)
    end as verdict
from crosswalk.published_figures
inner join crosswalk.waves on published_figures.survey_year = waves.survey_year
left join marts.reconciliation as mart
    on
        published_figures.survey_year = mart.survey_year
        and published_figures.question_id = mart.question_id
        and published_figures.response = mart.response
        and published_figures.vintage = mart.vintage
where published_figures.status = 'final'
order by published_figures.survey_year, published_figures.question_id, published_figures.response
