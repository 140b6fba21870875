-- One row per wave and question that the crosswalk says was asked.
select
    question_map.survey_year,
    question_map.question_id,
    count(distinct mart.trust) as trusts,
    max(waves.trusts) as expected_trusts,
    count(*) filter (
        where waves.trusts > 1 and not mart.suppressed and (mart.difference is null or mart.se is null)
    ) as unreadable,
    coalesce(max(abs(mart.difference)), 0) as largest_difference,
    case when coalesce(max(mart.difference), 0) >= 0 and coalesce(min(mart.difference), 0) <= 0 then 1 else 0 end
        as trusts_on_both_sides
from crosswalk.question_map
left join marts.trust_comparisons as mart
    on
        question_map.survey_year = mart.survey_year
        and question_map.question_id = mart.question_id
left join marts.waves on question_map.survey_year = waves.survey_year
group by question_map.survey_year, question_map.question_id
order by question_map.survey_year, question_map.question_id
