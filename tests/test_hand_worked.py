"""The hand-worked survey: what the warehouse makes of it, against figures worked out without the warehouse."""

import csv
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Any

import duckdb
import pytest
from conftest import FIXTURES, SEEDS, Warehouse
from scipy import stats

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
        "select survey_year, question_id, response, scheme, estimate, base from intermediate.int_estimates "
        "where geography_level <> 'trust' and breakdown = 'all' and measure = 'share' "
        "and (scheme <> 'trust_population' or is_published) order by survey_year, question_id, response, scheme",
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


# ---- precision ----
@dataclass(frozen=True)
class Person:
    """A respondent as far as a standard error needs one; no response where none is valid."""

    trust: str
    cell: str
    weight: Fraction
    age_band: str = ""
    gender: str = ""
    response: str | None = None


Measure = Callable[[Person], Fraction]


def respondents(wave: str, question: str, scheme: str, groups: bool) -> list[Person]:
    """Everybody of a wave, person by person, from the counted answers and the worked weights."""
    cells: dict[tuple[str, str], list[Any]] = {}
    for row in expected("weight_cells"):
        if row["survey_year"] == wave:
            trust, population = Fraction(row["trust_weight"]), Fraction(row["population_weight"])
            weight = {"none": Fraction(1), "trust": trust, "trust_population": trust * population}[scheme]
            cell = cells.setdefault((row["trust"], row["weight_cell"]), [weight, 0])
            cell[1] += int(row["responded"])
    persons = []
    for row in expected("answers_by_group" if groups else "answers"):
        if row["survey_year"] == wave and row["question_id"] == question:
            cell = cells[row["trust"], row["weight_cell"]]
            cell[1] -= int(row["n"])
            persons += int(row["n"]) * [
                Person(
                    row["trust"],
                    row["weight_cell"],
                    cell[0],
                    age_band=row.get("age_band", ""),
                    gender=row.get("gender", ""),
                    response=row["response"],
                )
            ]
    for (trust, name), (weight, left) in cells.items():
        assert left >= 0
        persons += left * [Person(trust, name, weight)]
    return persons


def variance_of(persons: list[Person], u: Measure, method: str) -> Fraction:
    """Variance of the weighted sum of u: trusts are strata, and u is taken relative to its mean in the weight cell."""
    strata: defaultdict[str, list[Fraction]] = defaultdict(list)
    cells: defaultdict[tuple[str, str], list[Person]] = defaultdict(list)
    for person in persons:
        cells[person.trust, person.cell].append(person)
    for (trust, _), members in cells.items():
        mean = sum(map(u, members), Fraction(0)) / len(members) if method == "post_stratified" else Fraction(0)
        strata[trust] += [member.weight * (u(member) - mean) for member in members]
    total = Fraction(0)
    for r in strata.values():
        n = len(r)
        total += Fraction(n, n - 1) * (sum(x * x for x in r) - sum(r) ** 2 / n)
    return total


def weighted(persons: list[Person], y: Measure) -> Fraction:
    return sum((person.weight * y(person) for person in persons), Fraction(0))


def domain_of(row: dict[str, str]) -> Measure:
    """1 for a valid answer of the area and category of a worked row."""

    def counts(person: Person) -> Fraction:
        inside = row["geography_code"] in ("E92000001", person.trust)
        inside &= row["breakdown"] == "all" or getattr(person, row["breakdown"]) == row["category"]
        return Fraction(inside and person.response is not None)

    return counts


def measure_of(row: dict[str, str], d: Measure) -> Measure:
    """What a worked row measures of a person: 1 for the response, or the score."""
    if row["measure"] == "mean":
        return lambda person: d(person) * int(person.response or 0)
    return lambda person: d(person) * (person.response == row["response"])


def worked(row: dict[str, str]) -> dict[str, Fraction | None]:
    """Estimate (percent or points), its variance, effective base and design effect, person by person."""
    persons = respondents(row["survey_year"], row["question_id"], row["scheme"], row["breakdown"] != "all")
    d = domain_of(row)
    y = measure_of(row, d)
    total = weighted(persons, d)
    estimate = weighted(persons, y) / total
    variance = variance_of(persons, lambda person: (y(person) - estimate * d(person)) / total, row["variance_method"])
    base = sum(map(d, persons))
    spread = weighted(persons, lambda person: y(person) ** 2) / total - estimate**2
    unit = 100 if row["measure"] == "share" else 1
    return {
        "estimate": unit * estimate,
        "variance": unit**2 * variance,
        "base": base,
        "degrees_of_freedom": base - len({person.trust for person in persons if d(person)}),
        "effective_base": spread / variance if variance else (None if spread else base),
        "design_effect": variance / (spread / (base - 1)) if spread and base > 1 else None,
    }


WORKED = ["estimate", "variance", "base", "degrees_of_freedom", "effective_base", "design_effect"]


def test_the_worked_precision_follows_from_the_worked_counts_and_weights() -> None:
    """No warehouse: the formula of the variance, person by person, in fractions."""
    for row in expected("precision"):
        again = worked(row)
        for figure in WORKED:
            assert (Fraction(row[figure]) if row[figure] else None) == again[figure], (row, figure)


