{#- The seed has the name corrections in the project; in the marts, the table has. -#}
{{ config(alias='corrections') }}
with

corrections as (

    select * from {{ ref('corrections') }}

),

final as (

    select
        correction,
        survey_year,
        file_role,
        raw_column,
        action,
        reason,
        source,
        reviewer,
        reviewed_on
    from corrections

)

select * from final
