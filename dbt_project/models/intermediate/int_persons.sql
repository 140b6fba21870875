with

responses as (

    select * from {{ ref('stg_responses') }}

),

duplicates as (

    select * from {{ ref('int_duplicates') }}

),

waves as (

    select * from {{ ref('waves') }}

),

final as (

    select
        responses.*,
        case
            when duplicates.raw_row is not null then 'duplicate'
            when responses.outcome <> 'returned' or responses.outcome is null then 'not_returned'
            when responses.questionnaire_age_band = 'under_minimum' or responses.frame_age_band = 'under_minimum'
                then 'not_eligible'
            when responses.questions_answered < waves.min_answered then 'not_useable'
        end as person_status,
        coalesce(responses.questionnaire_age_band, responses.frame_age_band, 'unknown') as age_band,
        coalesce(responses.questionnaire_gender, responses.frame_gender, 'unknown') as gender
    from responses
    inner join waves on responses.survey_year = waves.survey_year
    left join duplicates
        on
            responses.survey_year = duplicates.survey_year
            and responses.raw_row = duplicates.raw_row

)

select * from final
