with

weight_cells as (

    select * from {{ ref('int_weight_cells') }}
    where sampled is not null

),

waves as (

    select * from {{ ref('int_waves') }}

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

final as (

    select
        weight_cells.survey_year,
        weight_cells.trust,
        weight_cells.cell,
        case
            when not hide.hidden_cell and weight_cells.weight_cell <> weight_cells.cell then weight_cells.weight_cell
        end as merged_into,
        case when not hide.hidden_cell then weight_cells.sampled end as sampled,
        case when not hide.hidden_cell then weight_cells.responded end as responded,
        -- An exact weight would tell how many persons of the trust are in the hidden cells.
        case
            when not hide.hidden_cell and waves.weighting_scheme = 'trust_population'
                then round(weight_cells.trust_weight * weight_cells.population_weight, 1)
            when not hide.hidden_cell and waves.weighting_scheme = 'trust' then round(weight_cells.trust_weight, 1)
        end as weight,
        hide.hidden_cell as suppressed,
        waves.data_provenance
    from weight_cells
    inner join waves on weight_cells.survey_year = waves.survey_year
    inner join hide
        on
            weight_cells.survey_year = hide.survey_year
            and weight_cells.trust = hide.trust
            and weight_cells.weight_cell = hide.weight_cell

)

select * from final
