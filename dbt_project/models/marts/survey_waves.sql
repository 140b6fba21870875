{#- The seed has the name waves in the project; in the marts, the table has. -#}
{{ config(alias='waves') }}
with

waves as (

    select * from {{ ref('int_waves') }}

),

trusts as (

    select
        survey_year,
        count(*) as trusts,
        cast(sum(sampled) as bigint) as sampled,
        cast(sum(responded) as bigint) as responded
    from {{ ref('int_trusts') }}
    group by survey_year

),

asked as (

    select
        survey_year,
        count(*) as questions
    from {{ ref('question_map') }}
    group by survey_year

),

final as (

    select
        waves.survey_year,
        waves.wave_label,
        waves.comparable_block,
        waves.weighting_scheme,
        {{ scheme_label('waves.weighting_scheme') }} as weighting_scheme_label,
        waves.minimum_age,
        trusts.trusts,
        trusts.sampled,
        trusts.responded,
        asked.questions,
        waves.data_provenance
    from waves
    inner join trusts on waves.survey_year = trusts.survey_year
    inner join asked on waves.survey_year = asked.survey_year

)

select * from final
