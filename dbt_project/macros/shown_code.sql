{% macro shown_code(code, pattern='^(-?[0-9]{1,3}|[0-9]{1,2};[0-9]{1,2}|[A-Za-z])$') -%}
    case
        when {{ matches(code, pattern) }} then {{ code }}
        else 'a text of ' || length({{ code }}) || ' characters'
    end
{%- endmacro %}

{% macro shown_trust(trust) -%}
    {{ shown_code(trust, '^[A-Za-z0-9]{1,3}$') }}
{%- endmacro %}
