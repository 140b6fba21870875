{%- set figures = {
    'estimates': ['pct', 'se', 'ci_low', 'ci_high', 'base', 'effective_base', 'design_effect'],
    'means': ['mean_score', 'se', 'ci_low', 'ci_high', 'base', 'effective_base', 'design_effect'],
    'changes': ['change', 'se', 'ci_low', 'ci_high', 'p_value', 'p_adjusted', 'significant'],
    'trust_comparisons': ['pct', 'national_pct', 'difference', 'se', 'ci_low', 'ci_high', 'base', 'adjusted_z', 'band'],
    'guideline_alignment': ['pct_met', 'se', 'ci_low', 'ci_high', 'base'],
} -%}
{%- for table, columns in figures.items() %}
    select
        '{{ table }}' as table_name,
        count(*) as n
    from {{ ref(table) }}
    where
        suppressed <> (suppression_reason is not null)
        {%- for column in columns %}
            or (suppressed and {{ column }} is not null)
        {%- endfor %}
    having count(*) > 0
    {{ 'union all' if not loop.last }}
{%- endfor %}
order by 1
