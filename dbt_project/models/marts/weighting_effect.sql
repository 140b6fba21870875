with

estimates as (

    select * from {{ ref('int_estimates') }}
    where measure = 'share' and breakdown = 'all' and geography_level <> 'trust'

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
        questions.label as question_label,
        best.response,
        responses.label as response_label,
        responses.position as response_position,
        best.scheme,
        {{ scheme_label('best.scheme') }} as scheme_label,
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
    inner join questions on best.question_id = questions.question_id
    inner join responses
        on
            best.question_id = responses.question_id
            and best.response = responses.response
    where best.base >= {{ var('minimum_published_base') }}

)

select * from final
