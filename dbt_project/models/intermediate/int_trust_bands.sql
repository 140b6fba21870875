with

comparisons as (

    select * from {{ ref('int_trust_comparisons') }}

),

suppression as (

    select * from {{ ref('int_suppression') }}
    where geography_level = 'trust'

),

responses as (

    select * from {{ ref('responses') }}

),

estimates as (

    select * from {{ ref('int_estimates') }}
    where is_published and geography_level = 'trust' and measure = 'share'

),

compared as (

    select
        comparisons.*,
        suppression.base,
        responses.better_when,
        estimates.design_effect
    from comparisons
    inner join suppression
        on
            comparisons.survey_year = suppression.survey_year
            and comparisons.trust = suppression.geography_code
            and comparisons.question_id = suppression.question_id
    inner join estimates
        on
            comparisons.survey_year = estimates.survey_year
            and comparisons.trust = estimates.geography_code
            and comparisons.question_id = estimates.question_id
            and comparisons.response = estimates.response
    inner join responses
        on
            comparisons.question_id = responses.question_id
            and comparisons.response = responses.response
    where
        not suppression.suppressed
        and responses.better_when is not null
        and comparisons.national_pct > 0
        and comparisons.national_pct < 100

),

-- With few trusts there is no telling how much trusts ordinarily differ.
design_effects as (

    select
        survey_year,
        question_id,
        response,
        median(design_effect) as design_effect
    from compared
    group by survey_year, question_id, response
    having count(*) >= 10

),

-- As in a funnel plot, the standard error is the one that the trust would have at the share of the country: its own is
-- small where its share is near 0 or 100, which would call low trusts extreme and high ones not.
shown as (

    select
        compared.survey_year,
        compared.trust,
        compared.question_id,
        compared.response,
        compared.better_when,
        compared.difference,
        sqrt(
            compared.national_pct * (100 - compared.national_pct)
            * design_effects.design_effect / (compared.base - 1)
        ) as se
    from compared
    inner join design_effects
        on
            compared.survey_year = design_effects.survey_year
            and compared.question_id = design_effects.question_id
            and compared.response = design_effects.response
    where compared.base > 1 and design_effects.design_effect > 0

),

scores as (

    select
        *,
        difference / nullif(se, 0) as z
    from shown

),

-- Trusts differ by more than sampling. The additive correction for over-dispersion, on z-scores of which the lowest
-- and highest tenth are pulled in (Spiegelhalter, Qual. Saf. Health Care 14, 2005, 347-351).
tenths as (

    select
        survey_year,
        question_id,
        response,
        percentile_cont(0.1) within group (order by z) as low,
        percentile_cont(0.9) within group (order by z) as high
    from scores
    group by survey_year, question_id, response

),

dispersions as (

    select
        scores.survey_year,
        scores.question_id,
        scores.response,
        count(*) as trusts,
        cast(
            sum(cast(power(least(greatest(scores.z, tenths.low), tenths.high), 2) as decimal(38, 18))) as double
        ) as squares,
        cast(sum(cast(1 / (scores.se * scores.se) as decimal(38, 18))) as double) as precision_sum,
        cast(sum(cast(1 / power(scores.se, 4) as decimal(38, 18))) as double) as precision_square_sum
    from scores
    inner join tenths
        on
            scores.survey_year = tenths.survey_year
            and scores.question_id = tenths.question_id
            and scores.response = tenths.response
    group by scores.survey_year, scores.question_id, scores.response

),

between_trusts as (

    select
        *,
        squares / trusts as over_dispersion,
        greatest(squares - (trusts - 1), 0)
        / nullif(precision_sum - precision_square_sum / precision_sum, 0) as variance_between
    from dispersions

),

scored as (

    select
        scores.*,
        between_trusts.trusts,
        between_trusts.over_dispersion,
        sqrt(between_trusts.variance_between) as sd_between_trusts,
        scores.difference / sqrt(scores.se * scores.se + between_trusts.variance_between) as adjusted_z
    from scores
    inner join between_trusts
        on
            scores.survey_year = between_trusts.survey_year
            and scores.question_id = between_trusts.question_id
            and scores.response = between_trusts.response

),

final as (

    select
        survey_year,
        trust,
        question_id,
        response,
        trusts,
        over_dispersion,
        sd_between_trusts,
        adjusted_z,
        case
            when abs(adjusted_z) <= {{ normal_quantile() }} then 'about_the_same'
            when (adjusted_z > 0) = (better_when = 'high') then 'better'
            when adjusted_z is not null then 'worse'
        end as band
    from scored

)

select * from final
