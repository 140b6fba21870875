with

vintages as (

    select
        *,
        row_number() over (
            partition by question_id, survey_year, response order by vintage desc nulls last
        ) = 1 as is_newest
    from {{ ref('published_figures') }}

)

select
    question_id,
    survey_year,
    response,
    vintage,
    status,
    case
        when is_newest then 'no later vintage superseded it: its status is final'
        else 'a later vintage is in the seed: its status is superseded'
    end as what_to_do
from vintages
where is_newest <> (status = 'final')
order by question_id, survey_year, response, vintage
