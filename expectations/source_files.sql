-- One row per wave of the crosswalk.
select
    waves.survey_year,
    count(mart.path) filter (where mart.file_role = 'responses') as responses_files,
    min(mart.rows) as fewest_rows,
    min(length(mart.sha256)) as checksum_length,
    count(distinct mart.licence) as licences,
    count(distinct mart.provenance) as provenances
from crosswalk.waves
left join marts.source_files as mart on waves.survey_year = mart.survey_year
group by waves.survey_year
order by waves.survey_year
