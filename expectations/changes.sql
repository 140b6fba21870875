-- One row per pair of adjacent waves of the crosswalk and response offered in both, for the whole country.
with

offered as (

    select distinct
        survey_year,
        question_id,
        response
    from crosswalk.response_map
    where treatment = 'answered'

),

national as (

    select estimates.*
    from marts.estimates
    inner join crosswalk.geographies
        on
            estimates.geography_level = geographies.geography_level
            and estimates.geography_code = geographies.geography_code
    where estimates.breakdown = 'all'

),

national_changes as (

    select changes.*
    from marts.changes
    inner join crosswalk.geographies
        on
            changes.geography_level = geographies.geography_level
            and changes.geography_code = geographies.geography_code

)

select
    comparability.question_id,
    later.response,
    comparability.from_year,
    comparability.to_year,
    case when mart.to_year is null then 'missing' when mart.suppressed then 'suppressed' else 'shown' end as state,
    mart.change,
    mart.ci_low,
    mart.ci_high,
    mart.comparable = comparability.comparable as comparable_as_reviewed,
    coalesce(mart.significant, false) and not comparability.comparable as significant_break,
    abs(mart.change - (later_share.pct - earlier_share.pct)) as difference_to_estimates
from crosswalk.comparability
inner join offered as later
    on
        comparability.question_id = later.question_id
        and comparability.to_year = later.survey_year
inner join offered as earlier
    on
        comparability.question_id = earlier.question_id
        and comparability.from_year = earlier.survey_year
        and later.response = earlier.response
left join national_changes as mart
    on
        comparability.question_id = mart.question_id
        and comparability.from_year = mart.from_year
        and comparability.to_year = mart.to_year
        and later.response = mart.response
left join national as later_share
    on
        comparability.question_id = later_share.question_id
        and comparability.to_year = later_share.survey_year
        and later.response = later_share.response
left join national as earlier_share
    on
        comparability.question_id = earlier_share.question_id
        and comparability.from_year = earlier_share.survey_year
        and later.response = earlier_share.response
order by comparability.question_id, later.response, comparability.from_year
