with

national as (

    select * from {{ ref('int_changes') }}
    where geography_level <> 'trust' and span = 'wave_to_wave' and not suppressed

),

-- Steps between waves with one questionnaire, one series at a time.
ordinary as (

    select
        question_id,
        response,
        geography_code,
        count(*) as steps,
        cast(sum(cast(change as decimal(38, 18))) as double) / count(*) as mean_step,
        max(abs(change)) as largest_step
    from national
    where not changes_instrument and comparable
    group by question_id, response, geography_code

),

scatter as (

    select
        national.question_id,
        national.response,
        national.geography_code,
        sqrt(
            cast(sum(cast(power(national.change - ordinary.mean_step, 2) as decimal(38, 18))) as double)
            / nullif(count(*) - 1, 0)
        ) as sd_step
    from national
    inner join ordinary
        on
            national.question_id = ordinary.question_id
            and national.response = ordinary.response
            and national.geography_code = ordinary.geography_code
    where not national.changes_instrument and national.comparable
    group by national.question_id, national.response, national.geography_code

),

t_quantiles as (

    select * from {{ ref('t_quantiles') }}

),

questions as (

    select * from {{ ref('questions') }}

),

responses as (

    select * from {{ ref('responses') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

-- Where one more step of the same kind would lie with 95 % probability, were steps normal and independent.
ranges as (

    select
        national.*,
        ordinary.steps as ordinary_steps,
        ordinary.largest_step as largest_ordinary_step,
        ordinary.mean_step
        - t_quantiles.quantile * scatter.sd_step * sqrt(1 + cast(1 as double) / ordinary.steps) as ordinary_low,
        ordinary.mean_step
        + t_quantiles.quantile * scatter.sd_step * sqrt(1 + cast(1 as double) / ordinary.steps) as ordinary_high
    from national
    left join ordinary
        on
            national.question_id = ordinary.question_id
            and national.response = ordinary.response
            and national.geography_code = ordinary.geography_code
    left join scatter
        on
            national.question_id = scatter.question_id
            and national.response = scatter.response
            and national.geography_code = scatter.geography_code
    left join t_quantiles on ordinary.steps - 1 = t_quantiles.degrees_of_freedom
    where national.changes_instrument

),

final as (

    select
        ranges.question_id,
        questions.label as question_label,
        ranges.response,
        responses.label as response_label,
        responses.position as response_position,
        ranges.from_year,
        ranges.to_year,
        ranges.comparable,
        ranges.comparability_note,
        ranges.change as step,
        ranges.se,
        ranges.ci_low,
        ranges.ci_high,
        coalesce(ranges.ordinary_steps, 0) as ordinary_steps,
        ranges.largest_ordinary_step,
        ranges.ordinary_low,
        ranges.ordinary_high,
        ranges.change < ranges.ordinary_low or ranges.change > ranges.ordinary_high as outside_ordinary,
        case
            when ranges.ordinary_low is null then 'too few ordinary steps to compare with'
            when ranges.change between ranges.ordinary_low and ranges.ordinary_high and ranges.comparable
                then 'within the range of ordinary steps'
            when ranges.comparable then 'outside the range of ordinary steps, though the question is the same'
            when ranges.change between ranges.ordinary_low and ranges.ordinary_high
                then 'within the range of ordinary steps; an effect of the wording of that size cannot be ruled out'
            else 'outside the range of ordinary steps; what the wording did and what changed cannot be told apart'
        end as reading,
        waves.data_provenance
    from ranges
    inner join questions on ranges.question_id = questions.question_id
    inner join responses
        on
            ranges.question_id = responses.question_id
            and ranges.response = responses.response
    inner join waves on ranges.to_year = waves.survey_year

)

select * from final
