{#-
    One wave after the other: the records of all of them at once would take several times the memory.
-#}
-- depends_on: {{ ref('waves') }}
{%- set waves = crosswalk_rows('select survey_year from ' ~ ref('waves') ~ ' order by survey_year')
    | map(attribute='survey_year') | list %}
with
{% for wave in waves %}
repeated_{{ wave }} as (

    select
        survey_year,
        trust,
        record
    from {{ ref('stg_records') }}
    where survey_year = {{ wave }} {{- only_after('repeated_' ~ waves[loop.index0 - 1]) if not loop.first }}
    group by survey_year, trust, record
    having count(*) > 1 and record is not null

),
{% endfor %}
repeated as (

    select
        survey_year,
        trust,
        record
    from {{ ref('stg_records') }}
    where false
    {%- for wave in waves %}
    union all
    select * from repeated_{{ wave }}
    {%- endfor %}

),

copies as (

    select
        responses.survey_year,
        responses.raw_row,
        row_number() over (
            partition by responses.survey_year, responses.trust, responses.record
            order by responses.questions_answered desc nulls last, responses.raw_row asc nulls last
        ) as place
    from {{ ref('stg_responses') }} as responses
    inner join repeated
        on
            responses.survey_year = repeated.survey_year
            and responses.trust = repeated.trust
            and responses.record = repeated.record

),

final as (

    select
        survey_year,
        raw_row
    from copies
    where place > 1

)

select * from final
