{% macro not_plain(column) -%}
    {{ matches(column, '[\\p{Cc}\\p{Cf}]|^[ \\p{Z}]|[ \\p{Z}]$') }}
{%- endmacro %}
