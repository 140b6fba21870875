{#- Whether a text has what nobody sees: control and format characters, line breaks, white space around it. -#}
{% macro not_plain(column) -%}
    regexp_matches({{ column }}, '[\p{Cc}\p{Cf}]|^[ \p{Z}]|[ \p{Z}]$')
{%- endmacro %}
