with

estimates as (

    select * from {{ ref('int_estimates') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

questions as (

    select * from {{ ref('questions') }}

),

responses as (

    select * from {{ ref('responses') }}

),

geographies as (

    select * from {{ ref('geographies') }}

),

published_scheme as (

    select
        estimates.*,
        waves.data_provenance,
        estimates.base < {{ var('minimum_published_base') }} as suppressed
    from estimates
    inner join waves
        on
            estimates.survey_year = waves.survey_year
            and estimates.scheme = waves.weighting_scheme

),

final as (

    select
        published_scheme.survey_year,
        geographies.geography_level,
        geographies.geography_code,
        geographies.geography_name,
        'all' as breakdown,
        'all' as category,
        published_scheme.question_id,
        questions.label as question_label,
        published_scheme.response,
        responses.label as response_label,
        case when not published_scheme.suppressed then published_scheme.pct end as pct,
        cast(null as double) as se,
        cast(null as double) as ci_low,
        cast(null as double) as ci_high,
        case when not published_scheme.suppressed then published_scheme.base end as base,
        cast(null as double) as effective_base,
        cast(null as double) as design_effect,
        published_scheme.suppressed,
        case
            when published_scheme.suppressed then 'base below {{ var('minimum_published_base') }}'
        end as suppression_reason,
        published_scheme.data_provenance
    from published_scheme
    inner join questions on published_scheme.question_id = questions.question_id
    inner join responses
        on
            published_scheme.question_id = responses.question_id
            and published_scheme.response = responses.response
    cross join geographies

)

select * from final
