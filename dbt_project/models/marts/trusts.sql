with

trusts as (

    select
        survey_year,
        geography_code as trust,
        geography_name as trust_name,
        min(survey_year) over (partition by geography_code) as first_year,
        max(survey_year) over (partition by geography_code) as last_year
    from {{ ref('int_areas') }}
    where geography_level = 'trust'

),

formed as (

    select
        trust,
        survey_year,
        count(*) as predecessors,
        min(note) as note
    from {{ ref('trust_mergers') }}
    group by trust, survey_year

),

-- The next merger of a trust into another code, seen from each wave.
continued as (

    select
        trusts.survey_year as seen_from,
        trust_mergers.predecessor,
        min(trust_mergers.survey_year) as survey_year,
        min_by(trust_mergers.trust, trust_mergers.survey_year) as trust
    from trusts
    inner join {{ ref('trust_mergers') }} as trust_mergers
        on
            trusts.trust = trust_mergers.predecessor
            and trust_mergers.predecessor <> trust_mergers.trust
            and trusts.survey_year < trust_mergers.survey_year
    group by trusts.survey_year, trust_mergers.predecessor

),

waves as (

    select
        *,
        lag(survey_year) over (order by survey_year asc nulls last) as year_before
    from {{ ref('int_waves') }}

),

final as (

    select
        trusts.survey_year,
        trusts.trust,
        trusts.trust_name,
        cast(trusts.first_year as integer) as first_year,
        cast(trusts.last_year as integer) as last_year,
        formed.trust is not null as formed_by_merger,
        formed.note as merger_note,
        continued.trust as continues_as,
        successors.trust_name as continues_as_name,
        continued.survey_year as continues_from,
        before.trust is not null and formed.trust is null as comparable_with_wave_before,
        waves.data_provenance
    from trusts
    inner join waves on trusts.survey_year = waves.survey_year
    left join trusts as before
        on
            waves.year_before = before.survey_year
            and trusts.trust = before.trust
    left join formed
        on
            trusts.survey_year = formed.survey_year
            and trusts.trust = formed.trust
    left join continued
        on
            trusts.trust = continued.predecessor
            and trusts.survey_year = continued.seen_from
    left join trusts as successors
        on
            continued.trust = successors.trust
            and continued.survey_year = successors.survey_year

)

select * from final
