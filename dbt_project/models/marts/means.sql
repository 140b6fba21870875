with

suppression as (

    select * from {{ ref('int_suppression') }}

),

means as (

    select * from {{ ref('int_estimates') }}
    where is_published and measure = 'mean'

),

areas as (

    select * from {{ ref('int_areas') }}

),

categories as (

    select * from {{ ref('int_categories') }}

),

questions as (

    select * from {{ ref('questions') }}
    where is_numeric

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
        {{ released('means.estimate', 2) }} as mean_score,
        {{ released('means.se', 2) }} as se,
        {{ released('means.ci_low', 2) }} as ci_low,
        {{ released('means.ci_high', 2) }} as ci_high,
        case when not suppression.suppressed then suppression.base end as base,
        {{ released('means.effective_base', 0) }} as effective_base,
        {{ released('means.design_effect', 1) }} as design_effect,
        case when not suppression.suppressed then means.no_interval_reason end as no_interval_reason,
        case when not suppression.suppressed then means.interval_caution end as interval_caution,
        not coalesce(comparability.comparable, true) as series_break_before,
        suppression.suppressed,
        {{ suppression_reason('suppression.suppressed') }} as suppression_reason,
        waves.data_provenance
    from suppression
    inner join questions on suppression.question_id = questions.question_id
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
    inner join waves on suppression.survey_year = waves.survey_year
    left join comparability
        on
            suppression.question_id = comparability.question_id
            and suppression.survey_year = comparability.to_year
    left join means
        on
            suppression.survey_year = means.survey_year
            and suppression.geography_level = means.geography_level
            and suppression.geography_code = means.geography_code
            and suppression.breakdown = means.breakdown
            and suppression.category = means.category
            and suppression.question_id = means.question_id

)

select * from final