def test_answers_by_group_are_the_counted_answers_and_those_of_the_warehouse(hand_worked: Warehouse) -> None:
    counted: defaultdict[tuple[str, ...], int] = defaultdict(int)
    keys = ("survey_year", "question_id", "trust", "weight_cell", "response")
    for row in expected("answers_by_group"):
        counted[tuple(row[key] for key in keys)] += int(row["n"])
    questions = {key[:2] for key in counted}
    assert counted == {
        tuple(row[key] for key in keys): int(row["n"])
        for row in expected("answers")
        if (row["survey_year"], row["question_id"]) in questions
    }
    for wave, question in questions:
        rows = found(
            hand_worked,
            "select trust, weight_cell, age_band, gender, response, cast(sum(n) as bigint) from intermediate.int_cube "
            f"where survey_year = {wave} and question_id = '{question}' and status = 'answered' "
            "group by all order by all",
        )
        columns = ("trust", "weight_cell", "age_band", "gender", "response")
        assert rows == sorted(
            (*(row[column] for column in columns), int(row["n"])) for row in expected("answers_by_group")
        )


def wilson(p: float, n: float, t: float) -> tuple[float, float]:
    """Both shares x with (p - x)^2 = t^2 x (1 - x) / n: where a test of x would just reject p."""
    q = t * t / n
    middle, root = 2 * p + q, sqrt(max((2 * p + q) ** 2 - 4 * (1 + q) * p * p, 0.0))
    high = (middle + root) / (2 * (1 + q))
    return (p * p / ((1 + q) * high) if p else 0.0), high


def test_standard_errors_intervals_and_effective_bases_are_the_worked_ones(hand_worked: Warehouse) -> None:
    rows = expected("precision")
    kinds = {(row["geography_code"][0], row["breakdown"], row["measure"]) for row in rows}
    assert kinds >= {("E", "all", "share"), ("E", "age_band", "share"), ("E", "gender", "share"), ("E", "all", "mean")}
    assert {("T", "all", "share"), ("T", "all", "mean")} <= kinds
    for row in rows:
        key = "survey_year", "geography_code", "breakdown", "category", "question_id", "measure", "scheme"
        where = " and ".join(f"{name} = '{row[name]}'" for name in (*key, "variance_method"))
        [[estimate, se, base, df, effective_base, design_effect, low, high, reason]] = found(
            hand_worked,
            "select estimate, se, base, degrees_of_freedom, effective_base, design_effect, ci_low, ci_high, "
            f"no_interval_reason from intermediate.int_estimates where {where} "
            f"and coalesce(response, '') = '{row['response']}'",
        )
        assert estimate == near(row["estimate"]), row
        assert se == pytest.approx(sqrt(Fraction(row["variance"])), rel=1e-12), row
        assert (base, df) == (int(row["base"]), int(row["degrees_of_freedom"])), row
        assert effective_base == (near(row["effective_base"]) if row["effective_base"] else None), row
        assert design_effect == (near(row["design_effect"]) if row["design_effect"] else None), row
        t = float(stats.t.ppf(0.975, df))
        if row["measure"] == "mean":
            ends = estimate - t * se, estimate + t * se
        else:
            ends = tuple(100 * end for end in wilson(estimate / 100, effective_base, t))
        assert (low, high) == pytest.approx(ends, rel=1e-12, abs=1e-12), row
        assert low <= estimate <= high
        assert reason is None


def test_changes_between_the_waves_are_the_worked_ones(hand_worked: Warehouse) -> None:
    shares = {
        (row["survey_year"], row["geography_code"], row["question_id"], row["response"]): row
        for row in expected("precision")
        if row["measure"] == "share" and row["breakdown"] == "all" and row["variance_method"] == "post_stratified"
    }
    for row in expected("changes"):
        key = row["geography_code"], row["question_id"], row["response"]
        earlier, later = shares[("2013", *key)], shares[("2014", *key)]
        assert Fraction(row["change"]) == Fraction(later["estimate"]) - Fraction(earlier["estimate"])
        assert Fraction(row["variance"]) == Fraction(later["variance"]) + Fraction(earlier["variance"])
        [[change, se, low, high, p_value, comparable, note]] = found(
            hand_worked,
            "select change, se, ci_low, ci_high, p_value, comparable, comparability_note "
            f"from intermediate.int_changes where geography_code = '{key[0]}' and question_id = '{key[1]}' "
            f"and response = '{key[2]}' and from_year = 2013 and to_year = 2014",
        )
        exact, half = Fraction(row["change"]), stats.norm.ppf(0.975) * sqrt(Fraction(row["variance"]))
        assert change == pytest.approx(float(exact), rel=1e-12)
        assert se == pytest.approx(sqrt(Fraction(row["variance"])), rel=1e-12)
        assert (low, high) == pytest.approx((float(exact) - half, float(exact) + half), rel=1e-12)
        assert p_value == pytest.approx(2 * stats.norm.sf(abs(float(exact)) / se), rel=1e-11)
        assert comparable == (key[1] == "overall_experience")
        assert note == row["comparability_note"]


