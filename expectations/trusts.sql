-- One row per wave of the crosswalk.
select
    waves.survey_year,
    count(distinct mart.trust) as trusts,
    max(marts_waves.trusts) as expected_trusts,
    (
        select count(*)
        from crosswalk.trust_mergers
        where
            trust_mergers.survey_year = waves.survey_year
            and (
                trust_mergers.trust not in (
                    select there.trust from marts.trusts as there
                    where there.survey_year = waves.survey_year and there.formed_by_merger
                )
                or trust_mergers.predecessor not in (select there.trust from marts.trusts as there)
            )
    ) as mergers_missing,
    (
        select count(*)
        from crosswalk.trust_mergers
        inner join marts.trusts as there on trust_mergers.predecessor = there.trust
        where
            there.survey_year = waves.survey_year
            and trust_mergers.survey_year <= waves.survey_year
            and trust_mergers.predecessor <> trust_mergers.trust
    ) as gone_but_there
from crosswalk.waves
left join marts.trusts as mart on waves.survey_year = mart.survey_year
left join marts.waves as marts_waves on waves.survey_year = marts_waves.survey_year
group by waves.survey_year
order by waves.survey_year
