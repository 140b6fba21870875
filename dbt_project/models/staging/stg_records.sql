{#-
    Of stg_responses what names a person: as many columns of as many waves as that has take half a second to plan, each
    time it is read.
-#}
-- depends_on: {{ source('raw', 'responses') }}
-- depends_on: {{ ref('waves') }} {{ ref('key_variables') }} {{ ref('corrections') }}
{%- set waves = crosswalk_rows('select survey_year from ' ~ ref('waves') ~ ' order by survey_year') %}
{%- set variables = crosswalk_rows("select * from " ~ ref('key_variables') ~ " where file_role = 'responses'") %}
{%- set corrections = corrections_of('responses') %}

{% for wave in waves %}
{%- set year = wave.survey_year %}
{%- set variable = {} %}
{%- for row in variables if row.survey_year == year %}{% do variable.update({row.variable: row}) %}{% endfor %}
{%- set corrected = corrections | selectattr('survey_year', 'equalto', year) | list %}
{%- if not loop.first %}
union all
{% endif %}
select
    cast({{ year }} as integer) as survey_year,
    _row as raw_row,
    {{ raw_text((variable.trust or {}).raw_column, corrected) }} as trust,
    {{ raw_text((variable.record or {}).raw_column, corrected) }} as record
from {{ beside_corrections(source('raw', 'responses'), corrected) }}
where survey_year = {{ year }}
{% else %}
select null as survey_year where false
{% endfor %}
