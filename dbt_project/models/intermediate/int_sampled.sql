with

waves as (

    select * from {{ ref('waves') }}

),

counts as (

    select * from {{ ref('int_response_counts') }}
    where question_id is null

),

sampled as (

    select * from {{ ref('stg_sampled') }}

),

in_file as (

    select
        counts.survey_year,
        counts.trust,
        counts.cell,
        counts.outcome,
        counts.n as persons
    from counts
    inner join waves on counts.survey_year = waves.survey_year
    where
        waves.sample_frame = 'in_file'
        and coalesce(counts.person_status, 'counted') <> 'duplicate'
        and counts.cell <> 'under_minimum'

),

apart as (

    select
        survey_year,
        trust,
        {{ cell('frame_gender', 'frame_age_band') }} as cell,
        outcome,
        persons
    from sampled
    where coalesce(frame_age_band, 'unknown') <> 'under_minimum'

),

united as (

    select * from in_file
    union all
    select * from apart

),

final as (

    select
        survey_year,
        trust,
        cell,
        outcome,
        cast(sum(persons) as bigint) as persons
    from united
    group by survey_year, trust, cell, outcome

)

select * from final
