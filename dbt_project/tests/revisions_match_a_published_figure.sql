{#- A row names a printed figure or, by the id of one of our own releases, a restatement of it. -#}
select
    revisions.question_id,
    revisions.survey_year,
    revisions.response,
    revisions.vintage,
    'no published figure is meant, and no release: correct or remove the row' as what_to_do
from {{ ref('revisions') }} as revisions
left join {{ ref('published_figures') }} as published_figures
    on
        revisions.question_id = published_figures.question_id
        and revisions.survey_year = published_figures.survey_year
        and revisions.response = published_figures.response
        and revisions.vintage = published_figures.vintage
where
    published_figures.question_id is null
    and revisions.vintage not like '________T______Z-________'
order by 1, 2, 3
