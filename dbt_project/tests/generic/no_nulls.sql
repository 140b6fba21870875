{#- The column has a value in every row. Returns the number of rows without, not the rows: they are persons. -#}
{% test no_nulls(model, column_name) %}
select
    survey_year,
    count(*) as n
from {{ model }}
where {{ column_name }} is null
group by survey_year
{% endtest %}
