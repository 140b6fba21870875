"""The hand-worked survey: what the warehouse makes of it, against figures worked out without the warehouse."""

import csv
from collections import defaultdict
from fractions import Fraction
from typing import Any

import pytest
from conftest import FIXTURES, SEEDS, Warehouse

EXPECTED = FIXTURES / "hand_worked" / "expected"
STATUSES = [row.split(",")[0] for row in (SEEDS / "exclusion_reasons.csv").read_text().splitlines()[1:]]


def expected(name: str) -> list[dict[str, str]]:
    with (EXPECTED / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    return rows


def found(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    rows = warehouse.query(sql)
    return list(rows.astype(object).where(rows.notna(), None).itertuples(index=False, name=None))


def near(fraction: str) -> Any:
    """The double nearest to an exact fraction, give or take the last digits."""
    return pytest.approx(float(Fraction(fraction)), rel=1e-12, abs=1e-12)


def test_every_status_of_every_question_has_the_counted_number_of_rows(hand_worked: Warehouse) -> None:
    rows = found(hand_worked, "select survey_year, question_id, status, n from marts.exclusions order by all")

    assert rows == sorted(
        (int(row["survey_year"]), row["question_id"], row["status"], int(row["n"])) for row in expected("exclusions")
    )


@pytest.mark.parametrize("wave", [2013, 2014])
def test_the_survey_has_each_status_in_each_wave_it_can_occur_in(hand_worked: Warehouse, wave: int) -> None:
    statuses = found(
        hand_worked, f"select distinct status from marts.exclusions where survey_year = {wave} order by all"
    )

    assert {status for (status,) in statuses} == set(STATUSES)


def test_cells_merge_as_the_rules_say_and_weights_are_the_worked_fractions(hand_worked: Warehouse) -> None:
    rows = found(
        hand_worked,
        "select survey_year, trust, cell, weight_cell, sampled, responded, trust_weight, population_weight "
        "from intermediate.int_weight_cells order by survey_year, trust, cell",
    )

    assert rows == [
        (
            int(row["survey_year"]),
            row["trust"],
            row["cell"],
            row["weight_cell"],
            int(row["sampled"]),
            int(row["responded"]),
            near(row["trust_weight"]),
            near(row["population_weight"]),
        )
        for row in expected("weight_cells")
    ]


def test_valid_answers_are_counted_by_weight_cell(hand_worked: Warehouse) -> None:
    rows = found(
        hand_worked,
        "select survey_year, question_id, trust, weight_cell, response, cast(sum(n) as bigint) "
        "from intermediate.int_cube where status = 'answered' group by all order by all",
    )

    assert rows == sorted(
        (
            int(row["survey_year"]),
            row["question_id"],
            row["trust"],
            row["weight_cell"],
            row["response"],
            int(row["n"]),
        )
        for row in expected("answers")
    )


def test_shares_are_the_worked_fractions_with_each_kind_of_weights(hand_worked: Warehouse) -> None:
    rows = found(
        hand_worked,
        "select survey_year, question_id, response, scheme, pct, base from intermediate.int_estimates "
        "order by survey_year, question_id, response, scheme",
    )

    assert rows == [
        (
            int(row["survey_year"]),
            row["question_id"],
            row["response"],
            row["scheme"],
            near(row["pct"]),
            int(row["base"]),
        )
        for row in sorted(
            expected("estimates"),
            key=lambda row: (row["survey_year"], row["question_id"], row["response"], row["scheme"]),
        )
    ]


def test_the_worked_shares_follow_from_the_worked_counts_and_weights() -> None:
    """No warehouse: that the tables of the fixture do not contradict each other."""
    weights = {}
    for row in expected("weight_cells"):
        trust, population = Fraction(row["trust_weight"]), Fraction(row["population_weight"])
        key = row["survey_year"], row["trust"], row["weight_cell"]
        weights[key] = {"none": Fraction(1), "trust": trust, "trust_population": trust * population}
    sums: defaultdict[tuple[str, str, str], defaultdict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for row in expected("answers"):
        for scheme, weight in weights[row["survey_year"], row["trust"], row["weight_cell"]].items():
            sums[row["survey_year"], row["question_id"], scheme][row["response"]] += int(row["n"]) * weight

    for row in expected("estimates"):
        counted = sums[row["survey_year"], row["question_id"], row["scheme"]]
        assert Fraction(row["pct"]) == 100 * counted[row["response"]] / sum(counted.values())


def test_the_worked_weights_obey_their_definition() -> None:
    """No warehouse: each trust's weights sum to respondents / trusts, each cell's to its share of the sample."""
    by_wave = defaultdict(list)
    for row in expected("weight_cells"):
        by_wave[row["survey_year"]].append(row)
    for rows in by_wave.values():
        trusts = sorted({row["trust"] for row in rows})
        respondents = sum(int(row["responded"]) for row in rows)
        for trust in trusts:
            own = [row for row in rows if row["trust"] == trust]
            weight = sum(
                int(row["responded"]) * Fraction(row["trust_weight"]) * Fraction(row["population_weight"])
                for row in own
            )
            assert weight == Fraction(respondents, len(trusts))
            known = [row for row in own if row["cell"] != "unknown"]
            sampled = sum(int(row["sampled"]) for row in known)
            responded = sum(int(row["responded"]) for row in known)
            for cell in {row["weight_cell"] for row in known}:
                members = [row for row in known if row["weight_cell"] == cell]
                share = Fraction(sum(int(row["sampled"]) for row in members), sampled)
                weighted = sum(int(row["responded"]) * Fraction(row["population_weight"]) for row in members)
                assert weighted / responded == share


def test_response_rates_are_the_worked_fractions(hand_worked: Warehouse) -> None:
    """The country's are exact; a trust's are rounded to 0.1 and do not tell how many had which outcome."""
    rows = found(
        hand_worked,
        "select survey_year, geography_code, sampled, undeliverable, not_eligible, responded, "
        "response_rate, adjusted_response_rate from marts.response_rates order by survey_year, geography_code",
    )
    worked = expected("response_rates")

    assert len(rows) == len(worked)
    for row, line in zip(rows, worked, strict=True):
        national = line["geography_code"].startswith("E")
        assert row[:2] == (int(line["survey_year"]), line["geography_code"])
        assert row[2] == int(line["sampled"])
        assert row[3:5] == ((int(line["undeliverable"]), int(line["not_eligible"])) if national else (None, None))
        assert row[5] == int(line["responded"])
        for rate, fraction in zip(row[6:], (line["response_rate"], line["adjusted_response_rate"]), strict=True):
            exact = Fraction(fraction)
            assert rate == (near(fraction) if national else round(float(exact), 1))


def test_of_two_copies_the_fuller_one_is_kept_and_the_first_of_equals(hand_worked: Warehouse) -> None:
    dropped = found(hand_worked, "select survey_year, raw_row from intermediate.int_duplicates order by all")

    # The first data row of each file is an emptier copy of a later row; the others repeat an earlier row.
    rows = {2013: "0201 ", 2014: "second form"}
    later = found(
        hand_worked,
        "select survey_year, _row from raw.responses "
        f"where recno = '{rows[2013]}' or note = '{rows[2014]}' order by all",
    )
    assert len(later) == 2
    assert dropped == sorted([(2013, 1), (2014, 1), *later])


@pytest.mark.parametrize(
    ("wave", "question", "shown"),
    [
        (2013, "support_accommodation", False),
        (2013, "support_work", True),
        (2014, "support_work", False),
        (2014, "contact_care_coordinator", True),
    ],
)
def test_a_share_is_shown_only_from_thirty_answers_on(
    hand_worked: Warehouse, wave: int, question: str, shown: bool
) -> None:
    rows = found(
        hand_worked,
        "select pct is not null and base is not null, pct is null and base is null, suppressed "
        f"from marts.estimates where survey_year = {wave} and question_id = '{question}' and breakdown = 'all' "
        "and geography_code = 'E92000001'",
    )

    assert rows and set(rows) == {(shown, not shown, not shown)}


def test_a_reworded_question_shows_its_break_and_a_kept_one_none(hand_worked: Warehouse) -> None:
    rows = found(
        hand_worked,
        "select survey_year, series_break_before from marts.contact_care_coordinator order by all",
    )
    verdicts = found(
        hand_worked,
        "select question_id, comparability from marts.question_wording where survey_year = 2014 order by all",
    )

    assert rows == [(2013, False), (2014, True)]
    assert dict(verdicts) == {
        "contact_care_coordinator": "break in the series before this wave",
        "in_charge_known": "break in the series before this wave",
        "in_charge_type": "no earlier wave",
        "overall_experience": "comparable with the wave before",
        "support_work": "break in the series before this wave",
    }


def test_final_figures_agree_and_a_superseded_one_may_differ(hand_worked: Warehouse) -> None:
    rows = found(hand_worked, "select vintage_status, agrees, count(*) from marts.reconciliation group by all")

    assert sorted(rows) == [("final", True, 9), ("superseded", False, 1)]
