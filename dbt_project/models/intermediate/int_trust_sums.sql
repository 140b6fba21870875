{#-
    What shares, means and their variances need to know of a trust. y is what is measured of a person: 1 for whoever
    chose the response (share), the score (mean), 1 for every valid answer (base); 0 for all others of the trust.
-#}
-- depends_on: {{ ref('waves') }}
{%- set supplied = crosswalk_rows("select 1 as one from " ~ ref('waves') ~ " where weighting_scheme = 'supplied'") %}
{%- set terms = {
    'combined_y': 'weight * y',
    'fixed_yd': 'squared_weight * y',
    'stratified_yy': 'squared_weight * deviations_yy',
    'stratified_yd': 'squared_weight * deviations_yd',
} %}
{%- set squares = {
    'y_squared': 'y_squared',
    'combined_y_squared': 'weight * y_squared',
    'fixed_yy': 'squared_weight * y_squared',
} %}
{%- set schemes = [
    ('none', 'fixed_weights', ['y', 'coalesce(y_squared, y)', 'coalesce(y_squared, y)', 'y']),
    ('trust', 'fixed_weights', [
        'trust_weight * y',
        'trust_weight * coalesce(y_squared, y)',
        'trust_weight * trust_weight * coalesce(y_squared, y)',
        'trust_weight * trust_weight * y',
    ]),
    ('trust_population', 'fixed_weights', [
        'combined_y', 'coalesce(combined_y_squared, combined_y)', 'coalesce(fixed_yy, fixed_yd)', 'fixed_yd',
    ]),
    ('trust_population', 'post_stratified', [
        'combined_y', 'coalesce(combined_y_squared, combined_y)', 'stratified_yy', 'stratified_yd',
    ]),
] %}
{%- if supplied %}
    {%- do terms.update({'supplied_y': 'supplied_y', 'supplied_yd': 'supplied_yd'}) %}
    {%- do squares.update({'supplied_y_squared': 'supplied_y_squared', 'supplied_yy': 'supplied_yy'}) %}
    {%- do schemes.append(('supplied', 'fixed_weights', [
        'supplied_y', 'coalesce(supplied_y_squared, supplied_y)', 'coalesce(supplied_yy, supplied_yd)', 'supplied_yd',
    ])) %}
{%- endif %}
with

waves as (

    select
        survey_year,
        weighting_scheme
    from {{ ref('waves') }}

),

cells as (

    select
        survey_year,
        trust,
        weight_cell,
        max(trust_weight) as trust_weight,
        max(trust_weight * population_weight) as weight,
        cast(sum(responded) as double) as responded,
        dense_rank() over (order by survey_year asc nulls last, trust asc nulls last) as trust_number,
        row_number() over (
            order by survey_year asc nulls last, trust asc nulls last, weight_cell asc nulls last
        ) as cell_number
    from {{ ref('int_weight_cells') }}
    group by survey_year, trust, weight_cell

),

responses as (

    select
        responses.question_id,
        responses.response,
        case when questions.is_numeric then {{ as_number('responses.response') }} end as score,
        dense_rank() over (order by responses.question_id asc nulls last) as question_number,
        row_number() over (
            order by responses.question_id asc nulls last, responses.response asc nulls last
        ) as response_number
    from {{ ref('responses') }} as responses
    inner join {{ ref('questions') }} as questions on responses.question_id = questions.question_id

),

categories as (

    select
        breakdown,
        category,
        row_number() over (order by breakdown asc nulls last, category asc nulls last) as category_number
    from {{ ref('int_categories') }}
    group by breakdown, category

),

-- While rows are many they carry numbers instead of names: these group and join several times faster.
numbered as (

    select
        cast(cells.cell_number as integer) as cell_number,
        cast(responses.question_number as integer) as question_number,
        cast(responses.response_number as integer) as response_number,
        cast(age_bands.category_number as integer) as age_band_number,
        cast(genders.category_number as integer) as gender_number,
        cube.n,
        cube.weight_sum,
        cube.weight_square_sum
    from {{ ref('int_cube') }} as cube
    inner join cells
        on
            cube.survey_year = cells.survey_year
            and cube.trust = cells.trust
            and cube.weight_cell = cells.weight_cell
    inner join responses
        on
            cube.question_id = responses.question_id
            and cube.response = responses.response
    inner join categories as age_bands on cube.age_band = age_bands.category and age_bands.breakdown = 'age_band'
    inner join categories as genders on cube.gender = genders.category and genders.breakdown = 'gender'
    where cube.status = 'answered'

),

-- Valid answers by response and altogether, of all persons and by the categories of each breakdown, in one pass.
answers as (

    select
        cell_number,
        question_number,
        response_number,
        coalesce(age_band_number, gender_number, 0) as category_number,
        cast(sum(n) as double) as n,
        cast(sum(weight_sum) as double) as weight_sum,
        cast(sum(weight_square_sum) as double) as weight_square_sum
    from numbered
    group by grouping sets (
        (cell_number, question_number),
        (cell_number, question_number, response_number),
        (cell_number, question_number, age_band_number),
        (cell_number, question_number, response_number, age_band_number),
        (cell_number, question_number, gender_number),
        (cell_number, question_number, response_number, gender_number)
    )

),

measured as (

    select
        cell_number,
        question_number,
        response_number,
        category_number,
        case when response_number is null then 'base' else 'share' end as measure,
        n,
        n as y,
        n as y_squared,
        weight_sum as supplied_y,
        weight_sum as supplied_y_squared,
        weight_square_sum as supplied_yd,
        weight_square_sum as supplied_yy
    from answers

    union all

    select
        answers.cell_number,
        answers.question_number,
        cast(null as integer) as response_number,
        answers.category_number,
        'mean' as measure,
        sum(answers.n) as n,
        cast(sum(cast(answers.n * responses.score as decimal(38, 18))) as double) as y,
        cast(sum(cast(answers.n * responses.score * responses.score as decimal(38, 18))) as double) as y_squared,
        cast(sum(cast(answers.weight_sum * responses.score as decimal(38, 18))) as double) as supplied_y,
        cast(sum(cast(answers.weight_sum * responses.score * responses.score as decimal(38, 18))) as double)
            as supplied_y_squared,
        cast(sum(cast(answers.weight_square_sum * responses.score as decimal(38, 18))) as double) as supplied_yd,
        cast(sum(cast(answers.weight_square_sum * responses.score * responses.score as decimal(38, 18))) as double)
            as supplied_yy
    from answers
    inner join responses on answers.response_number = responses.response_number
    where responses.score is not null
    group by answers.cell_number, answers.question_number, answers.category_number

),

-- Post-stratified, y and base are taken relative to their means over everybody in the weight cell. The weight is the
-- same for all of a cell, so that the sums of squares follow from counts.
of_cells as (

    select
        measured.*,
        cells.trust_number,
        cells.trust_weight,
        cells.weight,
        cells.weight * cells.weight as squared_weight,
        (measured.y_squared * cells.responded - measured.y * measured.y) / cells.responded as deviations_yy,
        measured.y * (cells.responded - bases.n) / cells.responded as deviations_yd
    from measured
    inner join answers as bases
        on
            measured.cell_number = bases.cell_number
            and measured.question_number = bases.question_number
            and measured.category_number = bases.category_number
            and bases.response_number is null
    inner join cells on measured.cell_number = cells.cell_number

),

-- Sums of exact decimals do not depend on the order in which threads deliver them; sums of doubles do, unless they are
-- whole numbers. Each costs time: where y is 0 or 1, its square is summed already.
of_trusts as (

    select
        trust_number,
        category_number,
        question_number,
        measure,
        response_number,
        max(trust_weight) as trust_weight,
        cast(sum(n) as bigint) as n,
        {%- for name, term in terms.items() %}
            cast(sum(cast({{ term }} as decimal(38, 18))) as double) as {{ name }},
        {%- endfor %}
        {%- for name, term in squares.items() %}
            cast(sum(cast(case when measure = 'mean' then {{ term }} end as decimal(38, 18))) as double) as {{ name }},
        {%- endfor %}
        case when measure = 'mean' then cast(sum(cast(y as decimal(38, 18))) as double) else sum(n) end as y
    from of_cells
    group by trust_number, category_number, question_number, measure, response_number

),

trusts as (

    select distinct
        trust_number,
        survey_year,
        trust
    from cells

),

questions as (

    select distinct
        question_number,
        question_id
    from responses

),

named as (

    select
        trusts.survey_year,
        trusts.trust,
        coalesce(categories.breakdown, 'all') as breakdown,
        coalesce(categories.category, 'all') as category,
        questions.question_id,
        responses.response,
        of_trusts.*
    from of_trusts
    inner join trusts on of_trusts.trust_number = trusts.trust_number
    inner join questions on of_trusts.question_number = questions.question_number
    left join responses on of_trusts.response_number = responses.response_number
    left join categories on of_trusts.category_number = categories.category_number

),

-- One set of weights after the other.
schemes as (
    {% for scheme, method, terms in schemes -%}
        select
            named.survey_year,
            named.trust,
            named.breakdown,
            named.category,
            named.question_id,
            named.measure,
            named.response,
            '{{ scheme }}' as scheme,
            '{{ method }}' as variance_method,
            waves.weighting_scheme = '{{ scheme }}'
            and (waves.weighting_scheme = 'trust_population') = ('{{ method }}' = 'post_stratified') as is_published,
            named.n,
            {{ terms[0] }} as weighted_y,
            {{ terms[1] }} as weighted_y_squared,
            {{ terms[2] }} as yy,
            {{ terms[3] }} as yd
        from named
        inner join waves on named.survey_year = waves.survey_year
        where {{ terms[0] }} is not null
        {{ 'union all' if not loop.last }}
    {% endfor %}
),

final as (

    select * from schemes
    where is_published or (breakdown = 'all' and scheme <> 'supplied')

)

select * from final
