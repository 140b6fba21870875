{% test no_nulls(model, column_name) %}
select
    survey_year,
    count(*) as n
from {{ model }}
where {{ column_name }} is null
group by survey_year
{% endtest %}
