select
    published_figures.question_id,
    published_figures.response,
    published_figures.survey_year
from {{ ref('published_figures') }} as published_figures
inner join {{ ref('waves') }} as waves on published_figures.survey_year = waves.survey_year
left join {{ ref('reconciliation') }} as reconciliation
    on
        published_figures.question_id = reconciliation.question_id
        and published_figures.response = reconciliation.response
        and published_figures.survey_year = reconciliation.survey_year
        and published_figures.vintage = reconciliation.vintage
where published_figures.status = 'final' and reconciliation.our_pct is null
order by 1, 2, 3
