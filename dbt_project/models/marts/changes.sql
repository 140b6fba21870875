with

changes as (

    select * from {{ ref('int_changes') }}

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

final as (

    select
        changes.question_id,
        questions.label as question_label,
        changes.response,
        responses.label as response_label,
        responses.position as response_position,
        changes.geography_level,
        changes.geography_code,
        areas.geography_name,
        changes.from_year,
        changes.to_year,
        changes.span,
        {{ released('changes.change', 1, 'changes') }} as change,
        {{ released('changes.se', 1, 'changes') }} as se,
        {{ released('changes.ci_low', 1, 'changes') }} as ci_low,
        {{ released('changes.ci_high', 1, 'changes') }} as ci_high,
        {{ released('changes.p_value', 3, 'changes') }} as p_value,
        {{ released('changes.p_adjusted', 3, 'changes') }} as p_adjusted,
        changes.comparable,
        changes.comparability_note,
        case
            when not changes.suppressed
                then
                    changes.comparable
                    and coalesce(
                        case
                            when changes.geography_level = 'trust' then changes.p_adjusted else changes.p_value
                        end < cast(0.05 as double),
                        false
                    )
        end as significant,
        changes.suppressed,
        {{ suppression_reason('changes.suppressed') }} as suppression_reason,
        waves.data_provenance
    from changes
    inner join questions on changes.question_id = questions.question_id
    inner join responses
        on
            changes.question_id = responses.question_id
            and changes.response = responses.response
    inner join areas
        on
            changes.to_year = areas.survey_year
            and changes.geography_level = areas.geography_level
            and changes.geography_code = areas.geography_code
    inner join waves on changes.to_year = waves.survey_year

)

select * from final
