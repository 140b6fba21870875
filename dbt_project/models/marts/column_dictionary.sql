{#- Written out of the project's own documentation while it runs, so that it cannot differ from it. -#}
{%- set rows = [] %}
{%- if execute %}
{%- for node in graph.nodes.values() if node.resource_type == 'model' and node.schema == 'marts' %}
{%- for column in node.columns.values() %}
{%- do rows.append([node.alias, column.name, (column.data_type or '') | upper, column.meta.get('unit') or column.config.get('meta', {}).get('unit', ''), column.description, loop.index, node.description]) %}
{%- endfor %}
{%- endfor %}
{%- endif %}
{%- if rows %}
select *
from (
    values
    {%- for row in rows | sort %}
    (
        {{ literal(row[0]) }},
        {{ literal(row[6] | trim | replace('\n', ' ')) }},
        {{ literal(row[1]) }},
        {{ literal(row[2]) }},
        {{ literal(row[3]) }},
        {{ literal(row[4] | trim | replace('\n', ' ')) }},
        {{ row[5] }}
    ){{ ',' if not loop.last }}
    {%- endfor %}
) as documented (table_name, table_description, column_name, type, unit, description, position)
{%- else %}
select null as table_name
where false
{%- endif %}
