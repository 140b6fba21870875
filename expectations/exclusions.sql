-- One row per wave and question of the crosswalk.
select
    waves.survey_year,
    questions.question_id,
    coalesce(min(mart.n), 0) as smallest_n,
    case
        when count(*) filter (where mart.status = 'not_asked') > 0 then null
        else coalesce(sum(mart.n) filter (where mart.status = 'answered'), 0)
    end as answered,
    100.0::double * coalesce(sum(mart.n) filter (where mart.status in ('multiple', 'out_of_range')), 0)
    / nullif(
        sum(mart.n) filter (
            where mart.status in ('multiple', 'out_of_range', 'dont_know', 'not_applicable', 'answered')
        ),
        0
    ) as pct_not_readable,
    100.0::double * coalesce(sum(mart.n) filter (where mart.status = 'duplicate'), 0) / nullif(sum(mart.n), 0)
        as pct_duplicate,
    waves.maximum_unreadable,
    waves.maximum_duplicates
from crosswalk.waves
cross join crosswalk.questions
left join marts.exclusions as mart
    on
        waves.survey_year = mart.survey_year
        and questions.question_id = mart.question_id
group by waves.survey_year, questions.question_id, waves.maximum_unreadable, waves.maximum_duplicates
order by waves.survey_year, questions.question_id
