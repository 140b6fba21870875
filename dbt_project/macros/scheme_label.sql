{% macro scheme_label(scheme) -%}
    case {{ scheme }}
        when 'none' then 'no weights'
        when 'trust' then 'each trust counts the same'
        when 'trust_population' then 'each trust counts the same, its respondents stand for its sample'
        when 'supplied' then 'weights of the deposit'
    end
{%- endmacro %}
