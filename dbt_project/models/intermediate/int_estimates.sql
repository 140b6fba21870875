with

sums as (

    select * from {{ ref('int_trust_sums') }}

),

trusts as (

    select
        survey_year,
        trust,
        stratum,
        responded,
        count(*) over (partition by survey_year, stratum) > 1 as shares_stratum
    from {{ ref('int_trusts') }}

),

questions as (

    select * from {{ ref('questions') }}

),

geographies as (

    select * from {{ ref('geographies') }}

),

t_quantiles as (

    select * from {{ ref('t_quantiles') }}

),

strata as (

    select
        survey_year,
        stratum,
        cast(sum(responded) as double) as responded
    from trusts
    group by survey_year, stratum

),

-- The country is all strata; a trust is its own part of its stratum.
parts as (

    select
        geographies.geography_level,
        geographies.geography_code,
        trusts.stratum,
        trusts.shares_stratum,
        sums.*
    from sums
    inner join trusts
        on
            sums.survey_year = trusts.survey_year
            and sums.trust = trusts.trust
    cross join geographies

    union all

    select
        'trust' as geography_level,
        sums.trust as geography_code,
        trusts.stratum,
        false as shares_stratum,
        sums.*
    from sums
    inner join trusts
        on
            sums.survey_year = trusts.survey_year
            and sums.trust = trusts.trust
    where sums.breakdown = 'all' and sums.is_published

),

-- Few trusts, if any, share a stratum with another: the others need no adding up.
by_stratum as (

    select
        survey_year,
        geography_level,
        geography_code,
        breakdown,
        category,
        question_id,
        measure,
        response,
        scheme,
        variance_method,
        is_published,
        stratum,
        n,
        weighted_y,
        weighted_y_squared,
        yy,
        yd
    from parts
    where category <> 'unknown' and not shares_stratum

    union all

    select
        survey_year,
        geography_level,
        geography_code,
        breakdown,
        category,
        question_id,
        measure,
        response,
        scheme,
        variance_method,
        is_published,
        stratum,
        cast(sum(n) as bigint) as n,
        cast(sum(cast(weighted_y as decimal(38, 18))) as double) as weighted_y,
        cast(sum(cast(weighted_y_squared as decimal(38, 18))) as double) as weighted_y_squared,
        cast(sum(cast(yy as decimal(38, 18))) as double) as yy,
        cast(sum(cast(yd as decimal(38, 18))) as double) as yd
    from parts
    where category <> 'unknown' and shares_stratum
    group by
        survey_year,
        geography_level,
        geography_code,
        breakdown,
        category,
        question_id,
        measure,
        response,
        scheme,
        variance_method,
        is_published,
        stratum

),

-- With fixed weights the deviations of a stratum do not sum to zero, so its mean is taken off.
centred as (

    select
        by_stratum.*,
        strata.responded / nullif(strata.responded - 1, 0) * (
            by_stratum.yy - case
                when by_stratum.variance_method = 'fixed_weights'
                    then by_stratum.weighted_y * by_stratum.weighted_y / strata.responded
                else 0
            end
        ) as var_yy,
        strata.responded / nullif(strata.responded - 1, 0) * (
            by_stratum.yd - case
                when by_stratum.variance_method = 'fixed_weights'
                    then by_stratum.weighted_y * bases.weighted_y / strata.responded
                else 0
            end
        ) as var_yd
    from by_stratum
    inner join by_stratum as bases
        on
            by_stratum.survey_year = bases.survey_year
            and by_stratum.geography_level = bases.geography_level
            and by_stratum.geography_code = bases.geography_code
            and by_stratum.stratum = bases.stratum
            and by_stratum.breakdown = bases.breakdown
            and by_stratum.category = bases.category
            and by_stratum.question_id = bases.question_id
            and by_stratum.scheme = bases.scheme
            and by_stratum.variance_method = bases.variance_method
    inner join strata
        on
            by_stratum.survey_year = strata.survey_year
            and by_stratum.stratum = strata.stratum
    where bases.measure = 'base'

),

totals as (

    select
        survey_year,
        geography_level,
        geography_code,
        breakdown,
        category,
        question_id,
        measure,
        response,
        scheme,
        variance_method,
        is_published,
        cast(sum(n) as bigint) as n,
        count(*) as strata,
        cast(sum(cast(weighted_y as decimal(38, 18))) as double) as weighted_y,
        cast(sum(cast(weighted_y_squared as decimal(38, 18))) as double) as weighted_y_squared,
        cast(sum(cast(var_yy as decimal(38, 18))) as double) as var_yy,
        cast(sum(cast(var_yd as decimal(38, 18))) as double) as var_yd
    from centred
    group by
        survey_year,
        geography_level,
        geography_code,
        breakdown,
        category,
        question_id,
        measure,
        response,
        scheme,
        variance_method,
        is_published

),

