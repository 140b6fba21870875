with

responses as (

    select * from {{ ref('stg_responses') }}

),

repeated as (

    select
        survey_year,
        trust,
        record
    from responses
    group by survey_year, trust, record
    having count(*) > 1 and record is not null

),

copies as (

    select
        responses.survey_year,
        responses.raw_row,
        row_number() over (
            partition by responses.survey_year, responses.trust, responses.record
            order by responses.questions_answered desc nulls last, responses.raw_row asc nulls last
        ) as place
    from responses
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
