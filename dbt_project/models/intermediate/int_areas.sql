with

-- A name that one row alone gives may be what that person wrote.
names as (

    select
        survey_year,
        trust,
        case when count(trust_name) > 1 then max(trust_name) end as trust_name
    from {{ ref('stg_responses') }}
    group by survey_year, trust

),

-- Files without names leave the newest one that another wave gives.
newest_names as (

    select
        trust,
        max_by(trust_name, survey_year) as trust_name
    from names
    where trust_name is not null
    group by trust

),

sampled as (

    select
        survey_year,
        trust
    from {{ ref('int_sampled') }}
    union
    select
        survey_year,
        trust
    from {{ ref('int_trusts') }}

),

final as (

    select
        waves.survey_year,
        geographies.geography_level,
        geographies.geography_code,
        geographies.geography_name
    from {{ ref('waves') }} as waves
    cross join {{ ref('geographies') }} as geographies

    union all

    select
        sampled.survey_year,
        'trust' as geography_level,
        sampled.trust as geography_code,
        coalesce(names.trust_name, newest_names.trust_name, sampled.trust) as geography_name
    from sampled
    left join names
        on
            sampled.survey_year = names.survey_year
            and sampled.trust = names.trust
    left join newest_names on sampled.trust = newest_names.trust

)

select * from final
