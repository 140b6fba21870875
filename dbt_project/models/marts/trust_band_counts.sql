with

bands as (

    select * from {{ ref('int_trust_bands') }}

),

questions as (

    select * from {{ ref('questions') }}

),

responses as (

    select * from {{ ref('responses') }}

),

waves as (

    select * from {{ ref('int_waves') }}

),

counted as (

    select
        survey_year,
        question_id,
        response,
        max(trusts) as trusts,
        max(over_dispersion) as over_dispersion,
        max(sd_between_trusts) as sd_between_trusts,
        count_if(band = 'better') as better,
        count_if(band = 'about_the_same') as about_the_same,
        count_if(band = 'worse') as worse
    from bands
    group by survey_year, question_id, response

),

final as (

    select
        counted.survey_year,
        counted.question_id,
        questions.label as question_label,
        counted.response,
        responses.label as response_label,
        responses.position as response_position,
        responses.better_when,
        counted.trusts,
        cast(counted.better as bigint) as better,
        cast(counted.about_the_same as bigint) as about_the_same,
        cast(counted.worse as bigint) as worse,
        cast(0.05 as double) * counted.trusts as flagged_by_chance,
        round(counted.over_dispersion, 2) as over_dispersion,
        round(counted.sd_between_trusts, 1) as sd_between_trusts,
        waves.data_provenance
    from counted
    inner join questions on counted.question_id = questions.question_id
    inner join responses
        on
            counted.question_id = responses.question_id
            and counted.response = responses.response
    inner join waves on counted.survey_year = waves.survey_year

)

select * from final
