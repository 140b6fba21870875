with

files as (

    select * from {{ source('raw', 'files') }}

),

final as (

    select
        survey_year,
        path,
        file_role,
        format,
        encoding,
        sha256,
        bytes,
        row_count as rows,
        cast(column_count as bigint) as columns,
        study_number,
        edition,
        licence,
        provenance
    from files

)

select * from final
