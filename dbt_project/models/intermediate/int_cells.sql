with

sampled as (

    select
        survey_year,
        trust,
        cell,
        cast(sum(persons) as bigint) as sampled
    from {{ ref('int_sampled') }}
    group by survey_year, trust, cell

),

responded as (

    select
        survey_year,
        trust,
        cell,
        cast(sum(n) as bigint) as responded
    from {{ ref('int_response_counts') }}
    where question_id is null and person_status is null
    group by survey_year, trust, cell

),

waves as (

    select * from {{ ref('waves') }}

),

genders as (

    select * from {{ ref('genders') }}

),

age_bands as (

    select * from {{ ref('age_bands') }}

),

cells as (

    select
        coalesce(sampled.survey_year, responded.survey_year) as survey_year,
        coalesce(sampled.trust, responded.trust) as trust,
        coalesce(sampled.cell, responded.cell) as cell,
        sampled.sampled,
        coalesce(responded.responded, 0) as responded
    from sampled
    full outer join responded
        on
            sampled.survey_year = responded.survey_year
            and sampled.trust = responded.trust
            and sampled.cell = responded.cell

),

final as (

    select
        cells.survey_year,
        cells.trust,
        cells.cell,
        genders.gender,
        genders.position as gender_position,
        age_bands.position as age_position,
        case when waves.sample_frame <> 'none' then coalesce(cells.sampled, 0) end as sampled,
        cells.responded
    from cells
    inner join waves on cells.survey_year = waves.survey_year
    left join genders on split_part(cells.cell, ':', 1) = genders.gender
    left join age_bands
        on
            cells.survey_year = age_bands.survey_year
            and split_part(cells.cell, ':', 2) = age_bands.age_band
    where coalesce(cells.sampled, 0) > 0 or cells.responded > 0

)

select * from final
