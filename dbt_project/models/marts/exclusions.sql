with

cube as (

    select * from {{ ref('int_cube') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

questions as (

    select * from {{ ref('questions') }}

),

question_map as (

    select * from {{ ref('question_map') }}

),

exclusion_reasons as (

    select * from {{ ref('exclusion_reasons') }}

),

raw_rows as (

    select
        survey_year,
        row_count
    from {{ source('raw', 'files') }}
    where file_role = 'responses'

),

counted as (

    select
        survey_year,
        question_id,
        status,
        cast(sum(n) as bigint) as n
    from cube
    group by survey_year, question_id, status

),

not_asked as (

    select
        waves.survey_year,
        questions.question_id,
        'not_asked' as status,
        raw_rows.row_count as n
    from waves
    cross join questions
    inner join raw_rows on waves.survey_year = raw_rows.survey_year
    left join question_map
        on
            waves.survey_year = question_map.survey_year
            and questions.question_id = question_map.question_id
    where question_map.question_id is null

),

united as (

    select * from counted
    union all
    select * from not_asked

),

final as (

    select
        united.survey_year,
        united.question_id,
        questions.label as question_label,
        united.status,
        exclusion_reasons.description as status_description,
        exclusion_reasons.position as status_position,
        united.n,
        waves.data_provenance
    from united
    inner join waves on united.survey_year = waves.survey_year
    inner join questions on united.question_id = questions.question_id
    left join exclusion_reasons on united.status = exclusion_reasons.status

)

select * from final
