{#- One SELECT a wave that has a file of role `sampled`, written from the crosswalk. -#}
-- depends_on: {{ source('raw', 'sampled') }}
-- depends_on: {{ ref('waves') }} {{ ref('age_bands') }} {{ ref('key_variables') }} {{ ref('key_codes') }} {{ ref('corrections') }}
{%- set waves = crosswalk_rows(
    "select * from " ~ ref('waves') ~ " where sample_frame = 'apart' order by survey_year"
) %}
{%- set bands = crosswalk_rows('select * from ' ~ ref('age_bands') ~ ' order by survey_year, position') %}
{%- set variables = crosswalk_rows("select * from " ~ ref('key_variables') ~ " where file_role = 'sampled'") %}
{%- set key_codes = crosswalk_rows("select * from " ~ ref('key_codes') ~ " where file_role = 'sampled' order by code") %}
{%- set corrections = corrections_of('sampled') %}

{% for wave in waves %}
{%- set year = wave.survey_year %}
{%- set variable = {} %}
{%- for row in variables if row.survey_year == year %}{% do variable.update({row.variable: row}) %}{% endfor %}
{%- set wave_bands = bands | selectattr('survey_year', 'equalto', year) | list %}
{%- set corrected = corrections | selectattr('survey_year', 'equalto', year) | list %}
{%- set codes = {} %}
{%- for row in key_codes if row.survey_year == year %}{% do codes.setdefault(row.variable, []).append(row) %}{% endfor %}
{%- if not loop.first %}
union all
{% endif %}
select
    cast({{ year }} as integer) as survey_year,
    _row as raw_row,
    {{ raw_text((variable.trust or {}).raw_column, corrected) }} as trust,
    {{ age_band(variable.frame_age, wave, wave_bands, codes.get('frame_age', []), corrected) }} as frame_age_band,
    {{ decode(raw_text((variable.frame_gender or {}).raw_column, corrected), codes.get('frame_gender', [])) }} as frame_gender,
    {{ decode(raw_text((variable.outcome or {}).raw_column, corrected), codes.get('outcome', [])) }} as outcome,
    try_cast({{ raw_text((variable.persons or {}).raw_column, corrected) }} as bigint) as persons
from {{ beside_corrections(source('raw', 'sampled'), corrected) }}
where survey_year = {{ year }}
{% else %}
select
    cast(null as integer) as survey_year,
    cast(null as bigint) as raw_row,
    cast(null as string) as trust,
    cast(null as string) as frame_age_band,
    cast(null as string) as frame_gender,
    cast(null as string) as outcome,
    cast(null as bigint) as persons
where false
{% endfor %}
