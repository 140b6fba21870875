with

bases as (

    select
        survey_year,
        trust,
        breakdown,
        category,
        question_id,
        n
    from {{ ref('int_trust_sums') }}
    where measure = 'base' and is_published

),

question_map as (

    select
        survey_year,
        question_id
    from {{ ref('question_map') }}

),

trusts as (

    select * from {{ ref('int_trusts') }}

),

geographies as (

    select * from {{ ref('geographies') }}

),

categories as (

    select * from {{ ref('int_categories') }}

),

national as (

    select
        question_map.survey_year,
        geographies.geography_level,
        geographies.geography_code,
        categories.breakdown,
        categories.category,
        question_map.question_id,
        categories.breakdown as margin,
        cast(coalesce(sum(bases.n), 0) as bigint) as base
    from question_map
    inner join categories
        on
            question_map.survey_year = categories.survey_year
            and categories.category <> 'unknown'
    cross join geographies
    left join bases
        on
            question_map.survey_year = bases.survey_year
            and question_map.question_id = bases.question_id
            and categories.breakdown = bases.breakdown
            and categories.category = bases.category
    group by
        question_map.survey_year,
        geographies.geography_level,
        geographies.geography_code,
        categories.breakdown,
        categories.category,
        question_map.question_id

),

by_trust as (

    select
        question_map.survey_year,
        'trust' as geography_level,
        trusts.trust as geography_code,
        'all' as breakdown,
        'all' as category,
        question_map.question_id,
        'trust' as margin,
        coalesce(bases.n, 0) as base
    from question_map
    inner join trusts on question_map.survey_year = trusts.survey_year
    left join bases
        on
            question_map.survey_year = bases.survey_year
            and question_map.question_id = bases.question_id
            and trusts.trust = bases.trust
            and bases.breakdown = 'all'

),

members as (

    select
        *,
        base < {{ var('minimum_published_base') }} as is_small
    from by_trust

    union all

    select
        *,
        base < {{ var('minimum_published_base') }} as is_small
    from national

),

-- A margin's parts sum to a published base. The next smallest parts are hidden with the small ones until there are
-- two, and together they are as large as a part that is shown.
ordered as (

    select
        *,
        bool_or(is_small) over (partition by survey_year, question_id, margin) as margin_has_small,
        count(*) over before as hidden_before,
        coalesce(sum(base) over before, 0) as base_before
    from members
    window before as (
        partition by survey_year, question_id, margin
        order by is_small desc nulls last, base asc nulls last, geography_code asc nulls last, category asc nulls last
        rows between unbounded preceding and 1 preceding
    )

),

final as (

    select
        survey_year,
        geography_level,
        geography_code,
        breakdown,
        category,
        question_id,
        base,
        is_small or (
            margin <> 'all'
            and margin_has_small
            and (hidden_before < 2 or base_before < {{ var('minimum_published_base') }})
        ) as suppressed,
        -- From exact shares of a part and of the whole, the answers of single persons can be worked out.
        geography_level = 'trust' or breakdown <> 'all' as is_rounded
    from ordered

)

select * from final
