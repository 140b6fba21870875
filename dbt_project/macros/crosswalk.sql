{#-
    Reading the crosswalk while SQL is being made. The raw tables are wide and every wave names and codes its
    columns differently, so the SQL that picks and decodes them is written out from the seeds, wave by wave.
-#}

{% macro crosswalk_rows(query) %}
    {%- set rows = [] -%}
    {%- if execute -%}
        {%- set result = run_query(query) -%}
        {%- for row in result.rows -%}{%- do rows.append(dict(zip(result.column_names, row.values()))) -%}{%- endfor -%}
    {%- endif -%}
    {{ return(rows) }}
{% endmacro %}

{% macro question_ids() %}
    {{ return(crosswalk_rows('select question_id from ' ~ ref('questions') ~ ' order by position, question_id')
        | map(attribute='question_id') | list) }}
{% endmacro %}

{% macro routed_question_ids() %}
    {{ return(crosswalk_rows('select distinct question_id from ' ~ ref('routing') ~ ' order by question_id')
        | map(attribute='question_id') | list) }}
{% endmacro %}

{#- For Spark a backslash begins an escape. -#}
{% macro literal(text) %}
    {%- set text = text | string | replace("'", "''") -%}
    {{ return("'" ~ (text | replace('\\', '\\\\') if target.type == 'spark' else text) ~ "'") }}
{% endmacro %}

{% macro raw_text(column, corrections=[]) %}
    {%- if not column -%}{{ return('cast(null as string)') }}{%- endif -%}
    {%- set text = "nullif(trim(" ~ adapter.quote(column | replace('"', '""')) ~ "), '')" -%}
    {%- set branches = [] -%}
    {%- for correction in corrections if correction.raw_column | trim | lower == column | trim | lower -%}
        {%- do branches.append('when ' ~ correction_matches(correction) ~ ' then corrections._replacement_' ~ correction.number) -%}
    {%- endfor -%}
    {{ return('case ' ~ branches | join(' ') ~ ' else ' ~ text ~ ' end' if branches else text) }}
{% endmacro %}

{#- What corrections say stays in their table, which no release holds: the SQL, which every release shows, names them alone. -#}
{% macro corrections_of(file_role) %}
    {{ return(crosswalk_rows(
        'select correction, survey_year, raw_column, condition_column,'
        ~ ' row_number() over (partition by survey_year order by correction) as number'
        ~ ' from ' ~ ref('corrections') ~ ' where file_role = ' ~ literal(file_role) ~ ' and raw_column is not null'
        ~ ' order by survey_year, correction'
    )) }}
{% endmacro %}

{% macro correction_matches(correction) %}
    {%- set same = ["coalesce(" ~ raw_text(correction.raw_column) ~ ", '') = coalesce(corrections._found_" ~ correction.number ~ ", '')"] -%}
    {%- if correction.condition_column -%}
        {%- do same.append("coalesce(" ~ raw_text(correction.condition_column) ~ ", '') = coalesce(corrections._condition_" ~ correction.number ~ ", '')") -%}
    {%- endif -%}
    {{ return(same | join(' and ')) }}
{% endmacro %}

{% macro beside_corrections(relation, corrections) -%}
    {{ relation }}
    {%- if corrections %}
cross join (
    select
        {%- for correction in corrections %}
        {%- set of_it = 'max(case when correction = ' ~ literal(correction.correction) ~ ' then ' %}
        {{ of_it }}found end) as _found_{{ correction.number }},
        {%- if correction.condition_column %}
        {{ of_it }}condition_value end) as _condition_{{ correction.number }},
        {%- endif %}
        {{ of_it }}replacement end) as _replacement_{{ correction.number }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ ref('corrections') }}
) as corrections
    {%- endif %}
{%- endmacro %}

