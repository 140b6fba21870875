{#-
    The one reading of the respondents: every later number follows from these counts. One grouping set a question, and
    one query without questions that counts the persons themselves, by outcome. Answers are grouped by one number for
    everything that describes a person, which takes half the time of grouping by its parts. Blank forms that were not
    returned, most rows of a file that is the whole sample, need no counting by question.
-#}
-- depends_on: {{ ref('questions') }} {{ ref('routing') }} {{ ref('waves') }}
{%- set questions = question_ids() %}
{%- set routed = routed_question_ids() %}
{%- set parts = {
    'survey_year': 'survey_year',
    'trust': 'trust',
    'cell': cell('frame_gender', 'frame_age_band'),
    'age_band': 'age_band',
    'gender': 'gender',
    'person_status': 'person_status'
} %}
{%- set supplied = crosswalk_rows("select 1 as one from " ~ ref('waves') ~ " where weighting_scheme = 'supplied'") %}
{%- set counts %}
        count(*) as n,
        {%- if supplied %}
        sum(cast(supplied_weight as decimal(38, 18))) as weight_sum,
        sum(cast(supplied_weight * supplied_weight as decimal(38, 18))) as weight_square_sum
        {%- else %}
        cast(null as decimal(38, 18)) as weight_sum,
        cast(null as decimal(38, 18)) as weight_square_sum
        {%- endif %}
{%- endset %}
with

persons as (

    select
        {%- for part in parts %}
        {{ parts[part] }}{{ ' as ' ~ part if parts[part] != part }},
        {%- endfor %}
        {{ number_of(parts.values() | list) }} as person,
        outcome,
        supplied_weight,
        {%- for question in questions %}
        answer_{{ question }},
        {%- endfor %}
        {%- for question in routed %}
        past_{{ question }},
        {%- endfor %}
        -- Who counts nowhere for another reason may have given answers, whose codes are checked.
        coalesce(person_status, '') = 'not_returned' and is_blank as is_blank
    from {{ ref('int_persons') }}

),

of_persons as (

    select
        {%- for part in parts %}
        {{ part }},
        {%- endfor %}
        person,
        outcome,
        is_blank,
        {{- counts }}
    from persons
    group by {{ parts.keys() | join(', ') }}, person, outcome, is_blank

),

kinds as (

    select distinct
        {%- for part in parts %}
        {{ part }},
        {%- endfor %}
        person
    from of_persons

),

of_answers as (

    select
        person,
        {%- for question in questions %}
        answer_{{ question }},
        grouping(answer_{{ question }}) as without_{{ question }},
        {%- endfor %}
        {%- for question in routed %}
        past_{{ question }},
        {%- endfor %}
        {{- counts }}
    from persons
    where not is_blank
    group by grouping sets (
        {%- for question in questions %}
        (person, answer_{{ question }}{{ ', past_' ~ question if question in routed }}){{ ',' if not loop.last }}
        {%- endfor %}
    )

),

united as (

    select
        {%- for part in parts %}
        {{ part }},
        {%- endfor %}
        outcome,
        is_blank,
        cast(null as string) as question_id,
        cast(null as string) as code,
        false as sent_past,
        n,
        weight_sum,
        weight_square_sum
    from of_persons
    union all
    select
        {%- for part in parts %}
        kinds.{{ part }},
        {%- endfor %}
        cast(null as string) as outcome,
        false as is_blank,
        case
            {%- for question in questions %}
            when of_answers.without_{{ question }} = 0 then {{ literal(question) }}
            {%- endfor %}
        end as question_id,
        case
            {%- for question in questions %}
            when of_answers.without_{{ question }} = 0 then of_answers.answer_{{ question }}
            {%- endfor %}
        end as code,
        {%- for question in routed %}
        {{ 'case' if loop.first }}
            when of_answers.without_{{ question }} = 0 then of_answers.past_{{ question }}
        {{ 'else false end as sent_past,' if loop.last }}
        {%- else %}
        false as sent_past,
        {%- endfor %}
        of_answers.n,
        of_answers.weight_sum,
        of_answers.weight_square_sum
    from of_answers
    inner join kinds on of_answers.person = kinds.person

)

select * from united
