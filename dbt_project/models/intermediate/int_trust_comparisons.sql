with

sums as (

    select * from {{ ref('int_trust_sums') }}
    where is_published and breakdown = 'all'

),

estimates as (

    select * from {{ ref('int_estimates') }}
    where is_published and breakdown = 'all' and measure = 'share'

),

trusts as (

    select * from {{ ref('int_trusts') }}

),

strata as (

    select
        survey_year,
        stratum,
        cast(sum(responded) as double) as responded
    from trusts
    group by survey_year, stratum

),

-- One row per trust and response, with the sums of the trust.
own as (

    select
        estimates.survey_year,
        estimates.geography_code as trust,
        trusts.stratum,
        estimates.question_id,
        estimates.response,
        estimates.variance_method,
        estimates.estimate / 100 as share,
        estimates.weight,
        coalesce(shares.weighted_y, 0) as weighted_y,
        coalesce(shares.yy, 0) as yy,
        coalesce(shares.yd, 0) as yd,
        bases.yy as dd
    from estimates
    inner join trusts
        on
            estimates.survey_year = trusts.survey_year
            and estimates.geography_code = trusts.trust
    inner join sums as bases
        on
            estimates.survey_year = bases.survey_year
            and estimates.geography_code = bases.trust
            and estimates.question_id = bases.question_id
            and bases.measure = 'base'
    left join sums as shares
        on
            estimates.survey_year = shares.survey_year
            and estimates.geography_code = shares.trust
            and estimates.question_id = shares.question_id
            and shares.measure = 'share'
            and estimates.response = shares.response
    where estimates.geography_level = 'trust'

),

-- The rest of the trust's stratum; nothing where the trust is a stratum of its own.
with_stratum as (

    select
        own.*,
        strata.responded,
    {%- for column in ['weighted_y', 'weight', 'yy', 'yd', 'dd'] %}
        cast(
            sum(cast(own.{{ column }} as decimal(38, 18))) over (
                partition by own.survey_year, own.stratum, own.question_id, own.response
                ) - cast(own.{{ column }} as decimal(38, 18)) as double
        ) as other_{{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
    from own
    inner join strata
        on
            own.survey_year = strata.survey_year
            and own.stratum = strata.stratum

),

-- The trust is part of the country: a person in it counts (y - share d) / weight - (y - share_all d) / weight_all, any
-- other only the second part. Multiplied by the weight of the trust, with s = weight / weight_all, that is
-- (1 - s) y - (share - s share_all) d inside and -s (y - share_all d) outside.
linearised as (

    select
        with_stratum.*,
        national.estimate / 100 as national_share,
        power(national.se / 100 * national.weight, 2) as national_variance,
        with_stratum.weight / national.weight as s,
        1 - with_stratum.weight / national.weight as a,
        with_stratum.share - with_stratum.weight / national.weight * national.estimate / 100 as b
    from with_stratum
    inner join estimates as national
        on
            with_stratum.survey_year = national.survey_year
            and with_stratum.question_id = national.question_id
            and with_stratum.response = national.response
            and national.geography_level <> 'trust'

),

-- The national variance with the trust's stratum taken out and put in again with the other deviations.
variances as (

    select
        *,
        responded / nullif(responded - 1, 0) * (
            (yy + other_yy) - 2 * national_share * (yd + other_yd) + national_share * national_share * (dd + other_dd)
            - case
                when variance_method = 'fixed_weights'
                    then
                        power(weighted_y + other_weighted_y - national_share * (weight + other_weight), 2) / responded
                else 0
            end
        ) as taken_out,
        responded / nullif(responded - 1, 0) * (
            a * a * yy - 2 * a * b * yd + b * b * dd
            + s * s * (other_yy - 2 * national_share * other_yd + national_share * national_share * other_dd)
            - case
                when variance_method = 'fixed_weights'
                    then
                        power(
                            a * weighted_y - b * weight - s * (other_weighted_y - national_share * other_weight), 2
                        ) / responded
                else 0
            end
        ) as put_in
    from linearised

),

final as (

    select
        survey_year,
        trust,
        question_id,
        response,
        100 * share as pct,
        100 * national_share as national_pct,
        100 * (share - national_share) as difference,
        100 * sqrt(greatest(s * s * (national_variance - taken_out) + put_in, 0)) / weight as se
    from variances
    -- A trust that is the whole wave has nothing to be compared with.
    where s < 1

)

select * from final
