with

estimates as (

    select * from {{ ref('int_estimates') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

final as (

    select
        estimates.survey_year,
        estimates.question_id,
        estimates.response,
        estimates.scheme,
        estimates.scheme = waves.weighting_scheme as is_published_scheme,
        estimates.pct,
        cast(null as double) as se,
        estimates.base,
        waves.data_provenance
    from estimates
    inner join waves on estimates.survey_year = waves.survey_year
    where estimates.base >= {{ var('minimum_published_base') }}

)

select * from final
