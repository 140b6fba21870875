with

question_map as (

    select * from {{ ref('question_map') }}

),

questions as (

    select * from {{ ref('questions') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

comparability as (

    select * from {{ ref('comparability') }}

),

filters as (

    select
        routing.survey_year,
        routing.question_id,
        min(filter_map.raw_column) as first_filter,
        max(filter_map.raw_column) as last_filter,
        min_by(filter_questions.label, filter_map.raw_column) as first_label,
        max_by(filter_questions.label, filter_map.raw_column) as last_label
    from {{ ref('routing') }} as routing
    inner join question_map as filter_map
        on
            routing.survey_year = filter_map.survey_year
            and routing.filter_question_id = filter_map.question_id
    inner join questions as filter_questions on routing.filter_question_id = filter_questions.question_id
    group by routing.survey_year, routing.question_id

),

final as (

    select
        question_map.survey_year,
        question_map.question_id,
        questions.label as question_label,
        question_map.raw_column,
        question_map.wording,
        question_map.wording_version,
        case
            when filters.first_filter <> filters.last_filter
                then filters.first_filter || ' and ' || filters.last_filter
            else filters.first_filter
        end as filter,
        case
            when filters.first_filter <> filters.last_filter
                then filters.first_label || ' and ' || filters.last_label
            else filters.first_label
        end as filter_label,
        case
            when comparability.comparable is null then 'no earlier wave'
            when comparability.comparable then 'comparable with the wave before'
            else 'break in the series before this wave'
        end as comparability,
        comparability.note as comparability_note,
        waves.data_provenance
    from question_map
    inner join questions on question_map.question_id = questions.question_id
    inner join waves on question_map.survey_year = waves.survey_year
    left join filters
        on
            question_map.survey_year = filters.survey_year
            and question_map.question_id = filters.question_id
    left join comparability
        on
            question_map.question_id = comparability.question_id
            and question_map.survey_year = comparability.to_year

)

select * from final
