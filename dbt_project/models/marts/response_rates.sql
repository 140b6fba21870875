with

sampled as (

    select * from {{ ref('int_sampled') }}

),

trusts as (

    select * from {{ ref('int_trusts') }}

),

areas as (

    select * from {{ ref('int_areas') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

geographies as (

    select * from {{ ref('geographies') }}

),

outcomes as (

    select
        survey_year,
        trust,
        cast(sum(persons) as bigint) as sampled,
        cast(coalesce(sum(persons) filter (where outcome = 'undelivered'), 0) as bigint) as undeliverable,
        cast(coalesce(sum(persons) filter (where outcome = 'died'), 0) as bigint) as died,
        cast(coalesce(sum(persons) filter (where outcome = 'not_eligible'), 0) as bigint) as not_eligible,
        bool_or(outcome is not null) as has_outcomes
    from sampled
    group by survey_year, trust

),

by_trust as (

    select
        outcomes.survey_year,
        'trust' as geography_level,
        outcomes.trust as geography_code,
        areas.geography_name,
        outcomes.sampled,
        outcomes.undeliverable,
        outcomes.died,
        outcomes.not_eligible,
        outcomes.has_outcomes,
        coalesce(trusts.responded, 0) as responded
    from outcomes
    left join trusts
        on
            outcomes.survey_year = trusts.survey_year
            and outcomes.trust = trusts.trust
    inner join areas
        on
            outcomes.survey_year = areas.survey_year
            and areas.geography_level = 'trust'
            and outcomes.trust = areas.geography_code

),

national as (

    select
        by_trust.survey_year,
        geographies.geography_level,
        geographies.geography_code,
        geographies.geography_name,
        cast(sum(by_trust.sampled) as bigint) as sampled,
        cast(sum(by_trust.undeliverable) as bigint) as undeliverable,
        cast(sum(by_trust.died) as bigint) as died,
        cast(sum(by_trust.not_eligible) as bigint) as not_eligible,
        bool_and(by_trust.has_outcomes) as has_outcomes,
        cast(sum(by_trust.responded) as bigint) as responded
    from by_trust
    cross join geographies
    group by
        by_trust.survey_year,
        geographies.geography_level,
        geographies.geography_code,
        geographies.geography_name

),

united as (

    select
        *,
        false as is_trust
    from national
    union all
    select
        *,
        true as is_trust
    from by_trust

),

final as (

    select
        united.survey_year,
        united.geography_level,
        united.geography_code,
        united.geography_name,
        united.sampled,
        -- Few persons of a trust have these outcomes; its rates are rounded so that they do not tell how many.
        case when united.has_outcomes and not united.is_trust then united.undeliverable end as undeliverable,
        case when united.has_outcomes and not united.is_trust then united.not_eligible end as not_eligible,
        united.responded,
        case
            when united.is_trust then round(cast(100 as double) * united.responded / nullif(united.sampled, 0), 1)
            else cast(100 as double) * united.responded / nullif(united.sampled, 0)
        end as response_rate,
        case
            when not united.has_outcomes then null
            when united.is_trust
                then
                    round(
                        cast(100 as double) * united.responded
                        / nullif(united.sampled - united.undeliverable - united.died - united.not_eligible, 0),
                        1
                    )
            else
                cast(100 as double) * united.responded
                / nullif(united.sampled - united.undeliverable - united.died - united.not_eligible, 0)
        end as adjusted_response_rate,
        waves.data_provenance
    from united
    inner join waves on united.survey_year = waves.survey_year

)

select * from final
