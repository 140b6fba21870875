with

estimates as (

    select * from {{ ref('int_estimates') }}
    where measure = 'share' and breakdown = 'all' and geography_level <> 'trust'

),

waves as (

    select * from {{ ref('int_waves') }}

),

fixed_weights as (

    select * from estimates
    where variance_method = 'fixed_weights'

),

best as (

    select * from estimates
    where scheme <> 'trust_population' or variance_method = 'post_stratified'

),

final as (

    select
        best.survey_year,
        best.question_id,
        best.response,
        best.scheme,
        best.is_published as is_published_scheme,
        best.estimate as pct,
        best.se,
        fixed_weights.se as se_fixed_weights,
        best.design_effect,
        best.base,
        waves.data_provenance
    from best
    inner join fixed_weights
        on
            best.survey_year = fixed_weights.survey_year
            and best.question_id = fixed_weights.question_id
            and best.response = fixed_weights.response
            and best.scheme = fixed_weights.scheme
    inner join waves on best.survey_year = waves.survey_year
    where best.base >= {{ var('minimum_published_base') }}

)

select * from final
