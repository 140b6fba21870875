select
    provenance,
    count(*) as files
from {{ source('raw', 'files') }}
group by provenance
having (select count(distinct files.provenance) from {{ source('raw', 'files') }} as files) > 1
