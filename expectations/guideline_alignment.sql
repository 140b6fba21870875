-- One row per wave and statement of the guideline.
with

expected as (

    select
        waves.survey_year,
        statements.statement,
        count(question_map.question_id) as questions
    from crosswalk.waves
    cross join crosswalk.guideline_statements as statements
    left join crosswalk.guideline_items as items on statements.statement = items.statement
    left join crosswalk.question_map
        on
            waves.survey_year = question_map.survey_year
            and items.question_id = question_map.question_id
    group by waves.survey_year, statements.statement

)

select
    expected.survey_year,
    expected.statement,
    greatest(expected.questions, 1) as rows_expected,
    count(mart.statement) as rows_found,
    count(*) filter (where mart.measured <> (expected.questions > 0)) as mislabelled
from expected
left join marts.guideline_alignment as mart
    on
        expected.survey_year = mart.survey_year
        and expected.statement = mart.statement
group by expected.survey_year, expected.statement, expected.questions
order by expected.survey_year, expected.statement
