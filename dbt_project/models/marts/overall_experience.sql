with

estimates as (

    select * from {{ ref('estimates') }}
    where breakdown = 'all'

),

questions as (

    select * from {{ ref('questions') }}
    where indicator = 'overall_experience'

),

question_map as (

    select * from {{ ref('question_map') }}

),

comparability as (

    select * from {{ ref('comparability') }}

),

geographies as (

    select * from {{ ref('geographies') }}

),

final as (

    select
        estimates.survey_year,
        estimates.question_label,
        question_map.wording,
        cast(estimates.response as integer) as score,
        estimates.response_label,
        estimates.pct,
        estimates.se,
        estimates.ci_low,
        estimates.ci_high,
        estimates.base,
        estimates.series_break_before,
        comparability.note as comparability_note,
        estimates.suppressed,
        estimates.suppression_reason,
        estimates.data_provenance,
        estimates.question_id,
        estimates.response,
        estimates.response_position
    from estimates
    inner join questions on estimates.question_id = questions.question_id
    inner join geographies
        on
            estimates.geography_level = geographies.geography_level
            and estimates.geography_code = geographies.geography_code
    inner join question_map
        on
            estimates.survey_year = question_map.survey_year
            and estimates.question_id = question_map.question_id
    left join comparability
        on
            estimates.question_id = comparability.question_id
            and estimates.survey_year = comparability.to_year

)

select * from final
