{#- Written out of the project's own documentation while it runs, so that it cannot differ from it. -#}
{%- set rows = [] %}
{%- if execute %}
{%- for node in graph.nodes.values() if node.resource_type == 'model' and node.schema == 'marts' %}
{%- for column in node.columns.values() %}
{%- do rows.append([node.alias, column.name, (column.data_type or '') | upper, column.meta.get('unit') or column.config.get('meta', {}).get('unit', ''), column.description, loop.index, node.description]) %}
{%- endfor %}
{%- endfor %}
{%- endif %}
{%- for row in rows | sort %}
{%- if not loop.first %}
union all
{%- endif %}
select
    {{ literal(row[0]) }} as table_name,
    {{ literal(row[6] | trim | replace('\n', ' ')) }} as table_description,
    {{ literal(row[1]) }} as column_name,
    {{ literal(row[2]) }} as type,
    {{ literal(row[3]) }} as unit,
    {{ literal(row[4] | trim | replace('\n', ' ')) }} as description,
    {{ row[5] }} as position
{%- else %}
select
    null as table_name
where false
{%- endfor %}