{% macro decode(text, codes) %}
    {%- if not codes -%}{{ return('cast(null as string)') }}{%- endif -%}
    {%- set branches = [] -%}
    {%- for row in codes if row.value != 'missing' -%}
        {%- do branches.append('when ' ~ literal(row.code) ~ ' then ' ~ literal(row.value)) -%}
    {%- endfor -%}
    {%- if not branches -%}{{ return('cast(null as string)') }}{%- endif -%}
    {{ return('case ' ~ text ~ ' ' ~ branches | join(' ') ~ ' end') }}
{% endmacro %}

{#- Spark's hash passes over a NULL as if the column were not there. -#}
{% macro number_of(columns) -%}
    {%- if target.type == 'spark' -%}
    xxhash64({% for column in columns %}{{ column }} is null, {{ column }}{{ ', ' if not loop.last }}{% endfor %})
    {%- else -%}
    hash({{ columns | join(', ') }})
    {%- endif -%}
{%- endmacro %}

{#- Always true, and known only once that query has ended. Spark would run the query once more to know it. -#}
{% macro only_after(name) %}
    {%- if target.type != 'spark' %}
        and (select count(*) from {{ name }}) >= 0
    {%- endif %}
{%- endmacro %}

{% macro cell(frame_gender, frame_age_band) -%}
    case
        when {{ frame_age_band }} = 'under_minimum' then 'under_minimum'
        when {{ frame_age_band }} is null or {{ frame_gender }} is null then 'unknown'
        else {{ frame_gender }} || ':' || {{ frame_age_band }}
    end
{%- endmacro %}

{#- Java takes more for a number, such as 1960d. -#}
{% macro as_number(text) -%}
    {%- if target.type == 'spark' -%}
        case when {{ matches(text, '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$') }} then try_cast({{ text }} as double) end
    {%- else -%}
        try_cast({{ text }} as double)
    {%- endif -%}
{%- endmacro %}

{% macro age_band(variable, wave, bands, codes, corrections=[]) %}
    {%- if not variable -%}{{ return('cast(null as string)') }}{%- endif -%}
    {%- set text = raw_text(variable.raw_column, corrections) -%}
    {%- if variable.measured_as == 'code' -%}{{ return(decode(text, codes)) }}{%- endif -%}
    {%- set number = as_number(text) -%}
    {%- if variable.measured_as == 'birth_year' -%}
        {%- set number = '(' ~ wave.age_reference_year ~ ' - ' ~ number ~ ')' -%}
    {%- endif -%}
    {%- for needed in ['minimum_age', 'plausible_age_from', 'plausible_age_to'] + (['age_reference_year'] if variable.measured_as == 'birth_year' else []) -%}
        {%- if wave[needed] is none -%}
            {%- do exceptions.raise_compiler_error('waves.csv, wave ' ~ wave.survey_year ~ ': ' ~ needed ~ ' is blank, but ' ~ variable.raw_column ~ ' is measured as ' ~ variable.measured_as) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- set missing = [] -%}
    {%- for row in codes -%}{%- do missing.append(literal(row.code)) -%}{%- endfor -%}
    {%- set branches = [] -%}
    {%- if missing -%}{%- do branches.append('when ' ~ text ~ ' in (' ~ missing | join(', ') ~ ') then null') -%}{%- endif -%}
    {%- do branches.append('when ' ~ number ~ ' < ' ~ wave.plausible_age_from ~ ' or ' ~ number ~ ' > ' ~ wave.plausible_age_to ~ ' then null') -%}
    {%- do branches.append('when ' ~ number ~ ' < ' ~ wave.minimum_age ~ " then 'under_minimum'") -%}
    {%- for band in bands -%}
        {%- set upper = ' and ' ~ number ~ ' < ' ~ (band.to_age + 1) if band.to_age is not none else '' -%}
        {%- do branches.append('when ' ~ number ~ ' >= ' ~ band.from_age ~ upper ~ ' then ' ~ literal(band.age_band)) -%}
    {%- endfor -%}
    {{ return('case ' ~ branches | join(' ') ~ ' end') }}
{% endmacro %}
