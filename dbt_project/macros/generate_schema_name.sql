{#- A model's schema is its layer's name as it stands in dbt_project.yml, without a prefix. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
