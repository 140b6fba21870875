-- Letters and digits are compared, in any case: white space and punctuation change on the way from file to file.
with

declared as (

    select
        question_map.survey_year,
        question_map.question_id,
        trim(value_labels.code) as code,
        max(value_labels.label) as label_in_file
    from {{ ref('question_map') }} as question_map
    inner join {{ source('raw', 'value_labels') }} as value_labels
        on
            question_map.survey_year = value_labels.survey_year
            and lower(trim(question_map.raw_column)) = lower(trim(value_labels.raw_column))
    where value_labels.file_role = 'responses'
    group by question_map.survey_year, question_map.question_id, trim(value_labels.code)

)

select
    response_map.survey_year,
    response_map.question_id,
    response_map.code,
    response_map.label,
    declared.label_in_file,
    'the file calls this code otherwise: is the code list shifted? if not, copy the label of the file' as what_to_do
from {{ ref('response_map') }} as response_map
inner join declared
    on
        response_map.survey_year = declared.survey_year
        and response_map.question_id = declared.question_id
        and response_map.code = declared.code
where {{ letters_and_digits('response_map.label') }} <> {{ letters_and_digits('declared.label_in_file') }}
order by response_map.survey_year, response_map.question_id, response_map.code
