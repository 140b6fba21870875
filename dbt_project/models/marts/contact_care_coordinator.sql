with

estimates as (

    select * from {{ ref('estimates') }}
    where breakdown = 'all'

),

questions as (

    select * from {{ ref('questions') }}
    where indicator = 'contact_care_coordinator'

),

geographies as (

    select * from {{ ref('geographies') }}

),

comparability as (

    select * from {{ ref('comparability') }}

),

final as (

    select
        estimates.survey_year,
        estimates.question_label,
        estimates.pct,
        estimates.se,
        estimates.ci_low,
        estimates.ci_high,
        estimates.base,
        not coalesce(comparability.comparable, true) as series_break_before,
        estimates.suppressed,
        estimates.suppression_reason,
        estimates.data_provenance,
        estimates.question_id,
        estimates.response
    from estimates
    inner join questions
        on
            estimates.question_id = questions.question_id
            and estimates.response = questions.indicator_response
    inner join geographies
        on
            estimates.geography_level = geographies.geography_level
            and estimates.geography_code = geographies.geography_code
    left join comparability
        on
            estimates.question_id = comparability.question_id
            and estimates.survey_year = comparability.to_year

)

select * from final
