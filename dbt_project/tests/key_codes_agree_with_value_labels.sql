-- What a file calls a code may not be what the crosswalk calls another value: a gender by its label, an outcome by its
-- id, an age band by the ages in its label. A code that is no number is its own label where it has none.
with

labelled as (

    select
        key_codes.survey_year,
        key_codes.file_role,
        key_codes.variable,
        key_codes.code,
        key_codes.value,
        max(coalesce(
            value_labels.label,
            case when {{ matches('key_codes.code', '[^0-9.-]') }} then key_codes.code end
        )) as label
    from {{ ref('key_codes') }} as key_codes
    inner join {{ ref('key_variables') }} as key_variables
        on
            key_codes.survey_year = key_variables.survey_year
            and key_codes.file_role = key_variables.file_role
            and key_codes.variable = key_variables.variable
    left join {{ source('raw', 'value_labels') }} as value_labels
        on
            key_codes.survey_year = value_labels.survey_year
            and key_codes.file_role = value_labels.file_role
            and lower(trim(key_variables.raw_column)) = lower(trim(value_labels.raw_column))
            and key_codes.code = trim(value_labels.code)
    group by key_codes.survey_year, key_codes.file_role, key_codes.variable, key_codes.code, key_codes.value

),

names as (

    select
        '%gender' as variables,
        cast(null as integer) as survey_year,
        gender as value,
        {{ letters_and_digits('label') }} as name
    from {{ ref('genders') }}
    union all
    select
        '%age' as variables,
        survey_year,
        age_band as value,
        {{ digits('label') }} as name
    from {{ ref('age_bands') }}
    union all
    select distinct
        'outcome' as variables,
        cast(null as integer) as survey_year,
        value,
        {{ letters_and_digits('value') }} as name
    from {{ ref('key_codes') }}
    where variable = 'outcome'

),

called as (

    select
        labelled.*,
        names.value as called
    from labelled
    inner join names
        on
            labelled.variable like names.variables
            and coalesce(names.survey_year, labelled.survey_year) = labelled.survey_year
            and names.name <> ''
            and names.name = case
                when names.variables = '%age' then {{ digits('labelled.label') }}
                else {{ letters_and_digits('labelled.label') }}
            end

)

select
    called.survey_year,
    called.file_role,
    called.variable,
    called.code,
    called.value,
    called.label as label_in_file,
    'the file calls it ' || called.called || ': correct the value or the code' as what_to_do
from called
where called.value <> called.called
order by called.survey_year, called.file_role, called.variable, called.code
