with

observed as (

    select distinct
        survey_year,
        question_id,
        code
    from {{ ref('int_response_counts') }}
    where code is not null

),

declared as (

    select
        question_map.survey_year,
        question_map.question_id,
        trim(value_labels.code) as code
    from {{ ref('question_map') }} as question_map
    inner join {{ source('raw', 'value_labels') }} as value_labels
        on
            question_map.survey_year = value_labels.survey_year
            and lower(trim(question_map.raw_column)) = lower(trim(value_labels.raw_column))
    where value_labels.file_role = 'responses'

),

labelled as (

    select distinct
        survey_year,
        question_id
    from declared

)

select
    response_map.survey_year,
    response_map.question_id,
    response_map.code,
    case
        when question_map.question_id is null then 'the question is not in question_map for this wave'
        else 'no answer has this code and no value label declares it: correct or remove the row'
    end as what_to_do
from {{ ref('response_map') }} as response_map
left join {{ ref('question_map') }} as question_map
    on
        response_map.survey_year = question_map.survey_year
        and response_map.question_id = question_map.question_id
left join observed
    on
        response_map.survey_year = observed.survey_year
        and response_map.question_id = observed.question_id
        and response_map.code = observed.code
left join declared
    on
        response_map.survey_year = declared.survey_year
        and response_map.question_id = declared.question_id
        and response_map.code = declared.code
left join labelled
    on
        response_map.survey_year = labelled.survey_year
        and response_map.question_id = labelled.question_id
where
    question_map.question_id is null
    or (
        observed.code is null
        and declared.code is null
        and (labelled.question_id is not null or response_map.treatment <> 'answered')
    )
order by response_map.survey_year, response_map.question_id, response_map.code
