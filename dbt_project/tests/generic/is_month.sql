{% test is_month(model, column_name) %}
select {{ column_name }}
from {{ model }}
where not {{ matches(column_name, '^[0-9]{4}-(0[1-9]|1[0-2])$') }}
{% endtest %}
