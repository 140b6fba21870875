with

waves as (

    select * from {{ ref('int_waves') }}

),

final as (

    select
        {{ literal(env_var('CMHS_RELEASE_ID', 'unpublished')) }} as release_id,
        cast({{ literal(env_var('CMHS_PUBLISHED_AT', '1970-01-01 00:00:00')) }} as timestamp) as published_at,
        {{ literal(env_var('CMHS_GIT_COMMIT', 'unknown')) }} as git_commit,
        min(data_provenance) as provenance,
        case
            when min(survey_year) = max(survey_year) then cast(min(survey_year) as string)
            else
                cast(min(survey_year) as string)
                || '-' || cast(max(survey_year) as string)
        end as waves,
        cast(count(*) as integer) as wave_count,
        {{ literal(env_var('CMHS_STORAGE_VERSION', 'unknown')) }} as storage_version,
        cast({{ var('restatement_tolerance') }} as double) as restatement_tolerance
    from waves

)

select * from final
