{#-
    One SELECT a wave, written from the crosswalk: each picks that wave's own columns out of raw.responses by header
    text. A view: no row-level table is kept between the raw layer and the counts.
-#}
-- depends_on: {{ source('raw', 'responses') }}
-- depends_on: {{ ref('waves') }} {{ ref('age_bands') }} {{ ref('key_variables') }} {{ ref('key_codes') }} {{ ref('corrections') }}
-- depends_on: {{ ref('questions') }} {{ ref('question_map') }} {{ ref('response_map') }} {{ ref('routing') }}
{%- set waves = crosswalk_rows('select * from ' ~ ref('waves') ~ ' order by survey_year') %}
{%- set bands = crosswalk_rows('select * from ' ~ ref('age_bands') ~ ' order by survey_year, position') %}
{%- set variables = crosswalk_rows("select * from " ~ ref('key_variables') ~ " where file_role = 'responses'") %}
{%- set key_codes = crosswalk_rows("select * from " ~ ref('key_codes') ~ " where file_role = 'responses' order by code") %}
{%- set corrections = corrections_of('responses') %}
{%- set mapped = crosswalk_rows('select * from ' ~ ref('question_map') ~ ' order by survey_year, question_id') %}
{%- set answers = crosswalk_rows(
    'select survey_year, question_id, code from ' ~ ref('response_map')
    ~ " where treatment in ('answered', 'dont_know', 'not_applicable') order by code"
) %}
{%- set routing = crosswalk_rows('select * from ' ~ ref('routing') ~ ' order by filter_question_id, filter_code') %}
{%- set questions = question_ids() %}
{%- set routed = routed_question_ids() %}

{% for wave in waves %}
{%- set year = wave.survey_year %}
{%- set variable = {} %}
{%- for row in variables if row.survey_year == year %}{% do variable.update({row.variable: row}) %}{% endfor %}
{%- set wave_bands = bands | selectattr('survey_year', 'equalto', year) | list %}
{%- set corrected = corrections | selectattr('survey_year', 'equalto', year) | list %}
{%- set codes = {} %}
{%- for row in key_codes if row.survey_year == year %}{% do codes.setdefault(row.variable, []).append(row) %}{% endfor %}
{%- set column = {} %}
{%- for row in mapped if row.survey_year == year %}{% do column.update({row.question_id: row.raw_column}) %}{% endfor %}
{%- set frame_age = age_band(variable.frame_age, wave, wave_bands, codes.get('frame_age', []), corrected) %}
{%- set questionnaire_age = age_band(variable.questionnaire_age, wave, wave_bands, codes.get('questionnaire_age', []), corrected) %}
{%- set gender = {} %}
{%- for source in ['frame_gender', 'questionnaire_gender'] %}
{%- do gender.update({source: decode(raw_text((variable[source] or {}).raw_column, corrected), codes.get(source, []))}) %}
{%- endfor %}
{%- if not loop.first %}
union all
{% endif %}
select
    cast({{ year }} as integer) as survey_year,
    _row as raw_row,
    {{ raw_text((variable.trust or {}).raw_column, corrected) }} as trust,
    {{ raw_text((variable.trust_name or {}).raw_column, corrected) }} as trust_name,
    {{ raw_text((variable.record or {}).raw_column, corrected) }} as record,
    {% if variable.outcome -%}
    {{ decode(raw_text(variable.outcome.raw_column, corrected), codes.get('outcome', [])) }} as outcome,
    {%- else -%}
    'returned' as outcome,
    {%- endif %}
    try_cast({{ raw_text((variable.weight or {}).raw_column, corrected) }} as decimal(18, 9)) as supplied_weight,
    {{ frame_age if variable.frame_age else questionnaire_age }} as frame_age_band,
    {{ gender.frame_gender if variable.frame_gender else gender.questionnaire_gender }} as frame_gender,
    {{ questionnaire_age if variable.questionnaire_age else frame_age }} as questionnaire_age_band,
    {{ gender.questionnaire_gender if variable.questionnaire_gender else gender.frame_gender }} as questionnaire_gender,
    {%- for question in questions %}
    {{ raw_text(column.get(question), corrected) }} as answer_{{ question }},
    {%- endfor %}
    {%- for question in routed %}
    {%- set past = [] %}
    {%- for row in routing if row.survey_year == year and row.question_id == question and column.get(row.filter_question_id) %}
    {%- do past.append('coalesce(' ~ raw_text(column[row.filter_question_id], corrected) ~ ' = ' ~ literal(row.filter_code) ~ ', false)') %}
    {%- endfor %}
    {{ past | join(' or ') or 'false' }} as past_{{ question }},
    {%- endfor %}
    {%- set given = [] %}
    {%- for question, raw_column in column.items() %}
    {%- set valid = [] %}
    {#- An IN with a list becomes a join of its own for each question. #}
    {%- for row in answers if row.survey_year == year and row.question_id == question %}{% do valid.append('when ' ~ literal(row.code) ~ ' then 1') %}{% endfor %}
    {%- if valid %}{% do given.append('case ' ~ raw_text(raw_column, corrected) ~ ' ' ~ valid | join(' ') ~ ' else 0 end') %}{% endif %}
    {%- endfor %}
    {{ given | join('\n    + ') or '0' }} as questions_answered,
    coalesce({% for raw_column in column.values() %}{{ raw_text(raw_column, corrected) }}, {% endfor %}null) is null as is_blank
from {{ beside_corrections(source('raw', 'responses'), corrected) }}
where survey_year = {{ year }}
{% else %}
select null as survey_year where false
{% endfor %}
