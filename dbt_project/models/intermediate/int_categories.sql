with

respondents as (

    select * from {{ ref('int_response_counts') }}
    where question_id is null and person_status is null

),

present as (

    select distinct
        survey_year,
        'age_band' as breakdown,
        age_band as category
    from respondents

    union all

    select distinct
        survey_year,
        'gender' as breakdown,
        gender as category
    from respondents

    union all

    select distinct
        survey_year,
        'all' as breakdown,
        'all' as category
    from respondents

),

final as (

    select
        present.survey_year,
        present.breakdown,
        present.category,
        coalesce(
            age_bands.label,
            genders.label,
            case present.category when 'all' then 'All' when 'unknown' then 'Unknown' end
        ) as category_label,
        coalesce(age_bands.position, genders.position, 0) as category_position
    from present
    left join {{ ref('age_bands') }} as age_bands
        on
            present.breakdown = 'age_band'
            and present.survey_year = age_bands.survey_year
            and present.category = age_bands.age_band
    left join {{ ref('genders') }} as genders
        on
            present.breakdown = 'gender'
            and present.category = genders.gender

)

select * from final
