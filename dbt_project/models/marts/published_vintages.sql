with

reconciliation as (

    select * from {{ ref('reconciliation') }}

),

published_figures as (

    select * from {{ ref('published_figures') }}

),

figures as (

    select
        reconciliation.question_id,
        reconciliation.question_label,
        reconciliation.response,
        reconciliation.response_label,
        reconciliation.response_position,
        reconciliation.survey_year,
        reconciliation.vintage,
        reconciliation.vintage_status,
        reconciliation.published_pct,
        published_figures.decimals,
        reconciliation.tolerance,
        reconciliation.our_pct,
        reconciliation.difference,
        reconciliation.agrees,
        reconciliation.data_provenance
    from reconciliation
    inner join published_figures
        on
            reconciliation.question_id = published_figures.question_id
            and reconciliation.response = published_figures.response
            and reconciliation.survey_year = published_figures.survey_year
            and reconciliation.vintage = published_figures.vintage

),

with_previous as (

    select
        *,
        lag(vintage) over (
            partition by question_id, response, survey_year
            order by vintage
        ) as previous_vintage,
        lag(published_pct) over (
            partition by question_id, response, survey_year
            order by vintage
        ) as previous_pct,
        lag(tolerance) over (
            partition by question_id, response, survey_year
            order by vintage
        ) as previous_tolerance,
        max(case when vintage_status = 'final' then published_pct end) over (
            partition by question_id, response, survey_year
        ) as final_pct,
        max(case when vintage_status = 'final' then tolerance end) over (
            partition by question_id, response, survey_year
        ) as final_tolerance
    from figures

),

final as (

    select
        question_id,
        question_label,
        response,
        response_label,
        response_position,
        survey_year,
        vintage,
        vintage_status,
        published_pct,
        decimals,
        previous_vintage,
        previous_pct,
        published_pct - previous_pct as revision,
        coalesce(
            abs(published_pct - previous_pct) > tolerance + previous_tolerance + cast(1e-9 as double), false
        ) as restated,
        final_pct,
        coalesce(
            abs(final_pct - published_pct) > tolerance + final_tolerance + cast(1e-9 as double), false
        ) as restated_since,
        our_pct,
        difference as our_difference,
        agrees,
        data_provenance
    from with_previous

)

select * from final
