with

cube as (

    select * from {{ ref('int_cube') }}
    where status = 'answered'

),

weights as (

    select * from {{ ref('int_weights') }}

),

waves as (

    select * from {{ ref('waves') }}

),

-- Sums of exact decimals do not depend on the order in which threads deliver them; sums of doubles do.
weighted as (

    select
        cube.survey_year,
        cube.question_id,
        cube.response,
        weights.scheme,
        cast(sum(cast(cube.n * weights.weight as decimal(38, 18))) as double) as weight,
        cast(sum(cube.n) as bigint) as n
    from cube
    inner join weights
        on
            cube.survey_year = weights.survey_year
            and cube.trust = weights.trust
            and cube.weight_cell = weights.weight_cell
    group by cube.survey_year, cube.question_id, cube.response, weights.scheme

    union all

    select
        cube.survey_year,
        cube.question_id,
        cube.response,
        'supplied' as scheme,
        cast(sum(cube.weight_sum) as double) as weight,
        cast(sum(cube.n) as bigint) as n
    from cube
    inner join waves on cube.survey_year = waves.survey_year
    where waves.weighting_scheme = 'supplied'
    group by cube.survey_year, cube.question_id, cube.response

),

-- Every response that the wave's questionnaire offers has a row, also where nobody chose it.
offered as (

    select distinct
        survey_year,
        question_id,
        response
    from {{ ref('response_map') }}
    where treatment = 'answered'

),

schemes as (

    select distinct
        survey_year,
        question_id,
        scheme
    from weighted

),

dense as (

    select
        offered.survey_year,
        offered.question_id,
        offered.response,
        schemes.scheme,
        coalesce(weighted.weight, 0) as weight,
        coalesce(weighted.n, 0) as n
    from offered
    inner join schemes
        on
            offered.survey_year = schemes.survey_year
            and offered.question_id = schemes.question_id
    left join weighted
        on
            offered.survey_year = weighted.survey_year
            and offered.question_id = weighted.question_id
            and offered.response = weighted.response
            and schemes.scheme = weighted.scheme

),

final as (

    select
        survey_year,
        question_id,
        response,
        scheme,
        100 * weight / nullif(
            cast(
                sum(cast(weight as decimal(38, 18))) over (partition by survey_year, question_id, scheme) as double
            ),
            0
        ) as pct,
        cast(sum(n) over (partition by survey_year, question_id, scheme) as bigint) as base
    from dense

)

select * from final
