with

offered as (

    select distinct
        survey_year,
        question_id,
        response
    from {{ ref('response_map') }}
    where treatment = 'answered'

),

-- Hidden areas have their rows whatever they hold: a row that is missing would tell of nobody.
estimates as (

    select
        suppression.survey_year,
        suppression.geography_level,
        suppression.geography_code,
        suppression.question_id,
        offered.response,
        estimates.estimate,
        estimates.se,
        suppression.suppressed,
        suppression.is_rounded
    from {{ ref('int_suppression') }} as suppression
    inner join offered
        on
            suppression.survey_year = offered.survey_year
            and suppression.question_id = offered.question_id
    left join {{ ref('int_estimates') }} as estimates
        on
            suppression.survey_year = estimates.survey_year
            and suppression.geography_level = estimates.geography_level
            and suppression.geography_code = estimates.geography_code
            and suppression.breakdown = estimates.breakdown
            and suppression.category = estimates.category
            and suppression.question_id = estimates.question_id
            and offered.response = estimates.response
            and estimates.measure = 'share'
            and estimates.is_published
    where suppression.breakdown = 'all'

),

question_pairs as (

    select * from {{ ref('int_question_pairs') }}

),

trust_mergers as (

    select * from {{ ref('trust_mergers') }}

),

-- A trust that took another one in between two waves is not the same trust in both.
merged_between as (

    select distinct
        question_pairs.from_year,
        question_pairs.to_year,
        trust_mergers.trust
    from question_pairs
    inner join trust_mergers
        on
            question_pairs.from_year < trust_mergers.survey_year
            and question_pairs.to_year >= trust_mergers.survey_year

),

-- The samples of two waves are independent, so that their variances add.
differences as (

    select
        question_pairs.question_id,
        later.response,
        later.geography_level,
        later.geography_code,
        question_pairs.from_year,
        question_pairs.to_year,
        question_pairs.span,
        question_pairs.changes_instrument,
        later.estimate - earlier.estimate as change,
        sqrt(later.se * later.se + earlier.se * earlier.se) as se,
        question_pairs.comparable and merged_between.trust is null as comparable,
        case
            when merged_between.trust is not null
                then 'the trust merged with another; ' || question_pairs.comparability_note
            else question_pairs.comparability_note
        end as comparability_note,
        earlier.suppressed or later.suppressed as suppressed,
        earlier.is_rounded or later.is_rounded as is_rounded
    from question_pairs
    inner join estimates as earlier
        on
            question_pairs.question_id = earlier.question_id
            and question_pairs.from_year = earlier.survey_year
    inner join estimates as later
        on
            question_pairs.question_id = later.question_id
            and question_pairs.to_year = later.survey_year
            and earlier.geography_level = later.geography_level
            and earlier.geography_code = later.geography_code
            and earlier.response = later.response
    left join merged_between
        on
            question_pairs.from_year = merged_between.from_year
            and question_pairs.to_year = merged_between.to_year
            and later.geography_level = 'trust'
            and later.geography_code = merged_between.trust

),

tested as (

    select
        *,
        {{ normal_p_value('(change / nullif(se, 0))') }} as p_value,
        case when span <> 'wave_to_wave' then question_id end as family_question_id
    from differences

),

-- Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995, 289-300) over the tests of comparable changes that are shown: of
-- all steps between two waves, and of a longer change those of its question. Which longer ones there are is another
-- matter with each wave that is added, and no verdict on a change that is in print may hang on that.
ranked as (

    select
        *,
        case when comparable and not suppressed then p_value end as family_p_value,
        count(case when comparable and not suppressed then p_value end) over (
            partition by from_year, to_year, geography_level, family_question_id
        ) as family_size,
        row_number() over (
            partition by from_year, to_year, geography_level, family_question_id
            order by
                case when comparable and not suppressed then p_value end asc nulls last,
                question_id asc nulls last,
                response asc nulls last,
                geography_code asc nulls last
        ) as family_rank
    from tested

),

final as (

    select
        question_id,
        response,
        geography_level,
        geography_code,
        from_year,
        to_year,
        span,
        changes_instrument,
        change,
        se,
        change - {{ normal_quantile() }} * se as ci_low,
        change + {{ normal_quantile() }} * se as ci_high,
        p_value,
        case
            when family_p_value is not null
                then
                    least(1, min(family_p_value * family_size / family_rank) over (
                        partition by from_year, to_year, geography_level, family_question_id
                        order by family_rank desc nulls last
                        rows between unbounded preceding and current row
                    ))
        end as p_adjusted,
        comparable,
        comparability_note,
        suppressed,
        is_rounded
    from ranked

)

select * from final
