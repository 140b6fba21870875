with

allowed as (

    select
        'outcome' as kind,
        cast(null as integer) as survey_year,
        outcomes.value
    from (
        select 'returned' as value
        union all
        select 'undelivered' as value
        union all
        select 'died' as value
        union all
        select 'too_ill_or_opted_out' as value
        union all
        select 'not_eligible' as value
        union all
        select 'not_returned' as value
    ) as outcomes
    union all
    select
        'gender' as kind,
        cast(null as integer) as survey_year,
        gender as value
    from {{ ref('genders') }}
    union all
    select
        'age' as kind,
        survey_year,
        age_band as value
    from {{ ref('age_bands') }}
    union all
    select
        'age' as kind,
        cast(null as integer) as survey_year,
        'under_minimum' as value

)

select
    key_codes.survey_year,
    key_codes.file_role,
    key_codes.variable,
    key_codes.code,
    key_codes.value,
    'correct the value' as what_to_do
from {{ ref('key_codes') }} as key_codes
left join allowed
    on
        key_codes.value = allowed.value
        and key_codes.variable like '%' || allowed.kind
        and coalesce(allowed.survey_year, key_codes.survey_year) = key_codes.survey_year
where allowed.value is null and key_codes.value <> 'missing'
order by key_codes.survey_year, key_codes.file_role, key_codes.variable, key_codes.code
