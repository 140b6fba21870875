{% macro not_plain(column) -%}
    regexp_matches({{ column }}, '[\p{Cc}\p{Cf}]|^[ \p{Z}]|[ \p{Z}]$')
{%- endmacro %}
