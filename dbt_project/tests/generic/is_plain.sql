{% test is_plain(model, column_name) %}
select {{ column_name }}
from {{ model }}
where {{ not_plain(column_name) }}
{% endtest %}
