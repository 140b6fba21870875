-- depends_on: {{ ref('waves') }} {{ ref('age_bands') }} {{ ref('genders') }} {{ ref('geographies') }} {{ ref('key_variables') }}
-- depends_on: {{ ref('key_codes') }} {{ ref('questions') }} {{ ref('responses') }} {{ ref('question_map') }} {{ ref('response_map') }}
-- depends_on: {{ ref('routing') }} {{ ref('ignored_columns') }} {{ ref('merged_strata') }} {{ ref('comparability') }}
-- depends_on: {{ ref('exclusion_reasons') }} {{ ref('published_figures') }} {{ ref('revisions') }} {{ ref('expected_rows') }}
-- depends_on: {{ ref('trust_mergers') }} {{ ref('guideline_statements') }} {{ ref('guideline_items') }} {{ ref('corrections') }}
-- depends_on: {{ ref('drafts') }}
{#- What a correction looks for may be one person's answer or record number: it is not shown. -#}
{%- set of_persons = ['found', 'condition_value', 'replacement'] -%}
{%- set columns = [] -%}
{%- if execute -%}
    {%- for seed in graph.nodes.values() | selectattr('resource_type', 'equalto', 'seed') | sort(attribute='name') -%}
        {%- for column, type in seed.config.column_types.items() if type == 'varchar' -%}
            {%- do columns.append({'relation': ref(seed.name), 'seed': seed.name, 'name': column}) -%}
        {%- endfor -%}
    {%- endfor -%}
{%- endif %}
{%- for column in columns %}
    select
        '{{ column.seed }}' as seed,
        '{{ column.name }}' as column_name,
        {{ 'cast(null as string)' if column.seed == 'corrections' and column.name in of_persons else column.name }} as cell,
        'it has invisible characters or line breaks, or white space around it: type it anew' as what_to_do
    from {{ column.relation }}
    where {{ not_plain(column.name) }}
    {{ 'union all' if not loop.last }}
{%- else %}
    select null as seed
    where false
{%- endfor %}
