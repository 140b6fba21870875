with

weight_cells as (

    select distinct
        survey_year,
        trust,
        weight_cell,
        trust_weight,
        population_weight
    from {{ ref('int_weight_cells') }}

),

final as (

    select
        survey_year,
        trust,
        weight_cell,
        'none' as scheme,
        cast(1 as double) as weight
    from weight_cells

    union all

    select
        survey_year,
        trust,
        weight_cell,
        'trust' as scheme,
        trust_weight as weight
    from weight_cells

    union all

    select
        survey_year,
        trust,
        weight_cell,
        'trust_population' as scheme,
        trust_weight * population_weight as weight
    from weight_cells
    where population_weight is not null

)

select * from final
