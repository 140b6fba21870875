-- depends_on: {{ ref('corrections') }} {{ ref('waves') }} {{ ref('question_map') }} {{ ref('key_variables') }}
-- depends_on: {{ source('raw', 'responses') }} {{ source('raw', 'sampled') }} {{ source('raw', 'variables') }}
{#- Rows are only looked for in columns that are there; of a file they are counted, and no number of them is told. -#}
{%- set there = [] %}
{%- for row in crosswalk_rows(
    'select distinct survey_year, file_role, lower(trim(raw_column)) as raw_column from ' ~ source('raw', 'variables')
) %}
{%- do there.append((row.survey_year, row.file_role, row.raw_column)) %}
{%- endfor %}
{%- set readable = [] %}
{%- for role in ['responses', 'sampled'] %}
{%- for row in corrections_of(role) if (row.survey_year, role, row.raw_column | trim | lower) in there %}
{%- if not row.condition_column or (row.survey_year, role, row.condition_column | trim | lower) in there %}
{%- do readable.append(dict(row, file_role=role)) %}
{%- endif %}
{%- endfor %}
{%- endfor %}
with

matches as (

    {%- for row in readable %}
    {%- set of_file = readable | selectattr('survey_year', 'equalto', row.survey_year) | selectattr('file_role', 'equalto', row.file_role) | list %}
    {%- set others = [] %}
    {%- for other in of_file if other.number != row.number and other.raw_column | trim | lower == row.raw_column | trim | lower %}
    {%- do others.append(correction_matches(other)) %}
    {%- endfor %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        {{ literal(row.correction) }} as correction,
        count(*) as n,
        count(case when {{ others | join(' or ') or 'false' }} then 1 end) as n_of_others
    from {{ beside_corrections(source('raw', row.file_role), of_file) }}
    where survey_year = {{ row.survey_year }} and {{ correction_matches(row) }}
    {%- else %}
    select
        cast(null as string) as correction,
        0 as n,
        0 as n_of_others
    where false
    {%- endfor %}

),

used as (

    select
        survey_year,
        'responses' as file_role,
        lower(trim(raw_column)) as raw_column
    from {{ ref('question_map') }}
    union
    select
        survey_year,
        file_role,
        lower(trim(raw_column)) as raw_column
    from {{ ref('key_variables') }}

),

variables as (

    select distinct
        survey_year,
        file_role,
        lower(trim(raw_column)) as raw_column
    from {{ source('raw', 'variables') }}

),

files as (

    select distinct
        survey_year,
        file_role
    from variables

),

judged as (

    select
        corrections.correction,
        corrections.survey_year,
        corrections.file_role,
        corrections.raw_column,
        case
            when corrections.correction is null then 'it has no name: give it one'
            when waves.survey_year is null then 'the crosswalk has no such wave: correct or remove the row'
            when corrections.file_role is null or corrections.file_role not in ('responses', 'sampled')
                then 'its file_role is neither responses nor sampled: correct it'
            when files.survey_year is null then 'the registry has no such file of this wave: correct or remove the row'
            when columns.raw_column is null then 'the file has no such column: correct or remove the row'
            when used.raw_column is null
                then 'the crosswalk does not use this column, so that nothing changes: map it, or remove the row'
            when corrections.condition_column is null and corrections.condition_value is not null
                then 'it has a condition_value and no condition_column: add the column, or remove the value'
            when corrections.condition_column is not null and conditions.raw_column is null
                then 'the file has no column of the name in condition_column: correct it'
            when corrections.action is null or corrections.action not in ('replace', 'set_missing')
                then 'its action is neither replace nor set_missing: correct it'
            when corrections.action = 'replace' and corrections.replacement is null
                then 'it replaces by nothing: fill in replacement, or make it set_missing'
            when corrections.action = 'set_missing' and corrections.replacement is not null
                then 'it sets to missing and has a replacement: remove that, or make it replace'
            when coalesce(corrections.found, '') = coalesce(corrections.replacement, '')
                then 'what it finds is what it leaves, so that nothing changes: correct or remove the row'
            when
                corrections.reason is null
                or corrections.source is null
                or corrections.reviewer is null
                or corrections.reviewed_on is null
                then 'nobody vouches for it: fill in reason, source, reviewer and reviewed_on'
            when matches.n = 0
                then 'it matches no row of the file: correct it; if a new edition mended the error, remove the row'
            when matches.n_of_others > 0
                then 'rows that it matches are matched by another correction, too: tell them apart by their conditions'
        end as what_to_do
    from {{ ref('corrections') }} as corrections
    left join {{ ref('waves') }} as waves on corrections.survey_year = waves.survey_year
    left join files
        on
            corrections.survey_year = files.survey_year
            and corrections.file_role = files.file_role
    left join variables as columns
        on
            corrections.survey_year = columns.survey_year
            and corrections.file_role = columns.file_role
            and lower(trim(corrections.raw_column)) = columns.raw_column
    left join used
        on
            corrections.survey_year = used.survey_year
            and corrections.file_role = used.file_role
            and lower(trim(corrections.raw_column)) = used.raw_column
    left join variables as conditions
        on
            corrections.survey_year = conditions.survey_year
            and corrections.file_role = conditions.file_role
            and lower(trim(corrections.condition_column)) = conditions.raw_column
    left join matches on corrections.correction = matches.correction

)

select *
from judged
where what_to_do is not null
order by 1, 2, 3, 4
