with

cells as (

    select * from {{ ref('int_cells') }}

),

cell_merges as (

    select * from {{ ref('int_cell_merges') }}

),

trusts as (

    select * from {{ ref('int_trusts') }}

),

grouped as (

    select
        cells.survey_year,
        cells.trust,
        cells.cell,
        cells.sampled,
        cells.responded,
        coalesce(cell_merges.weight_cell, cells.cell) as weight_cell
    from cells
    left join cell_merges
        on
            cells.survey_year = cell_merges.survey_year
            and cells.trust = cell_merges.trust
            and cells.cell = cell_merges.cell

),

weight_cells as (

    select
        survey_year,
        trust,
        weight_cell,
        cast(sum(sampled) as double) as cell_sampled,
        cast(sum(responded) as double) as cell_responded
    from grouped
    group by survey_year, trust, weight_cell

),

final as (

    select
        grouped.survey_year,
        grouped.trust,
        trusts.stratum,
        grouped.cell,
        grouped.weight_cell,
        grouped.sampled,
        grouped.responded,
        cast(trusts.wave_responded as double) / trusts.wave_trusts / nullif(trusts.responded, 0) as trust_weight,
        case
            when grouped.sampled is null then null
            when grouped.weight_cell = 'unknown' then cast(1 as double)
            else
                weight_cells.cell_sampled * trusts.known_responded
                / nullif(trusts.known_sampled * weight_cells.cell_responded, 0)
        end as population_weight
    from grouped
    inner join trusts
        on
            grouped.survey_year = trusts.survey_year
            and grouped.trust = trusts.trust
    inner join weight_cells
        on
            grouped.survey_year = weight_cells.survey_year
            and grouped.trust = weight_cells.trust
            and grouped.weight_cell = weight_cells.weight_cell

)

select * from final
