{% macro suppression_reason(suppressed) -%}
    case
        when {{ suppressed }}
            then 'base below {{ var('minimum_published_base') }}, or hidden so that such a base does not follow'
    end
{%- endmacro %}

{% macro released(figure, digits, row='suppression') -%}
    case
        when {{ row }}.suppressed then null
        when {{ row }}.is_rounded then round({{ figure }}, {{ digits }})
        else {{ figure }}
    end
{%- endmacro %}
