-- One row per correction of the crosswalk or of the mart; none where no source error is known.
select
    coalesce(mart.survey_year, corrections.survey_year) as survey_year,
    coalesce(mart.correction, corrections.correction) as correction,
    count(corrections.correction) as rows_expected,
    count(mart.correction) as rows_found
from crosswalk.corrections
full outer join marts.corrections as mart
    on
        corrections.correction = mart.correction
        and corrections.survey_year = mart.survey_year
        and corrections.file_role = mart.file_role
        and corrections.raw_column = mart.raw_column
        and corrections.action = mart.action
group by all
order by 1, 2