def against_the_country(row: dict[str, str]) -> tuple[Fraction, Fraction]:
    """Difference between a trust's share and the country's in percentage points, and its variance."""
    persons = respondents(row["survey_year"], row["question_id"], "trust_population", False)
    d = domain_of({"geography_code": "E92000001", "breakdown": "all"})
    own = domain_of({"geography_code": row["trust"], "breakdown": "all"})
    z = measure_of({"measure": "share", "response": row["response"]}, d)
    of_all, of_trust = weighted(persons, d), weighted(persons, own)
    national = weighted(persons, z) / of_all
    share = weighted(persons, lambda person: z(person) * own(person)) / of_trust

    def u(person: Person) -> Fraction:
        return own(person) * (z(person) - share) / of_trust - (z(person) - national * d(person)) / of_all

    return 100 * (share - national), 10000 * variance_of(persons, u, "post_stratified")


def test_a_trust_against_the_country_is_the_worked_difference(hand_worked: Warehouse) -> None:
    for row in expected("trust_comparisons"):
        assert (Fraction(row["difference"]), Fraction(row["variance"])) == against_the_country(row)
        [[difference, se]] = found(
            hand_worked,
            "select difference, se from intermediate.int_trust_comparisons "
            f"where survey_year = {row['survey_year']} and trust = '{row['trust']}' "
            f"and question_id = '{row['question_id']}' and response = '{row['response']}'",
        )
        assert difference == near(row["difference"])
        assert se == pytest.approx(sqrt(Fraction(row["variance"])), rel=1e-12)


def test_a_small_trust_is_hidden_with_the_next_smallest_and_nothing_else_is(hand_worked: Warehouse) -> None:
    """The worked bases are laid under the SQL of the model; the fixture's own trusts are all too small to be shown."""
    rows = expected("suppression")
    folder = hand_worked.settings.dbt_target_dir / "compiled" / "cmhs" / "models" / "intermediate"
    with duckdb.connect() as connection:
        connection.execute(
            "attach ':memory:' as warehouse; create schema warehouse.crosswalk; create schema warehouse.intermediate;"
            "create table warehouse.crosswalk.question_map as select 2013 as survey_year, 'q' as question_id;"
            "create table warehouse.crosswalk.geographies as "
            "select 'england' as geography_level, 'E92000001' as geography_code;"
            "create table warehouse.intermediate.int_trusts (survey_year integer, trust varchar);"
            "create table warehouse.intermediate.int_categories "
            "(survey_year integer, breakdown varchar, category varchar);"
            "insert into warehouse.intermediate.int_categories values (2013, 'all', 'all');"
            "create table warehouse.intermediate.int_trust_sums (survey_year integer, trust varchar, "
            "breakdown varchar, category varchar, question_id varchar, measure varchar, is_published boolean, n bigint)"
        )
        for row in rows:
            if row["margin"] == "trust":
                connection.execute("insert into warehouse.intermediate.int_trusts values (2013, $1)", [row["part"]])
                of = (row["part"], "all", "all")
            else:
                connection.execute(
                    "insert into warehouse.intermediate.int_categories values (2013, $1, $2)",
                    [row["margin"], row["part"]],
                )
                of = ("A", row["margin"], row["part"])
            connection.execute(
                "insert into warehouse.intermediate.int_trust_sums values (2013, $1, $2, $3, 'q', 'base', true, $4)",
                [*of, int(row["base"])],
            )
        query = (folder / "int_suppression.sql").read_text(encoding="utf-8")
        hidden = connection.execute(
            "select case when geography_level = 'trust' then 'trust' else breakdown end, "
            "case when geography_level = 'trust' then geography_code else category end, base, suppressed "
            f"from ({query}) where geography_level = 'trust' or breakdown <> 'all' order by all"
        ).fetchall()
    assert hidden == sorted((row["margin"], row["part"], int(row["base"]), row["hidden"] == "true") for row in rows)


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


def test_the_guideline_is_met_by_the_worked_shares(hand_worked: Warehouse) -> None:
    """What an answer rules out is met by all others; a hidden share and an unmeasured statement have no figure."""
    rows = found(
        hand_worked,
        "select survey_year, statement, question_id, pct_met, suppressed, how_measured "
        "from marts.guideline_alignment order by all",
    )
    shares = {
        (int(row["survey_year"]), row["question_id"], row["response"]): Fraction(row["pct"])
        for row in expected("estimates")
        if row["scheme"] == "trust_population"
    }
    partly, silent = "asks about a part of the statement", "not measured by this survey"
    contact, work = "contact_care_coordinator", "support_work"
    assert rows == [
        (2013, 1, contact, near(str(shares[2013, contact, "yes"])), False, "asks about much of the statement"),
        (2013, 1, work, near(str(100 - shares[2013, work, "no_would_have_liked"])), False, partly),
        (2013, 2, None, None, False, silent),
        (2014, 1, contact, near(str(shares[2014, contact, "yes"])), False, "asks about much of the statement"),
        (2014, 1, work, None, True, partly),
        (2014, 2, None, None, False, silent),
    ]


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
