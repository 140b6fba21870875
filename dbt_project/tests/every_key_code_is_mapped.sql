-- depends_on: {{ ref('key_variables') }} {{ source('raw', 'responses') }} {{ source('raw', 'sampled') }} {{ ref('corrections') }}
{%- set variables = crosswalk_rows(
    'select survey_year, file_role, variable, raw_column, measured_as from ' ~ ref('key_variables')
    ~ " where measured_as in ('code', 'years', 'birth_year', 'number') order by survey_year, file_role, variable"
) %}
{%- set corrections = {'responses': corrections_of('responses'), 'sampled': corrections_of('sampled')} %}
with

observed as (

    {%- for row in variables %}
    {%- set corrected = corrections[row.file_role] | selectattr('survey_year', 'equalto', row.survey_year) | list %}
    {%- if not loop.first %}
    union all
    {%- endif %}
    select
        {{ row.survey_year }} as survey_year,
        {{ literal(row.file_role) }} as file_role,
        {{ literal(row.variable) }} as variable,
        {{ literal(row.raw_column) }} as raw_column,
        {{ literal(row.measured_as) }} as measured_as,
        {{ raw_text(row.raw_column, corrected) }} as code,
        count(*) as n
    from {{ beside_corrections(source('raw', row.file_role), corrected) }}
    where survey_year = {{ row.survey_year }}
    group by code
    {%- else %}
    select
        null as survey_year,
        null as file_role,
        null as variable,
        null as raw_column,
        null as measured_as,
        null as code,
        null as n
    where false
    {%- endfor %}

),

declared as (

    select
        key_variables.survey_year,
        key_variables.file_role,
        key_variables.variable,
        trim(value_labels.code) as code
    from {{ ref('key_variables') }} as key_variables
    inner join {{ source('raw', 'value_labels') }} as value_labels
        on
            key_variables.survey_year = value_labels.survey_year
            and key_variables.file_role = value_labels.file_role
            and lower(trim(key_variables.raw_column)) = lower(trim(value_labels.raw_column))

),

unmapped as (

    select
        observed.survey_year,
        observed.file_role,
        observed.variable,
        observed.raw_column,
        {{ shown_code('observed.code') }} as code,
        observed.n,
        'add the code to key_codes' as what_to_do
    from observed
    left join {{ ref('key_codes') }} as key_codes
        on
            observed.survey_year = key_codes.survey_year
            and observed.file_role = key_codes.file_role
            and observed.variable = key_codes.variable
            and observed.code = key_codes.code
    where observed.measured_as = 'code' and observed.code is not null and key_codes.code is null

),

not_numeric as (

    select
        observed.survey_year,
        observed.file_role,
        observed.variable,
        observed.raw_column,
        cast(null as string) as code,
        sum(observed.n) as n,
        'these values are no numbers: list their codes in key_codes, or correct measured_as' as what_to_do
    from observed
    left join {{ ref('key_codes') }} as key_codes
        on
            observed.survey_year = key_codes.survey_year
            and observed.file_role = key_codes.file_role
            and observed.variable = key_codes.variable
            and observed.code = key_codes.code
    where
        observed.measured_as <> 'code'
        and observed.code is not null
        and key_codes.code is null
        and {{ as_number('observed.code') }} is null
    group by observed.survey_year, observed.file_role, observed.variable, observed.raw_column

),

unused as (

    select
        key_codes.survey_year,
        key_codes.file_role,
        key_codes.variable,
        cast(null as string) as raw_column,
        key_codes.code,
        0 as n,
        'no row has this code and no value label declares it: correct or remove the row of key_codes' as what_to_do
    from {{ ref('key_codes') }} as key_codes
    left join observed
        on
            key_codes.survey_year = observed.survey_year
            and key_codes.file_role = observed.file_role
            and key_codes.variable = observed.variable
            and key_codes.code = observed.code
    left join declared
        on
            key_codes.survey_year = declared.survey_year
            and key_codes.file_role = declared.file_role
            and key_codes.variable = declared.variable
            and key_codes.code = declared.code
    where observed.code is null and declared.code is null

)

select * from unmapped
union all
select * from not_numeric
union all
select * from unused
