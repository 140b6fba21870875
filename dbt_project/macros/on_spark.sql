{#- Where Spark needs other words than dbt or DuckDB have for the same thing; on DuckDB none of this is used. -#}

{% macro prepare_engine() %}
    {%- if target.type == 'spark' and execute -%}
        {%- do run_query('create schema if not exists raw') -%}
        {%- for source in graph.sources.values() if source.source_name == 'raw' -%}
            {%- do run_query(external_table('raw.' ~ source.name)) -%}
        {%- endfor -%}
        {%- do run_query('msck repair table raw.responses') -%}
    {%- endif -%}
{% endmacro %}

{% macro external_table(relation) -%}
    create table {{ relation }} using parquet location {{ literal(env_var('CMHS_SPARK_FILES') ~ '/' ~ relation | replace('.', '/')) }}
{%- endmacro %}

{% macro spark__create_csv_table(model, agate_table) -%}
    {%- set sql = external_table(this.schema ~ '.' ~ this.identifier) -%}
    {%- do run_query(sql) -%}
    {{ return(sql) }}
{%- endmacro %}

{% macro spark__load_csv_rows(model, agate_table) -%}
    {{ return('') }}
{%- endmacro %}

{% macro spark__cast(expression, data_type) -%}
    cast({{ expression }} as {{ 'string' if data_type | lower == 'varchar' else data_type }})
{%- endmacro %}
