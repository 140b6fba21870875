with recursive

steps as (

    select * from {{ ref('comparability') }}

),

waves as (

    select * from {{ ref('waves') }}

),

question_map as (

    select * from {{ ref('question_map') }}

),

-- From each wave on, step by step to every later one: comparable as long as every step is.
walk as (

    select
        question_id,
        from_year,
        to_year,
        comparable,
        note,
        note as last_note,
        true as is_one_step
    from steps

    union all

    select
        walk.question_id,
        walk.from_year,
        steps.to_year,
        walk.comparable and steps.comparable as comparable,
        case when steps.note = walk.last_note then walk.note else walk.note || '; then ' || steps.note end as note,
        steps.note as last_note,
        false as is_one_step
    from walk
    inner join steps
        on
            walk.question_id = steps.question_id
            and walk.to_year = steps.from_year

),

asked as (

    select
        question_map.question_id,
        min(question_map.survey_year) as first_year,
        max(question_map.survey_year) as last_year
    from question_map
    group by question_map.question_id

),

asked_in_block as (

    select
        question_map.question_id,
        waves.comparable_block,
        min(question_map.survey_year) as first_year,
        max(question_map.survey_year) as last_year
    from question_map
    inner join waves on question_map.survey_year = waves.survey_year
    group by question_map.question_id, waves.comparable_block

),

final as (

    select
        walk.question_id,
        walk.from_year,
        walk.to_year,
        case
            when walk.is_one_step then 'wave_to_wave'
            when asked_in_block.question_id is not null then 'comparable_block'
            else 'first_to_last'
        end as span,
        from_waves.comparable_block <> to_waves.comparable_block as changes_instrument,
        walk.comparable,
        walk.note as comparability_note
    from walk
    inner join waves as from_waves on walk.from_year = from_waves.survey_year
    inner join waves as to_waves on walk.to_year = to_waves.survey_year
    left join asked
        on
            walk.question_id = asked.question_id
            and walk.from_year = asked.first_year
            and walk.to_year = asked.last_year
    left join asked_in_block
        on
            walk.question_id = asked_in_block.question_id
            and walk.from_year = asked_in_block.first_year
            and walk.to_year = asked_in_block.last_year
    where walk.is_one_step or asked.question_id is not null or asked_in_block.question_id is not null

)

select * from final