-- Every response that the wave's questionnaire offers has a row, also where nobody chose it; numbers have a mean.
offered as (

    select distinct
        survey_year,
        question_id,
        'share' as measure,
        response
    from {{ ref('response_map') }}
    where treatment = 'answered'

    union all

    select distinct
        response_map.survey_year,
        response_map.question_id,
        'mean' as measure,
        cast(null as string) as response
    from {{ ref('response_map') }} as response_map
    inner join questions on response_map.question_id = questions.question_id and questions.is_numeric
    where response_map.treatment = 'answered'

),

moments as (

    select
        bases.survey_year,
        bases.geography_level,
        bases.geography_code,
        bases.breakdown,
        bases.category,
        bases.question_id,
        offered.measure,
        offered.response,
        bases.scheme,
        bases.variance_method,
        bases.is_published,
        bases.n as base,
        cast(bases.n - bases.strata as bigint) as degrees_of_freedom,
        bases.weighted_y as weight,
        coalesce(totals.weighted_y, 0) / nullif(bases.weighted_y, 0) as estimate,
        coalesce(totals.weighted_y_squared, 0) / nullif(bases.weighted_y, 0) as second_moment,
        coalesce(totals.var_yy, 0) as var_yy,
        coalesce(totals.var_yd, 0) as var_yd,
        bases.var_yy as var_dd
    from totals as bases
    inner join offered
        on
            bases.survey_year = offered.survey_year
            and bases.question_id = offered.question_id
    left join totals
        on
            bases.survey_year = totals.survey_year
            and bases.geography_level = totals.geography_level
            and bases.geography_code = totals.geography_code
            and bases.breakdown = totals.breakdown
            and bases.category = totals.category
            and bases.question_id = totals.question_id
            and bases.scheme = totals.scheme
            and bases.variance_method = totals.variance_method
            and offered.measure = totals.measure
            and offered.response is not distinct from totals.response
    where bases.measure = 'base'

),

-- Linearised: the variance of y - estimate * base, over the squared sum of weights.
variances as (

    select
        *,
        greatest(var_yy - 2 * estimate * var_yd + estimate * estimate * var_dd, 0) / (weight * weight) as variance,
        case
            when measure = 'share' then estimate * (1 - estimate)
            else greatest(second_moment - estimate * estimate, 0)
        end as spread
    from moments

),

precisions as (

    select
        variances.*,
        case
            when variances.spread = 0 then cast(variances.base as double)
            else variances.spread / nullif(variances.variance, 0)
        end as effective_base,
        variances.variance / nullif(variances.spread / nullif(variances.base - 1, 0), 0) as design_effect,
        {{ t_quantile('variances.degrees_of_freedom', 't_quantiles.quantile') }} as t
    from variances
    left join t_quantiles on variances.degrees_of_freedom = t_quantiles.degrees_of_freedom

),

final as (

    select
        survey_year,
        geography_level,
        geography_code,
        breakdown,
        category,
        question_id,
        measure,
        response,
        scheme,
        variance_method,
        is_published,
        base,
        weight,
        case when measure = 'share' then 100 else 1 end * estimate as estimate,
        case when measure = 'share' then 100 else 1 end * sqrt(variance) as se,
        case
            when measure = 'share' then 100 * {{ wilson('estimate', 'effective_base', 't', '-') }}
            else estimate - t * sqrt(nullif(variance, 0))
        end as ci_low,
        case
            when measure = 'share' then 100 * {{ wilson('estimate', 'effective_base', 't', '+') }}
            else estimate + t * sqrt(nullif(variance, 0))
        end as ci_high,
        case
            when degrees_of_freedom < 1 then 'too few answers for an interval'
            when effective_base is null or (measure = 'mean' and variance = 0)
                then 'answers do not vary within weight cells'
        end as no_interval_reason,
        -- Whoever is almost alone in a weight cell adds almost nothing to the variance.
        case
            when spread > 0 and effective_base > 2 * base
                then 'interval may be too short: few answered otherwise, each almost alone in a weight cell'
        end as interval_caution,
        effective_base,
        design_effect,
        degrees_of_freedom
    from precisions

)

select * from final
