-- A row that the machine proposed counts once a person has looked at it: both who and when are there, or it is open.
with

judged as (

    select
        survey_year,
        seed,
        row,
        certainty,
        evidence,
        case
            when reviewer is null and reviewed_on is null
                then 'nobody has reviewed it: correct the row in its seed, then fill in reviewer and reviewed_on here'
            when reviewer is null then 'a date without a reviewer: fill in who reviewed it'
            when reviewed_on is null then 'a reviewer without a date: fill in reviewed_on, as YYYY-MM-DD'
            when
                not {{ matches('reviewed_on', '^[0-9]{4}-[0-9]{2}-[0-9]{2}$') }}
                or try_cast(reviewed_on as date) is null
                then 'reviewed_on is no day: write it as YYYY-MM-DD'
        end as what_to_do
    from {{ ref('drafts') }}

)

select *
from judged
where what_to_do is not null
order by survey_year, seed, row
