-- One row per question that was asked before and after a change of questionnaire.
with

steps as (

    select
        comparability.*,
        earlier.comparable_block <> later.comparable_block as changes_instrument
    from crosswalk.comparability
    inner join crosswalk.waves as earlier on comparability.from_year = earlier.survey_year
    inner join crosswalk.waves as later on comparability.to_year = later.survey_year

),

-- A hidden estimate leaves no step.
shown as (

    select distinct
        changes.question_id,
        changes.from_year,
        changes.to_year
    from marts.changes
    inner join crosswalk.geographies on changes.geography_level = geographies.geography_level
    where not changes.suppressed

)

select
    steps.question_id,
    steps.from_year,
    steps.to_year,
    case
        when shown.question_id is null then 'suppressed' when count(mart.response) > 0 then 'shown' else 'missing'
    end as state,
    min(mart.ordinary_steps) as ordinary_steps,
    (
        select count(*)
        from steps as ordinary
        inner join shown as shown_ordinary
            on
                ordinary.question_id = shown_ordinary.question_id
                and ordinary.from_year = shown_ordinary.from_year
                and ordinary.to_year = shown_ordinary.to_year
        where ordinary.question_id = steps.question_id and not ordinary.changes_instrument and ordinary.comparable
    ) as expected_steps,
    min(mart.ordinary_low) as ordinary_low,
    max(mart.ordinary_high) as ordinary_high
from steps
left join shown
    on
        steps.question_id = shown.question_id
        and steps.from_year = shown.from_year
        and steps.to_year = shown.to_year
left join marts.instrument_changes as mart
    on
        steps.question_id = mart.question_id
        and steps.from_year = mart.from_year
        and steps.to_year = mart.to_year
where steps.changes_instrument
group by steps.question_id, steps.from_year, steps.to_year, shown.question_id
order by steps.question_id, steps.from_year
