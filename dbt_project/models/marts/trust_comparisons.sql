with

comparisons as (

    select * from {{ ref('int_trust_comparisons') }}

),

suppression as (

    select * from {{ ref('int_suppression') }}
    where geography_level = 'trust'

),

bands as (

    select * from {{ ref('int_trust_bands') }}

),

questions as (

    select * from {{ ref('questions') }}

),

responses as (

    select * from {{ ref('responses') }}

),

areas as (

    select * from {{ ref('int_areas') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

offered as (

    select distinct
        survey_year,
        question_id,
        response
    from {{ ref('response_map') }}
    where treatment = 'answered'

),

final as (

    select
        suppression.survey_year,
        suppression.geography_code as trust,
        areas.geography_name as trust_name,
        suppression.question_id,
        questions.label as question_label,
        offered.response,
        responses.label as response_label,
        responses.position as response_position,
        responses.better_when,
        {{ released('comparisons.pct', 1) }} as pct,
        case when not suppression.suppressed then comparisons.national_pct end as national_pct,
        {{ released('comparisons.difference', 1) }} as difference,
        {{ released('comparisons.se', 1) }} as se,
        {{ released('comparisons.difference - ' ~ normal_quantile() ~ ' * comparisons.se', 1) }} as ci_low,
        {{ released('comparisons.difference + ' ~ normal_quantile() ~ ' * comparisons.se', 1) }} as ci_high,
        case when not suppression.suppressed then suppression.base end as base,
        {{ released('bands.adjusted_z', 1) }} as adjusted_z,
        bands.band,
        suppression.suppressed,
        {{ suppression_reason('suppression.suppressed') }} as suppression_reason,
        waves.data_provenance
    from suppression
    inner join offered
        on
            suppression.survey_year = offered.survey_year
            and suppression.question_id = offered.question_id
    left join comparisons
        on
            suppression.survey_year = comparisons.survey_year
            and suppression.geography_code = comparisons.trust
            and suppression.question_id = comparisons.question_id
            and offered.response = comparisons.response
    left join bands
        on
            suppression.survey_year = bands.survey_year
            and suppression.geography_code = bands.trust
            and suppression.question_id = bands.question_id
            and offered.response = bands.response
    inner join questions on suppression.question_id = questions.question_id
    inner join responses
        on
            offered.question_id = responses.question_id
            and offered.response = responses.response
    inner join areas
        on
            suppression.survey_year = areas.survey_year
            and areas.geography_level = 'trust'
            and suppression.geography_code = areas.geography_code
    inner join waves on suppression.survey_year = waves.survey_year

)

select * from final
