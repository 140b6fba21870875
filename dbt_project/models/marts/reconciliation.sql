with

published_figures as (

    select * from {{ ref('published_figures') }}

),

estimates as (

    select * from {{ ref('estimates') }}
    where breakdown = 'all'

),

geographies as (

    select * from {{ ref('geographies') }}

),

revisions as (

    select * from {{ ref('revisions') }}

),

questions as (

    select * from {{ ref('questions') }}

),

responses as (

    select * from {{ ref('responses') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

compared as (

    select
        published_figures.question_id,
        questions.label as question_label,
        published_figures.response,
        responses.label as response_label,
        responses.position as response_position,
        published_figures.survey_year,
        published_figures.vintage,
        published_figures.status as vintage_status,
        published_figures.published_pct,
        estimates.pct as our_pct,
        estimates.pct - published_figures.published_pct as difference,
        cast(0.5 as double) / power(cast(10 as double), published_figures.decimals) as tolerance,
        revisions.reason as accepted_reason,
        waves.data_provenance
    from published_figures
    inner join waves on published_figures.survey_year = waves.survey_year
    inner join questions on published_figures.question_id = questions.question_id
    left join responses
        on
            published_figures.question_id = responses.question_id
            and published_figures.response = responses.response
    left join (
        select estimates.*
        from estimates
        inner join geographies
            on
                estimates.geography_level = geographies.geography_level
                and estimates.geography_code = geographies.geography_code
    ) as estimates
        on
            published_figures.question_id = estimates.question_id
            and published_figures.response = estimates.response
            and published_figures.survey_year = estimates.survey_year
    left join revisions
        on
            published_figures.question_id = revisions.question_id
            and published_figures.response = revisions.response
            and published_figures.survey_year = revisions.survey_year
            and published_figures.vintage = revisions.vintage

),

final as (

    select
        question_id,
        question_label,
        response,
        response_label,
        response_position,
        survey_year,
        vintage,
        vintage_status,
        published_pct,
        our_pct,
        difference,
        tolerance,
        coalesce(abs(difference) <= tolerance + cast(1e-9 as double), false) as agrees,
        accepted_reason is not null as accepted,
        accepted_reason,
        data_provenance
    from compared

)

select * from final
