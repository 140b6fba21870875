with

waves as (

    select * from {{ ref('waves') }}

),

provenances as (

    select
        survey_year,
        min(provenance) as data_provenance
    from {{ source('raw', 'files') }}
    group by survey_year

),

final as (

    select
        waves.*,
        provenances.data_provenance
    from waves
    inner join provenances on waves.survey_year = provenances.survey_year

)

select * from final
