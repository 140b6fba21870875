{#-
    The one reading of the respondents: every later number follows from these counts. One grouping set a question,
    and one without a question that counts the persons themselves, by outcome. What describes a person is grouped as
    numbers, which takes two thirds of the time of texts.
-#}
-- depends_on: {{ ref('questions') }} {{ ref('routing') }} {{ ref('waves') }} {{ ref('age_bands') }} {{ ref('genders') }}
{%- set questions = question_ids() %}
{%- set routed = routed_question_ids() %}
{%- set bands = crosswalk_rows('select distinct age_band from ' ~ ref('age_bands') ~ ' order by age_band')
    | map(attribute='age_band') | list + ['under_minimum', 'unknown'] %}
{%- set genders = crosswalk_rows('select gender from ' ~ ref('genders') ~ ' order by position')
    | map(attribute='gender') | list + ['unknown'] %}
{%- set person = 'survey_year, trust, person_status, frame_gender, frame_age_band, gender, age_band' %}
{%- set supplied = crosswalk_rows("select 1 as one from " ~ ref('waves') ~ " where weighting_scheme = 'supplied'") %}
with

persons as (

    select
        survey_year,
        trust,
        person_status,
        outcome,
        supplied_weight,
        -- A cell needs both.
        case when frame_age_band <> 'under_minimum' then {{ number_of('frame_gender', genders) }} end as frame_gender,
        case
            when frame_gender is not null or frame_age_band = 'under_minimum'
                then {{ number_of('frame_age_band', bands) }}
        end as frame_age_band,
        {{ number_of('gender', genders) }} as gender,
        {{ number_of('age_band', bands) }} as age_band
        {%- for question in questions %},
        answer_{{ question }}
        {%- endfor %}
        {%- for question in routed %},
        past_{{ question }}
        {%- endfor %}
    from {{ ref('int_persons') }}

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
        survey_year,
        trust,
        {{ cell(value_of('frame_gender', genders), value_of('frame_age_band', bands)) }} as cell,
        {{ value_of('age_band', bands) }} as age_band,
        {{ value_of('gender', genders) }} as gender,
        person_status,
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
