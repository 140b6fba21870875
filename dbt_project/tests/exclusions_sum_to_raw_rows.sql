select
    files.survey_year,
    questions.question_id,
    files.row_count as raw_rows,
    coalesce(sum(exclusions.n), 0) as accounted_for
from {{ source('raw', 'files') }} as files
cross join {{ ref('questions') }} as questions
left join {{ ref('exclusions') }} as exclusions
    on
        files.survey_year = exclusions.survey_year
        and questions.question_id = exclusions.question_id
where files.file_role = 'responses'
group by files.survey_year, questions.question_id, files.row_count
having coalesce(sum(exclusions.n), 0) <> files.row_count
order by files.survey_year, questions.question_id
