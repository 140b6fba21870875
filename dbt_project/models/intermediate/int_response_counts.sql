{#-
    The one reading of the respondents: every later number follows from these counts. One grouping set a question,
    and one without a question that counts the persons themselves, by outcome.
-#}
-- depends_on: {{ ref('questions') }} {{ ref('routing') }} {{ ref('waves') }}
{%- set questions = question_ids() %}
{%- set routed = routed_question_ids() %}
{%- set person = 'survey_year, trust, cell, age_band, gender, person_status' %}
{%- set supplied = crosswalk_rows("select 1 as one from " ~ ref('waves') ~ " where weighting_scheme = 'supplied'") %}
with

persons as (

    select * from {{ ref('int_persons') }}

),

counted as (

    select
        {{ person }},
        outcome,
        {%- for question in questions %}
        answer_{{ question }},
        grouping(answer_{{ question }}) as without_{{ question }},
        {%- endfor %}
        {%- for question in routed %}
        past_{{ question }},
        {%- endfor %}
        count(*) as n,
        {%- if supplied %}
        sum(cast(supplied_weight as decimal(38, 18))) as weight_sum,
        sum(cast(supplied_weight * supplied_weight as decimal(38, 18))) as weight_square_sum
        {%- else %}
        cast(null as decimal(38, 18)) as weight_sum,
        cast(null as decimal(38, 18)) as weight_square_sum
        {%- endif %}
    from persons
    group by grouping sets (
        ({{ person }}, outcome)
        {%- for question in questions %},
        ({{ person }}, answer_{{ question }}{{ ', past_' ~ question if question in routed }})
        {%- endfor %}
    )

),

final as (

    select
        {{ person }},
        outcome,
        case
            {%- for question in questions %}
            when without_{{ question }} = 0 then {{ literal(question) }}
            {%- endfor %}
        end as question_id,
        case
            {%- for question in questions %}
            when without_{{ question }} = 0 then answer_{{ question }}
            {%- endfor %}
        end as code,
        {%- for question in routed %}
        {{ 'case' if loop.first }}
            when without_{{ question }} = 0 then past_{{ question }}
        {{ 'else false end as sent_past,' if loop.last }}
        {%- else %}
        false as sent_past,
        {%- endfor %}
        n,
        weight_sum,
        weight_square_sum
    from counted

)

select * from final
