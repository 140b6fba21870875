{% test is_identifier(model, column_name) %}
select {{ column_name }}
from {{ model }}
where not {{ matches(column_name, '^[a-z][a-z0-9_]*$') }}
{% endtest %}
