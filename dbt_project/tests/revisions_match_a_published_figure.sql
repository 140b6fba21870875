{#- A row names a printed figure or, by the id of one of our own releases, restatements of it or a wave whose files
    were delivered again; one that was withdrawn is not in the crosswalk any more. -#}
with

judged as (

    select
        revisions.question_id,
        revisions.survey_year,
        revisions.response,
        revisions.vintage,
        case
            when not {{ matches('revisions.vintage', '^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$') }}
                then
                    case
                        when figures.question_id is null
                            then 'no published figure is meant, and no release: correct or remove the row'
                    end
            when waves.survey_year is null and (revisions.question_id is not null or revisions.response is not null)
                then 'the crosswalk has no such wave: correct or remove the row'
            when revisions.response is not null and revisions.question_id is null
                then 'a response without its question allows nothing: add the question'
            when revisions.response is not null and responses.response is null
                then 'the question has no such response: correct it, or leave it blank for all of them'
        end as what_to_do
    from {{ ref('revisions') }} as revisions
    left join {{ ref('waves') }} as waves on revisions.survey_year = waves.survey_year
    left join {{ ref('responses') }} as responses
        on
            revisions.question_id = responses.question_id
            and revisions.response = responses.response
    left join {{ ref('published_figures') }} as figures
        on
            revisions.question_id = figures.question_id
            and revisions.survey_year = figures.survey_year
            and revisions.response = figures.response
            and revisions.vintage = figures.vintage

)

select *
from judged
where what_to_do is not null
order by 1, 2, 3, 4
