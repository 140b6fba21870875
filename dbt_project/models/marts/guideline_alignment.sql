with

waves as (

    select * from {{ ref('int_waves') }}

),

statements as (

    select * from {{ ref('guideline_statements') }}

),

items as (

    select * from {{ ref('guideline_items') }}

),

estimates as (

    select estimates.*
    from {{ ref('estimates') }} as estimates
    inner join {{ ref('geographies') }} as geographies
        on
            estimates.geography_level = geographies.geography_level
            and estimates.geography_code = geographies.geography_code
    where estimates.breakdown = 'all'

),

-- An experience that a response rules out is met by all other answers.
measured as (

    select
        estimates.survey_year,
        items.statement,
        items.question_id,
        estimates.question_label,
        items.meets,
        estimates.response_label,
        items.fit,
        items.rationale,
        case when items.meets = 'is' then estimates.pct else 100 - estimates.pct end as pct_met,
        estimates.se,
        case when items.meets = 'is' then estimates.ci_low else 100 - estimates.ci_high end as ci_low,
        case when items.meets = 'is' then estimates.ci_high else 100 - estimates.ci_low end as ci_high,
        estimates.base,
        estimates.series_break_before,
        estimates.suppressed,
        estimates.suppression_reason
    from items
    inner join estimates
        on
            items.question_id = estimates.question_id
            and items.response = estimates.response

),

final as (

    select
        waves.survey_year,
        statements.statement,
        statements.title as statement_title,
        statements.source,
        statements.version,
        measured.question_id is not null as measured,
        case
            when measured.question_id is null then 'not measured by this survey'
            when measured.fit = 'close' then 'asks about much of the statement'
            else 'asks about a part of the statement'
        end as how_measured,
        measured.question_id,
        measured.question_label,
        case
            when measured.meets = 'is' then 'answered: ' || measured.response_label
            when measured.meets = 'is_not' then 'answered anything but: ' || measured.response_label
        end as counted_as_met,
        measured.pct_met,
        measured.se,
        measured.ci_low,
        measured.ci_high,
        measured.base,
        measured.series_break_before,
        measured.rationale,
        coalesce(measured.suppressed, false) as suppressed,
        measured.suppression_reason,
        waves.data_provenance
    from waves
    cross join statements
    left join measured
        on
            waves.survey_year = measured.survey_year
            and statements.statement = measured.statement

)

select * from final
