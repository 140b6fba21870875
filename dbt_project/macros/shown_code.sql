{#-
    A raw code as a message may show it. What does not look like a code may be somebody's own words: then only its
    length is told, and the private warehouse holds the rest.
-#}
{% macro shown_code(code, pattern='^(-?[0-9]{1,3}|[0-9]{1,2};[0-9]{1,2}|[A-Za-z])$') -%}
    case
        when regexp_matches({{ code }}, '{{ pattern }}') then {{ code }}
        else 'a text of ' || length({{ code }}) || ' characters'
    end
{%- endmacro %}

{#-
    A trust's code as a message may show it: the same column of another deposit may hold words, or record numbers.
-#}
{% macro shown_trust(trust) -%}
    {{ shown_code(trust, '^[A-Za-z0-9]{1,3}$') }}
{%- endmacro %}
