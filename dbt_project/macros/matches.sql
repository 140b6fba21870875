{#- For Spark a $ also stands before a line break at the end; \z is the end for both. -#}
{% macro matches(text, pattern) -%}
    (regexp_extract({{ text }}, {{ literal(pattern | replace('$', '\\z')) }}, 0) <> '')
{%- endmacro %}
