{% test between(model, column_name, low, high) %}
select count(*) as n
from {{ model }}
where {{ column_name }} < {{ low }} or {{ column_name }} > {{ high }}
having count(*) > 0
{% endtest %}
