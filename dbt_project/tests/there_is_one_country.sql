select
    count(*) as geographies,
    'the seed geographies has one row, the whole area that the survey covers' as what_to_do
from {{ ref('geographies') }}
having count(*) <> 1
