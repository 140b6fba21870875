{#- Why a row is hidden: one sentence for small bases and for those hidden with them, which must not be told apart. -#}
{% macro suppression_reason(suppressed) -%}
    case
        when {{ suppressed }}
            then 'base below {{ var('minimum_published_base') }}, or hidden so that such a base does not follow'
    end
{%- endmacro %}

{#- A figure as it may leave the warehouse: NULL where hidden, with `digits` decimals where exact figures tell too much. -#}
{% macro released(figure, digits, row='suppression') -%}
    case
        when {{ row }}.suppressed then null
        when {{ row }}.is_rounded then round({{ figure }}, {{ digits }})
        else {{ figure }}
    end
{%- endmacro %}
