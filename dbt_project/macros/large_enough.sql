{% macro large_enough(cell) -%}
    {{ cell }}.run_responded >= {{ cell }}.min_cell and {{ cell }}.run_sampled > 0
{%- endmacro %}
