-- One row per figure in print of the waves in the crosswalk, whatever its vintages.
select
    published_figures.survey_year,
    published_figures.question_id,
    published_figures.response,
    count(distinct published_figures.vintage) - count(mart.vintage) as missing_vintages,
    count(*) filter (where mart.vintage_status = 'final') as final_vintages,
    coalesce(
        max(mart.vintage) filter (where mart.vintage_status = 'final') = max(mart.vintage), false
    ) as last_one_is_final,
    coalesce(sum(mart.revision), 0)
    - (max_by(mart.published_pct, mart.vintage) - min_by(mart.published_pct, mart.vintage)) as revisions_left_over
from crosswalk.published_figures
inner join crosswalk.waves on published_figures.survey_year = waves.survey_year
left join marts.published_vintages as mart
    on
        published_figures.survey_year = mart.survey_year
        and published_figures.question_id = mart.question_id
        and published_figures.response = mart.response
        and published_figures.vintage = mart.vintage
group by published_figures.survey_year, published_figures.question_id, published_figures.response
order by published_figures.survey_year, published_figures.question_id, published_figures.response
