with

cells as (

    select * from {{ ref('int_cells') }}

),

merged_strata as (

    select * from {{ ref('merged_strata') }}

),

trusts as (

    select
        survey_year,
        trust,
        cast(sum(sampled) as bigint) as sampled,
        cast(sum(responded) as bigint) as responded,
        cast(sum(sampled) filter (where cell <> 'unknown') as bigint) as known_sampled,
        cast(sum(responded) filter (where cell <> 'unknown') as bigint) as known_responded
    from cells
    group by survey_year, trust

),

final as (

    select
        trusts.survey_year,
        trusts.trust,
        coalesce(merged_strata.stratum, trusts.trust) as stratum,
        trusts.sampled,
        trusts.responded,
        trusts.known_sampled,
        trusts.known_responded,
        cast(sum(trusts.responded) over (partition by trusts.survey_year) as bigint) as wave_responded,
        count(*) over (partition by trusts.survey_year) as wave_trusts
    from trusts
    left join merged_strata
        on
            trusts.survey_year = merged_strata.survey_year
            and trusts.trust = merged_strata.trust

)

select * from final
