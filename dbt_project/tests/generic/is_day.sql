{% test is_day(model, column_name) %}
select cast({{ column_name }} as string) as {{ column_name }}
from {{ model }}
where not {{ matches('cast(' ~ column_name ~ ' as string)', '^[0-9]{4}-[0-9]{2}-[0-9]{2}$') }}
{% endtest %}
