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
        cast(sum(responded) as bigint) as responded
    from weight_cells
    group by survey_year, trust, weight_cell

),

-- Where a trust would have a single hidden cell, its published totals would give that cell away.
ordered as (

    select
        small.*,
        row_number() over (
            partition by small.survey_year, small.trust
            order by small.is_small desc nulls last, small.responded asc nulls last, small.weight_cell asc nulls last
        ) as place,
        sum(case when small.is_small then 1 else 0 end) over (partition by small.survey_year, small.trust) as hidden
    from small

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
    inner join (
        select
            survey_year,
            trust,
            weight_cell,
            is_small or (hidden = 1 and place = 2) as hidden_cell
        from ordered
    ) as hide
        on
            weight_cells.survey_year = hide.survey_year
            and weight_cells.trust = hide.trust
            and weight_cells.weight_cell = hide.weight_cell

)

select * from final
