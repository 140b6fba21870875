{% macro letters_and_digits(label) -%}
    translate(lower({{ label }}), ' {{ '\u00a0\u2013\u2014\u2018\u2019\u201c\u201d\u2026' }}.,;:!?()[]/+&*"''-_', '')
{%- endmacro %}

{% macro digits(label) -%}
    translate({{ letters_and_digits(label) }}, 'abcdefghijklmnopqrstuvwxyz', '')
{%- endmacro %}
