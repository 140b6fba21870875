-- Where a file holds ages or years of birth, the bands cover all ages from the youngest on, each beginning a year after
-- the one before. Where a wave's files hold bands instead, the ages may be blank, but only all of them.
with

bands as (

    select
        *,
        lag(to_age) over (partition by survey_year order by position asc nulls last, age_band asc) as end_before,
        row_number() over (partition by survey_year order by position asc nulls last, age_band asc) as place,
        count(*) over (partition by survey_year) as bands,
        count(from_age) over (partition by survey_year) + count(to_age) over (partition by survey_year) as ages
    from {{ ref('age_bands') }}

),

in_years as (

    select distinct survey_year
    from {{ ref('key_variables') }}
    where measured_as in ('years', 'birth_year')

),

judged as (

    select
        bands.*,
        case
            when bands.from_age is null then 'its from_age is blank: it is needed to tell who is in it'
            when bands.to_age is null and bands.place < bands.bands
                then 'its to_age is blank, but only the last band is open: fill it in'
            when bands.to_age < bands.from_age then 'its to_age is lower than its from_age: correct them'
            when bands.place > 1 and bands.from_age <> bands.end_before + 1
                then 'it does not begin a year after the band before, by position: correct the ages or the positions'
            when bands.place = 1 and bands.from_age <> waves.minimum_age
                then 'it does not begin with minimum_age of the wave: correct one of them'
        end as what_to_do
    from bands
    inner join {{ ref('waves') }} as waves on bands.survey_year = waves.survey_year
    left join in_years on bands.survey_year = in_years.survey_year
    where in_years.survey_year is not null or bands.ages > 0

)

select
    survey_year,
    age_band,
    from_age,
    to_age,
    what_to_do
from judged
where what_to_do is not null
order by survey_year, age_band
