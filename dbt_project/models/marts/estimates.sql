with

suppression as (

    select * from {{ ref('int_suppression') }}

),

estimates as (

    select * from {{ ref('int_estimates') }}
    where is_published and measure = 'share'

),

offered as (

    select distinct
        survey_year,
        question_id,
        response
    from {{ ref('response_map') }}
    where treatment = 'answered'

),

areas as (

    select * from {{ ref('int_areas') }}

),

categories as (

    select * from {{ ref('int_categories') }}

),

questions as (

    select * from {{ ref('questions') }}

),

responses as (

    select * from {{ ref('responses') }}

),

comparability as (

    select * from {{ ref('comparability') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

final as (

    select
        suppression.survey_year,
        suppression.geography_level,
        suppression.geography_code,
        areas.geography_name,
        suppression.breakdown,
        suppression.category,
        categories.category_label,
        categories.category_position,
        suppression.question_id,
        questions.label as question_label,
        offered.response,
        responses.label as response_label,
        responses.position as response_position,
        {{ released('estimates.estimate', 1) }} as pct,
        {{ released('estimates.se', 1) }} as se,
        {{ released('estimates.ci_low', 1) }} as ci_low,
        {{ released('estimates.ci_high', 1) }} as ci_high,
        case when not suppression.suppressed then suppression.base end as base,
        {{ released('estimates.effective_base', 0) }} as effective_base,
        {{ released('estimates.design_effect', 1) }} as design_effect,
        case when not suppression.suppressed then estimates.no_interval_reason end as no_interval_reason,
        case when not suppression.suppressed then estimates.interval_caution end as interval_caution,
        not coalesce(comparability.comparable, true) as series_break_before,
        suppression.suppressed,
        {{ suppression_reason('suppression.suppressed') }} as suppression_reason,
        waves.data_provenance
    from suppression
    inner join offered
        on
            suppression.survey_year = offered.survey_year
            and suppression.question_id = offered.question_id
    inner join areas
        on
            suppression.survey_year = areas.survey_year
            and suppression.geography_level = areas.geography_level
            and suppression.geography_code = areas.geography_code
    inner join categories
        on
            suppression.survey_year = categories.survey_year
            and suppression.breakdown = categories.breakdown
            and suppression.category = categories.category
    inner join questions on suppression.question_id = questions.question_id
    inner join responses
        on
            offered.question_id = responses.question_id
            and offered.response = responses.response
    inner join waves on suppression.survey_year = waves.survey_year
    left join comparability
        on
            suppression.question_id = comparability.question_id
            and suppression.survey_year = comparability.to_year
    left join estimates
        on
            suppression.survey_year = estimates.survey_year
            and suppression.geography_level = estimates.geography_level
            and suppression.geography_code = estimates.geography_code
            and suppression.breakdown = estimates.breakdown
            and suppression.category = estimates.category
            and suppression.question_id = estimates.question_id
            and offered.response = estimates.response

)

select * from final
