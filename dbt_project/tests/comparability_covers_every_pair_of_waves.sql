with

asked as (

    select
        question_id,
        survey_year as to_year,
        lag(survey_year) over (partition by question_id order by survey_year asc nulls last) as from_year
    from {{ ref('question_map') }}

),

pairs as (

    select * from asked
    where from_year is not null

)

select
    coalesce(pairs.question_id, comparability.question_id) as question_id,
    coalesce(pairs.from_year, comparability.from_year) as from_year,
    coalesce(pairs.to_year, comparability.to_year) as to_year,
    case
        when comparability.question_id is null then 'add the pair to comparability'
        else 'these are no adjacent waves of the question: correct or remove the row of comparability'
    end as what_to_do
from pairs
full outer join {{ ref('comparability') }} as comparability
    on
        pairs.question_id = comparability.question_id
        and pairs.from_year = comparability.from_year
        and pairs.to_year = comparability.to_year
where pairs.question_id is null or comparability.question_id is null
order by 1, 2, 3
