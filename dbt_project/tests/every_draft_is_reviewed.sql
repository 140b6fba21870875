-- A row that the machine proposed counts once a person has looked at it: both who and when are there, or it is open.
-- Who looked at a row that is not there, or not under this key any more, has looked at nothing that is published.
with

-- The rows of the seeds that are drafted, by the keys that `cmhs wave init` gives them: orchestration/wave/draft.py.
there as (

    select
        'waves' as seed,
        survey_year,
        'wave ' || cast(survey_year as string) as row
    from {{ ref('waves') }}

    union all

    select
        'age_bands' as seed,
        survey_year,
        age_band as row
    from {{ ref('age_bands') }}

    union all

    select
        'key_variables' as seed,
        survey_year,
        file_role || ', ' || variable as row
    from {{ ref('key_variables') }}

    union all

    select
        'key_codes' as seed,
        survey_year,
        file_role || ', ' || variable || ', code ' || code as row
    from {{ ref('key_codes') }}

    union all

    select
        'question_map' as seed,
        survey_year,
        question_id as row
    from {{ ref('question_map') }}

    union all

    select
        'response_map' as seed,
        survey_year,
        question_id || ', code ' || code as row
    from {{ ref('response_map') }}

    union all

    select
        'routing' as seed,
        survey_year,
        question_id || ', filter ' || filter_question_id || ', code ' || filter_code as row
    from {{ ref('routing') }}

    union all

    select
        'ignored_columns' as seed,
        survey_year,
        file_role || ', ' || raw_column as row
    from {{ ref('ignored_columns') }}

    union all

    select
        'comparability' as seed,
        to_year as survey_year,
        question_id || ', ' || cast(from_year as string) || ' to ' || cast(to_year as string) as row
    from {{ ref('comparability') }}

    union all

    select
        'expected_rows' as seed,
        survey_year,
        question_id as row
    from {{ ref('expected_rows') }}

),

judged as (

    select
        drafts.survey_year,
        drafts.seed,
        drafts.row,
        drafts.certainty,
        drafts.evidence,
        case
            when there.row is null
                then
                    'the seed has no such row: write here the key that it has now, or remove this line where the row '
                    || 'was removed'
            when drafts.reviewer is null and drafts.reviewed_on is null
                then 'nobody has reviewed it: correct the row in its seed, then fill in reviewer and reviewed_on here'
            when drafts.reviewer is null then 'a date without a reviewer: fill in who reviewed it'
            when drafts.reviewed_on is null then 'a reviewer without a date: fill in reviewed_on, as YYYY-MM-DD'
            when
                not {{ matches('drafts.reviewed_on', '^[0-9]{4}-[0-9]{2}-[0-9]{2}$') }}
                or try_cast(drafts.reviewed_on as date) is null
                then 'reviewed_on is no day: write it as YYYY-MM-DD'
        end as what_to_do
    from {{ ref('drafts') }} as drafts
    left join there
        on
            drafts.seed = there.seed
            and drafts.survey_year = there.survey_year
            and drafts.row = there.row

)

select *
from judged
where what_to_do is not null
order by survey_year, seed, row
