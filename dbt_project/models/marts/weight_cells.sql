with

weight_cells as (

    select * from {{ ref('int_weight_cells') }}
    where sampled is not null

),

waves as (

    select * from {{ ref('int_waves') }}

),

trusts as (

    select * from {{ ref('int_trusts') }}

),

areas as (

    select * from {{ ref('int_areas') }}
    where geography_level = 'trust'

),

genders as (

    select * from {{ ref('genders') }}

),

age_bands as (

    select * from {{ ref('age_bands') }}

),

-- Small cells, and every cell that shares a weight with one, since the weight would give the count away.
small as (

    select
        survey_year,
        trust,
        weight_cell,
        bool_or(
            sampled < {{ var('minimum_published_cell') }} or responded < {{ var('minimum_published_cell') }}
        ) as is_small,
        cast(sum(sampled) as bigint) as sampled,
        cast(sum(responded) as bigint) as responded
    from weight_cells
    group by survey_year, trust, weight_cell

),

-- What a trust's published totals leave to its hidden cells together is no small number either: the next smallest
-- cells are hidden with them until there are two and both their counts are large enough.
ordered as (

    select
        survey_year,
        trust,
        weight_cell,
        is_small,
        bool_or(is_small) over (partition by survey_year, trust) as trust_has_small,
        count(*) over before as hidden_before,
        coalesce(sum(sampled) over before, 0) as sampled_before,
        coalesce(sum(responded) over before, 0) as responded_before
    from small
    window before as (
        partition by survey_year, trust
        order by is_small desc nulls last, responded asc nulls last, sampled asc nulls last, weight_cell asc nulls last
        rows between unbounded preceding and 1 preceding
    )

),

hide as (

    select
        survey_year,
        trust,
        weight_cell,
        is_small or (
            trust_has_small
            and (
                hidden_before < 2
                or sampled_before < {{ var('minimum_published_cell') }}
                or responded_before < {{ var('minimum_published_cell') }}
            )
        ) as hidden_cell
    from ordered

),

-- Exact counts give exact weights, and a share is a sum of weights: where one person of a trust chose a response, it
-- would tell the person's cell.
rounded as (

    select
        survey_year,
        trust,
        cell,
        cast(round(sampled / cast(10 as double)) * 10 as bigint) as sampled,
        cast(round(responded / cast(10 as double)) * 10 as bigint) as responded
    from weight_cells

),

final as (

    select
        weight_cells.survey_year,
        weight_cells.trust,
        areas.geography_name as trust_name,
        weight_cells.cell,
        coalesce(genders.label || ', ' || age_bands.label, 'Unknown') as cell_label,
        case
            when not hide.hidden_cell and weight_cells.weight_cell <> weight_cells.cell then weight_cells.weight_cell
        end as merged_into,
        case when not hide.hidden_cell then rounded.sampled end as sampled,
        case when not hide.hidden_cell then rounded.responded end as responded,
        -- Made of the rounded counts and of totals that are published: it tells nothing else.
        case
            when hide.hidden_cell then null
            when waves.weighting_scheme = 'trust' or weight_cells.cell = 'unknown'
                then round(weight_cells.trust_weight, 1)
            when waves.weighting_scheme = 'trust_population'
                then
                    round(
                        weight_cells.trust_weight * rounded.sampled / nullif(rounded.responded, 0)
                        * trusts.responded / nullif(trusts.sampled, 0),
                        1
                    )
        end as weight,
        hide.hidden_cell as suppressed,
        waves.data_provenance
    from weight_cells
    inner join waves on weight_cells.survey_year = waves.survey_year
    inner join trusts
        on
            weight_cells.survey_year = trusts.survey_year
            and weight_cells.trust = trusts.trust
    inner join areas
        on
            weight_cells.survey_year = areas.survey_year
            and weight_cells.trust = areas.geography_code
    left join genders on split_part(weight_cells.cell, ':', 1) = genders.gender
    left join age_bands
        on
            weight_cells.survey_year = age_bands.survey_year
            and split_part(weight_cells.cell, ':', 2) = age_bands.age_band
    inner join rounded
        on
            weight_cells.survey_year = rounded.survey_year
            and weight_cells.trust = rounded.trust
            and weight_cells.cell = rounded.cell
    inner join hide
        on
            weight_cells.survey_year = hide.survey_year
            and weight_cells.trust = hide.trust
            and weight_cells.weight_cell = hide.weight_cell

)

select * from final
