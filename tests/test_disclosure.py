"""What a release hides stays hidden: attacks on the published tables, each of which succeeds on unprotected numbers.

An attacker knows the published tables and the rules. What is hidden must then be able to have more than one value.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from conftest import Warehouse
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, linprog, milp

THRESHOLD = 30
SMALL_CELL = 10
# Counts of weight cells are released to the nearest of these.
ROUNDING = 10
# Numbers and truth values of a row that may stand although it is hidden: they say which row it is, or come from seeds.
NOT_STATISTICS = {"survey_year", "from_year", "to_year", "comparable", "suppressed", "score", "statement", "measured"}
NOT_STATISTICS |= {"series_break_before", "response_position", "category_position"}
# Tables that follow from answers, in the order in which they are made.
FROM_ANSWERS = [
    "int_trust_sums",
    "int_estimates",
    "int_suppression",
    "int_changes",
    "int_trust_comparisons",
    "int_trust_bands",
    "estimates",
    "means",
    "changes",
    "instrument_changes",
    "trust_comparisons",
    "trust_band_counts",
    "weighting_effect",
    "exclusions",
    "reconciliation",
    "overall_experience",
    "support_not_received",
    "contact_care_coordinator",
    "guideline_alignment",
]
MEMORY = """
attach ':memory:' as warehouse;
create schema warehouse.crosswalk;
create schema warehouse.intermediate;
create schema warehouse.marts;
create schema warehouse.raw;
"""


def compiled(warehouse: Warehouse, model: str, target: Path | None = None) -> str:
    folder = (target or warehouse.settings.dbt_target_dir) / "compiled" / "cmhs" / "models"
    layer = "intermediate" if model.startswith("int_") else "marts"
    return (folder / layer / f"{model}.sql").read_text(encoding="utf-8")


def make(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, model: str) -> None:
    """Make a table by the very SQL of the warehouse."""
    layer = "intermediate" if model.startswith("int_") else "marts"
    connection.execute(f"create or replace table warehouse.{layer}.{model} as {compiled(warehouse, model)}")


# ---- what is small is hidden ----
def shown_below(table: pd.DataFrame, threshold: int) -> int:
    return int((table["base"] < threshold).sum())


def test_no_table_shows_a_base_below_the_threshold(six_waves: Warehouse) -> None:
    with_base = six_waves.published(
        "select table_name from duckdb_columns() where schema_name = 'marts' and column_name = 'base'"
    )["table_name"]
    assert {"estimates", "means", "weighting_effect", "guideline_alignment", "overall_experience"} <= set(with_base)
    for table in with_base:
        assert shown_below(six_waves.published(f"select base from marts.{table}"), THRESHOLD) == 0, table
    unprotected = six_waves.query("select base from intermediate.int_estimates where is_published")
    assert shown_below(unprotected, THRESHOLD) > 0


def test_hidden_rows_hold_no_statistic_and_shown_rows_do(six_waves: Warehouse) -> None:
    columns = six_waves.published(
        "select table_name, list(column_name) as columns from duckdb_columns() where schema_name = 'marts' "
        "and data_type <> 'VARCHAR' group by table_name having list_contains(columns, 'suppressed')"
    )
    seen = set()
    for table, of_table in columns.itertuples(index=False):
        statistics = [column for column in of_table if column not in NOT_STATISTICS]
        rows = six_waves.published(f"from marts.{table}")
        assert rows.loc[~rows["suppressed"], statistics].notna().any().all(), table
        assert rows.loc[rows["suppressed"], statistics].isna().all(axis=None), table
        if "suppression_reason" in rows:
            assert (rows["suppression_reason"].notna() == rows["suppressed"]).all(), table
            assert rows["suppression_reason"].nunique() <= 1, table
        if rows["suppressed"].any():
            seen.add(table)
    assert {"estimates", "changes", "trust_comparisons", "weight_cells"} <= seen


# ---- margins ----
def margins(suppression: pd.DataFrame) -> pd.DataFrame:
    """The parts that sum to a published base: trusts of the country, its age bands, its genders."""
    parts = suppression[(suppression["geography_level"] == "trust") | (suppression["breakdown"] != "all")].copy()
    parts["margin"] = np.where(parts["geography_level"] == "trust", "trust", parts["breakdown"])
    return parts


def problems(suppression: pd.DataFrame, threshold: int) -> list[str]:
    """Where a margin hides too little. A margin that is hidden as a whole has no part to be worked out from."""
    found = []
    for key, parts in margins(suppression).groupby(["survey_year", "question_id", "margin"]):
        hidden = parts[parts["suppressed"]]
        found += [f"{key} shows {base}" for base in parts.loc[~parts["suppressed"], "base"] if base < threshold]
        if 0 < len(hidden) < len(parts):
            if len(hidden) == 1:
                found.append(f"{key} hides one part")
            if hidden["base"].sum() < threshold:
                found.append(f"{key} hides {hidden['base'].sum()} persons")
        if len(hidden) and (hidden["base"] >= threshold).all():
            found.append(f"{key} hides without a reason")
    return found


def undone(suppression: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """The same with small parts hidden alone."""
    return suppression.assign(suppressed=suppression["base"] < threshold)


def test_no_margin_hides_one_part_or_few_persons(six_waves: Warehouse) -> None:
    suppression = six_waves.query("from intermediate.int_suppression")
    assert problems(suppression, THRESHOLD) == []
    assert problems(undone(suppression, THRESHOLD), THRESHOLD) != []
    keys = ["survey_year", "geography_level", "geography_code", "breakdown", "category", "question_id"]
    released = six_waves.published(f"select distinct {', '.join(keys)}, suppressed from marts.estimates")
    both = suppression.merge(released, on=keys, how="outer", suffixes=("", "_released"))
    assert len(both) == len(suppression) == len(released)
    assert (both["suppressed"] == both["suppressed_released"]).all()


def test_another_threshold_in_the_configuration_hides_more_by_the_same_rules(
    small: Warehouse, six_waves: Warehouse, tmp_path: Path
) -> None:
    from dbt.cli.main import dbtRunner

    with small.active() as settings_:
        settings_.export()
        arguments = ["--project-dir", str(settings_.dbt_project_dir), "--target-path", str(tmp_path / "target")]
        arguments += ["--log-path", str(tmp_path), "--quiet", "--vars", "{minimum_published_base: 60}"]
        assert dbtRunner().invoke(["compile", "--select", "int_suppression", *arguments]).success
    query = compiled(small, "int_suppression", tmp_path / "target")
    before = six_waves.query("from intermediate.int_suppression")
    after = six_waves.query(query)
    assert problems(after, 60) == []
    assert problems(before, 60) != []
    assert after["suppressed"].sum() > before["suppressed"].sum()


@pytest.fixture(scope="module")
def in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """A wave with one question and nobody in it."""
    with duckdb.connect() as connection:
        connection.execute(MEMORY)
        connection.execute(
            "create table warehouse.crosswalk.question_map as select 2012 as survey_year, 'q' question_id"
        )
        connection.execute(
            "create table warehouse.crosswalk.geographies as select 'england' as geography_level, 'E' geography_code"
        )
        yield connection


few_or_many = st.one_of(st.integers(0, 35), st.integers(25, 300))
margin_bases = st.lists(few_or_many, min_size=1, max_size=8)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(trusts=margin_bases, ages=margin_bases, genders=margin_bases)
@example(trusts=[5, 100, 200], ages=[0, 0, 31, 400], genders=[29, 3000, 3500])
def test_whatever_the_bases_margins_hide_enough(
    in_memory: duckdb.DuckDBPyConnection, six_waves: Warehouse, trusts: list[int], ages: list[int], genders: list[int]
) -> None:
    suppression = suppress(in_memory, six_waves, trusts, ages, genders)
    assert problems(suppression, THRESHOLD) == []
    if (trusts, ages, genders) == ([5, 100, 200], [0, 0, 31, 400], [29, 3000, 3500]):
        assert len(problems(undone(suppression, THRESHOLD), THRESHOLD)) == 5


def suppress(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, trusts: list[int], ages: list[int], genders: list[int]
) -> pd.DataFrame:
    """What is hidden of a question with these bases, as the model says."""
    sums = [(f"T{i}", "all", "all", n) for i, n in enumerate(trusts)]
    sums += [("T0", "age_band", f"a{i}", n) for i, n in enumerate(ages)]
    sums += [("T0", "gender", f"g{i}", n) for i, n in enumerate(genders)]
    frame = pd.DataFrame(sums, columns=["trust", "breakdown", "category", "n"])
    frame = frame.assign(survey_year=2012, question_id="q", measure="base", is_published=True)
    connection.execute("create or replace table warehouse.intermediate.int_trust_sums as from frame where n > 0")
    connection.execute("create or replace table warehouse.intermediate.int_categories as "
                       "select distinct survey_year, breakdown, category from frame")  # fmt: skip
    connection.execute(
        "create or replace table warehouse.intermediate.int_trusts as select distinct survey_year, trust from frame"
    )
    return connection.execute(compiled(warehouse, "int_suppression")).df()


# ---- working hidden counts out ----
def ranges(total: tuple[int, int], caps: list[int], small: int) -> list[tuple[int, int]]:
    """Smallest and largest value of each hidden part: whole numbers that sum to a total and of which one is small."""
    parts = len(caps)
    sums = LinearConstraint(np.r_[np.ones(parts), np.zeros(parts)], *total)
    # A part marked small (second half of the variables) is below the limit.
    marks = LinearConstraint(
        np.c_[np.eye(parts), np.diag(np.maximum(0, np.array(caps) - small + 1))], -np.inf, np.maximum(caps, small - 1)
    )
    one = LinearConstraint(np.r_[np.zeros(parts), np.ones(parts)], 1, parts)
    upper = np.r_[caps, np.ones(parts)]
    found = []
    for part in range(parts):
        ends = []
        for sign in (1, -1):
            objective = np.zeros(2 * parts)
            objective[part] = sign
            result = milp(objective, constraints=[sums, marks, one], integrality=np.ones(2 * parts), bounds=(0, upper))
            assert result.success, (total, caps, small)
            ends.append(round(sign * result.fun))
        found.append((ends[0], ends[1]))
    return found


def hidden_bases(six_waves: Warehouse, hidden: pd.Series, suppression: pd.DataFrame) -> pd.DataFrame:
    """The range of every hidden base that follows from shown bases, numbers of respondents and the rules."""
    suppression = suppression.assign(suppressed=hidden)
    responded = six_waves.published(
        "select survey_year, geography_code, responded from marts.response_rates where geography_level = 'trust'"
    ).set_index(["survey_year", "geography_code"])["responded"]
    country = suppression[(suppression["breakdown"] == "all") & (suppression["geography_level"] != "trust")]
    national = country.set_index(["survey_year", "question_id"])["base"]
    # Persons in no category are at most as many as where nothing is hidden.
    unknown = {}
    for (year, margin), parts in margins(suppression).groupby(["survey_year", "margin"]):
        by_question = parts.groupby("question_id").agg(base=("base", "sum"), hides=("suppressed", "any"))
        left = national.loc[year] - by_question["base"]
        unknown[year, margin] = int(left[~by_question["hides"]].max())
    rows = []
    for (year, question, margin), parts in margins(suppression).groupby(["survey_year", "question_id", "margin"]):
        out = parts[parts["suppressed"]]
        if out.empty:
            continue
        shown = parts.loc[~parts["suppressed"], "base"]
        left = int(national[year, question] - shown.sum())
        caps = [int(shown.min())] * len(out)
        if margin == "trust":
            caps = [
                min(cap, int(responded[year, trust])) for cap, trust in zip(caps, out["geography_code"], strict=True)
            ]
        found = ranges((left - unknown[year, margin], left), caps, THRESHOLD)
        for base, (low, high) in zip(out["base"], found, strict=True):
            rows.append((year, question, margin, base, low, high))
    return pd.DataFrame(rows, columns=["survey_year", "question_id", "margin", "base", "low", "high"])


def test_no_hidden_base_follows_from_the_published_ones(six_waves: Warehouse) -> None:
    suppression = six_waves.query("from intermediate.int_suppression")
    found = hidden_bases(six_waves, suppression["suppressed"], suppression)
    assert len(found) == suppression["suppressed"].sum() > 0
    assert found["base"].between(found["low"], found["high"]).all()
    assert (found["low"] < found["high"]).all(), found
    # Small parts hidden alone are a subtraction away.
    alone = hidden_bases(six_waves, suppression["base"] < THRESHOLD, suppression)
    trusts = alone[
        (alone["margin"] == "trust") & ~alone.duplicated(["survey_year", "question_id", "margin"], keep=False)
    ]
    assert len(trusts) > 0
    assert (trusts["low"] == trusts["base"]).all()
    assert (trusts["high"] == trusts["base"]).all()


def unknown_cells(six_waves: Warehouse, exact: bool) -> pd.DataFrame:
    """How many pairs of numbers drawn and responding each trust's cell of unknown age or gender may have.

    An exact weight is (n / T) / n_h * (N_c / n_c) * n_k / N_k, and with exact counts only n_k and N_k are open.
    Released weights are made of the rounded counts and tell nothing more.
    """
    cells = six_waves.published("select * from marts.weight_cells")
    truth = six_waves.query(
        "select survey_year, trust, cell, trust_weight * population_weight as exact_weight, sampled as true_sampled, "
        "responded as true_responded from intermediate.int_weight_cells"
    )
    cells = cells.merge(truth, on=["survey_year", "trust", "cell"], validate="one_to_one")
    totals = six_waves.published(
        "select survey_year, geography_code as trust, sampled, responded, "
        "sum(responded) over (partition by survey_year) / count(*) over (partition by survey_year) as weight "
        "from marts.response_rates where geography_level = 'trust'"
    ).set_index(["survey_year", "trust"])
    rows = []
    for key, of_trust in cells.groupby(["survey_year", "trust"]):
        shown = of_trust[~of_trust["suppressed"]]
        unknown = of_trust[of_trust["cell"] == "unknown"]
        if unknown.empty or shown.empty or not unknown["suppressed"].iloc[0]:
            continue
        total = totals.loc[key]
        low, high = 0.0, np.inf
        drawn_at_most = total["sampled"] - (shown["sampled"] - ROUNDING / 2).sum()
        responded_at_most = total["responded"] - (shown["responded"] - ROUNDING / 2).sum()
        if exact:
            without = total["weight"] / total["responded"] * shown["true_sampled"] / shown["true_responded"]
            low = ((shown["exact_weight"] - 1e-9) / without).max()
            high = ((shown["exact_weight"] + 1e-9) / without).min()
            drawn_at_most = total["sampled"] - shown["true_sampled"].sum()
            responded_at_most = total["responded"] - shown["true_responded"].sum()
        drawn = np.arange(int(drawn_at_most) + 1)[:, None]
        responded = np.arange(int(responded_at_most) + 1)[None, :]
        known = (total["responded"] - responded) / (total["sampled"] - drawn)
        possible = (known >= low) & (known <= high) & (responded <= drawn)
        assert possible[unknown["true_sampled"].iloc[0], unknown["true_responded"].iloc[0]], key
        rows.append((possible.sum(), possible.any(axis=1).sum(), possible.any(axis=0).sum()))
    return pd.DataFrame(rows, columns=["pairs", "drawn", "responded"])


def test_no_hidden_weight_cell_follows_from_the_weights_of_the_others(six_waves: Warehouse) -> None:
    released = unknown_cells(six_waves, exact=False)
    assert len(released) > 300
    assert (released[["drawn", "responded"]] > 1).all(axis=None)
    assert (unknown_cells(six_waves, exact=True)["pairs"] == 1).sum() > 300


def cell_problems(cells: pd.DataFrame, hidden: str) -> list[str]:
    """Trusts whose totals, less the cells that are shown, leave one cell or a small number; merged cells are one."""
    weighed = cells.groupby(["survey_year", "trust", "weight_cell"]).agg(
        sampled=("true_sampled", "sum"),
        responded=("true_responded", "sum"),
        hidden=(hidden, "all"),
        some=(hidden, "any"),
    )
    assert (weighed["hidden"] == weighed["some"]).all()
    found = []
    for key, of_trust in weighed.groupby(["survey_year", "trust"]):
        out = of_trust[of_trust["hidden"]]
        if (of_trust.loc[~of_trust["hidden"], ["sampled", "responded"]] < SMALL_CELL).any(axis=None):
            found.append(f"{key} shows a small cell")
        if 0 < len(out) < len(of_trust) and (len(out) == 1 or (out[["sampled", "responded"]].sum() < SMALL_CELL).any()):
            found.append(f"{key} leaves a small number")
    return found


def test_no_trust_hides_one_weight_cell_or_few_persons(six_waves: Warehouse) -> None:
    truth = six_waves.query(
        "select survey_year, trust, cell, weight_cell, sampled as true_sampled, responded as true_responded, "
        "sum(sampled) over weighed < 10 or sum(responded) over weighed < 10 as alone "
        "from intermediate.int_weight_cells "
        "window weighed as (partition by survey_year, trust, weight_cell)"
    )
    released = six_waves.published("select survey_year, trust, cell, suppressed from marts.weight_cells")
    cells = released.merge(truth, on=["survey_year", "trust", "cell"], validate="one_to_one")
    assert len(cells) == len(truth)
    assert cell_problems(cells, "suppressed") == []
    assert len(cell_problems(cells, "alone")) > 300


# ---- what single persons answered ----
SHARES = """
select shares.*, released.pct, released.effective_base as released_effective_base
from (
    select survey_year, geography_level, geography_code, breakdown, category, question_id, response, base, weight,
        estimate / 100 as share
    from intermediate.int_estimates where is_published and measure = 'share'
) as shares
inner join marts.estimates as released using (
    survey_year, geography_level, geography_code, breakdown, category, question_id, response
)
where not released.suppressed
"""
CHOSE = """
select survey_year, trust, gender, weight_cell, question_id, response, sum(n) as n
from intermediate.int_cube where status = 'answered' group by all
"""


@pytest.fixture(scope="module")
def shares(six_waves: Warehouse) -> pd.DataFrame:
    """Every shown share as it is (from 0 to 1) and as it is released (percent)."""
    return six_waves.query(SHARES)


@pytest.fixture(scope="module")
def chose(six_waves: Warehouse) -> pd.DataFrame:
    return six_waves.query(CHOSE)


@pytest.fixture(scope="module")
def weights(six_waves: Warehouse) -> pd.DataFrame:
    """Every weight cell as it is, and with its counts as they are released."""
    return six_waves.query(
        "select survey_year, trust, weight_cell, max(trust_weight * population_weight) as weight, "
        "sum(exact.sampled) as sampled, sum(exact.responded) as responded, "
        "sum(released.sampled) as shown_sampled, sum(released.responded) as shown_responded, "
        "bool_or(suppressed) as suppressed from intermediate.int_weight_cells as exact "
        "inner join marts.weight_cells as released using (survey_year, trust, cell) "
        "group by all having sum(exact.responded) > 0"
    )


def persons_of(shares: pd.DataFrame, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the shares as known within `half` percentage points of what is released; exact where it is 0."""
    middle = shares["pct"] / 100 if half else shares["share"]
    slack = half / 100 + 1e-12
    return (middle - slack).clip(lower=0).to_numpy(), (middle + slack).to_numpy()


def chosen_counts(row: pd.DataFrame, cells: pd.DataFrame, half: float) -> list[tuple[int, int]]:
    """Fewest and most persons that may have chosen each response of a trust, given all weights exactly."""
    low, high = persons_of(row, half)
    responses, number = len(row), len(cells)
    weight = cells["weight"].to_numpy()
    everybody = np.tile(weight, responses)
    bounds = []
    for i in range(responses):
        own = np.zeros((responses, number))
        own[i] = weight
        bounds += [own.ravel() - high[i] * everybody, low[i] * everybody - own.ravel()]
    per_cell = np.tile(np.eye(number), responses)
    constraints = [
        LinearConstraint(np.array(bounds), -np.inf, 0),
        LinearConstraint(per_cell, 0, cells["responded"].to_numpy()),
        LinearConstraint(np.ones(responses * number), row["base"].iloc[0], row["base"].iloc[0]),
    ]
    found = []
    for i in range(responses):
        objective = np.zeros((responses, number))
        objective[i] = 1
        ends = []
        for sign in (1, -1):
            result = milp(sign * objective.ravel(), constraints=constraints, integrality=np.ones(responses * number))
            assert result.success, result.message
            ends.append(round(sign * result.fun))
        found.append((ends[0], ends[1]))
    return found


def test_the_number_of_persons_behind_a_trusts_share_stays_open(
    shares: pd.DataFrame, chose: pd.DataFrame, weights: pd.DataFrame
) -> None:
    """In the rows with the fewest answers; what one person alone chose is less open, see the next test."""
    keys = ["survey_year", "geography_code", "question_id"]
    trusts = shares[shares["geography_level"] == "trust"]
    smallest = trusts.sort_values(["base", *keys])[keys].drop_duplicates().head(12)
    for key in smallest.itertuples(index=False):
        row = trusts[(trusts[keys] == list(key)).all(axis=1)].sort_values("response")
        cells = weights[(weights["survey_year"] == key.survey_year) & (weights["trust"] == key.geography_code)]
        assert all(high - low >= 5 for low, high in chosen_counts(row, cells, 0.05)), key
    alone = single_respondents(shares, chose)
    for key in alone.loc[alone["question_id"] == "contact_care_coordinator", keys].itertuples(index=False):
        row = trusts[(trusts[keys] == list(key)).all(axis=1)].sort_values("response")
        cells = weights[(weights["survey_year"] == key.survey_year) & (weights["trust"] == key.geography_code)]
        assert any(high - low < 5 for low, high in chosen_counts(row, cells, 0.05)), key


def single_respondents(shares: pd.DataFrame, chose: pd.DataFrame) -> pd.DataFrame:
    """Trusts' shares behind which there is one person, with that person's weight cell."""
    alone = chose.groupby(["survey_year", "trust", "question_id", "response"]).agg(
        n=("n", "sum"), weight_cell=("weight_cell", "max")
    )
    alone = alone[alone["n"] == 1].reset_index().rename(columns={"trust": "geography_code"})
    trusts = shares[shares["geography_level"] == "trust"]
    return trusts.merge(alone, on=["survey_year", "geography_code", "question_id", "response"])


def cells_left(row: pd.Series, cells: pd.DataFrame, total: float, effective: bool, exact: bool) -> set[str]:
    """Cells in which the one person of a trust can be who chose a response, from the released share.

    The sum of weights of a trust's respondents is the same for all trusts; those who did not answer are taken off, the
    heaviest or the lightest. The effective base tells more: p (1 - p) / V is next to (1 - p) / p * n / (n - 1). A
    weight is known as far as the counts of its cell are: exactly, or as rounded; of a hidden cell not at all.
    """
    absent = int(cells["responded"].sum() - row["base"])
    each = np.sort(np.repeat(cells["weight"].to_numpy(), cells["responded"].astype(int)))
    least, most = total - each[len(each) - absent :].sum(), total - each[:absent].sum()
    low, high = (row["pct"] - 0.05) / 100, (row["pct"] + 0.05) / 100
    possible = set()
    for cell in cells.itertuples():
        if cell.suppressed and not exact:
            possible.add(cell.weight_cell)
            continue
        half = 0 if exact else ROUNDING / 2
        drawn, responded = (cell.sampled, cell.responded) if exact else (cell.shown_sampled, cell.shown_responded)
        factor = cell.weight / (cell.sampled / cell.responded)
        lightest = factor * (drawn - half) / (responded + half)
        heaviest = factor * (drawn + half) / max(responded - half, 1)
        share = np.linspace(lightest, heaviest, 1 if exact else 100)[:, None] / np.linspace(least, most, 200)
        fits = (share >= low - 1e-12) & (share <= high + 1e-12)
        if effective and responded + half > 1:
            everybody = cells["responded"].sum()
            own = (1 - share) / share * (everybody - 1) / everybody
            slack = 0.5 + 0.003 * own
            most_own = own * (max(responded - half, 2)) / (max(responded - half, 2) - 1)
            least_own = own * (responded + half) / (responded + half - 1)
            fits &= (least_own <= row["released_effective_base"] + slack) & (
                most_own >= row["released_effective_base"] - slack
            )
        if fits.any():
            possible.add(cell.weight_cell)
    return possible


def pinned(shares: pd.DataFrame, chose: pd.DataFrame, weights: pd.DataFrame, effective: bool, exact: bool) -> list[int]:
    """How many cells are left of each single respondent; the true one is always among them."""
    left = []
    for _, row in single_respondents(shares, chose).iterrows():
        cells = weights[(weights["survey_year"] == row["survey_year"]) & (weights["trust"] == row["geography_code"])]
        total = float((cells["weight"] * cells["responded"]).sum())
        possible = cells_left(row, cells, total, effective, exact)
        alone = cells.set_index("weight_cell")["responded"][row["weight_cell"]] == 1
        assert row["weight_cell"] in possible or (effective and alone), row
        left.append(len(possible))
    return left


@pytest.mark.parametrize("effective", [False, True])
def test_a_trusts_share_does_not_tell_the_cell_of_its_only_respondent(
    shares: pd.DataFrame, chose: pd.DataFrame, weights: pd.DataFrame, effective: bool
) -> None:
    left = pinned(shares, chose, weights, effective, exact=False)
    assert len(left) > 30
    assert min(left) > 1, f"{left.count(1)} of {len(left)} are pinned to one weight cell"
    # With the counts of the cells as they are, some would be.
    assert pinned(shares, chose, weights, effective, exact=True).count(1) > 10


# ---- persons of unknown gender ----
def who_fits(rows: pd.DataFrame, half: float) -> set[str]:
    """Responses that the one person of unknown gender can have chosen.

    p_all = sum of lambda_b p_b, plus lambda_u for the response of that person. With exact shares lambda_b follows from
    any two other responses; to rounded ones the attacker brings the true lambda_b, which is more than they have.
    """
    table = rows.pivot(index="response", columns="category", values=["share", "pct"])
    every = table["share", "all"].to_numpy()
    parts = table["share" if not half else "pct"][["female", "male"]].to_numpy() / (100 if half else 1)
    lambdas = rows.groupby("category")["weight"].first() / rows.loc[rows["category"] == "all", "weight"].iloc[0]
    fits = set()
    for i, response in enumerate(table.index):
        others = np.arange(len(table)) != i
        if not half:
            solved, *_ = np.linalg.lstsq(parts[others], every[others], rcond=None)
            if np.abs(parts[others] @ solved - every[others]).max() < 1e-11:
                fits.add(response)
            continue
        # The errors of rounding are unknown, and leave shares that sum to 1.
        known = np.r_[lambdas["female"], lambdas["male"]]
        own = np.where(others, 0, 1 - known.sum())
        number = len(table)
        equations = np.r_[
            np.c_[known[0] * np.eye(number), known[1] * np.eye(number)],
            np.kron(np.eye(2), np.ones((1, number))),
        ]
        values = np.r_[every - parts @ known - own, 1 - parts.sum(axis=0)]
        result = linprog(
            np.zeros(2 * number), A_eq=equations, b_eq=values, bounds=(-half / 100, half / 100), method="highs"
        )
        if result.status == 0:
            fits.add(response)
    return fits


def test_the_answer_of_one_person_of_unknown_gender_follows_from_exact_shares_only(
    shares: pd.DataFrame, chose: pd.DataFrame
) -> None:
    unknown = chose[chose["gender"] == "unknown"]
    solved = 0
    for (year, question), of_question in unknown.groupby(["survey_year", "question_id"]):
        rows = shares[
            (shares["survey_year"] == year) & (shares["question_id"] == question)
            & (shares["geography_level"] != "trust") & shares["breakdown"].isin(["all", "gender"])
        ]  # fmt: skip
        responses = set(rows["response"])
        if of_question["n"].sum() != 1 or set(rows["category"]) != {"all", "female", "male"} or len(responses) < 4:
            continue
        assert who_fits(rows, 0) == set(of_question["response"])
        assert who_fits(rows, 0.05) == responses
        solved += question == "overall_experience"
    assert solved == 2


# ---- the cell of a respondent of a rare gender ----
def pairs_that_fit(rows: pd.DataFrame, weight: np.ndarray, released: bool) -> int:
    """Pairs of weight cells that two single respondents can be in, from the ratio of their shares."""
    ratio = weight[:, None] / weight[None, :]
    share = rows["share"].to_numpy()
    if not released:
        return int((np.abs(ratio / (share[0] / share[1]) - 1) < 1e-12).sum())
    low, high = persons_of(rows, 0.05)
    return int(((ratio >= low[0] / high[1]) & (ratio <= high[0] / low[1])).sum())


def test_the_weight_cells_of_two_respondents_follow_from_exact_shares_only(
    shares: pd.DataFrame, chose: pd.DataFrame, weights: pd.DataFrame
) -> None:
    keys = ["survey_year", "question_id", "response"]
    of_gender = chose[chose["gender"] == "other"].groupby(keys, as_index=False)["n"].sum()
    alone = shares[shares["category"] == "other"].merge(of_gender[of_gender["n"] == 1], on=keys)
    exact = []
    for (year, _), rows in alone.groupby(["survey_year", "question_id"]):
        weight = weights.loc[weights["survey_year"] == year, "weight"].to_numpy()
        for pair in pairwise(rows.index):
            exact.append(pairs_that_fit(rows.loc[list(pair)], weight, False))
            assert pairs_that_fit(rows.loc[list(pair)], weight, True) > 100
    assert exact
    assert min(exact) == 1


# ---- two inputs that differ only in what is hidden ----
@pytest.fixture
def answers(six_waves: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """The last two waves from the answers on, to be changed and made again."""
    with duckdb.connect() as connection:
        connection.execute(MEMORY)
        connection.execute(f"attach '{six_waves.settings.warehouse}' as built (read_only)")
        tables = connection.execute(
            "select schema_name, table_name, list_contains((select list(column_name) from duckdb_columns() as c "
            "where c.table_oid = t.table_oid and c.database_name = 'built'), 'survey_year') from duckdb_tables() as t "
            "where database_name = 'built' and (schema_name = 'crosswalk' or (schema_name = 'intermediate' "
            "and table_name not in ('int_response_counts', 'int_duplicates')) "
            "or (schema_name, table_name) = ('raw', 'files'))"
        ).fetchall()
        for schema, table, by_wave in tables:
            where = "where survey_year >= 2016" if by_wave else ""
            connection.execute(f"create table warehouse.{schema}.{table} as from built.{schema}.{table} {where}")
        connection.execute("detach built")
        yield connection


def published_tables(connection: duckdb.DuckDBPyConnection, six_waves: Warehouse) -> dict[str, pd.DataFrame]:
    """The published tables that follow from the answers as they are now."""
    for model in FROM_ANSWERS:
        make(connection, six_waves, model)
    return {
        model: connection.execute(f"select * from warehouse.marts.{model} order by all").df()
        for model in FROM_ANSWERS
        if not model.startswith("int_")
    }


def differing(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> list[str]:
    return [name for name, table in one.items() if not table.equals(other[name])]


TWINS = ("S22", "S29")
TWINNED = ("int_cube", "int_cells", "int_weight_cells", "int_trusts")


def twins(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the second trust the cells, weights and answers of the first: exchanged, they leave the country the same."""
    for table in TWINNED:
        name = f"warehouse.intermediate.{table}"
        connection.execute(f"delete from {name} where survey_year = 2016 and trust = '{TWINS[1]}'")
        stratum = ", stratum" if table in ("int_weight_cells", "int_trusts") else ""
        replaced = f"'{TWINS[1]}' as trust" + (f", '{TWINS[1]}' as stratum" if stratum else "")
        connection.execute(
            f"insert into {name} select * replace ({replaced}) from {name} "
            f"where survey_year = 2016 and trust = '{TWINS[0]}'"
        )


def other_answers(connection: duckdb.DuckDBPyConnection, question: str, trust: str) -> None:
    """Let those of a trust who chose the first response choose the last, and the other way round; drop one answer."""
    connection.execute(
        "create or replace temp table ends as select min(response) as first, max(response) as last "
        "from warehouse.crosswalk.responses where question_id = $1 and response in (select response "
        "from warehouse.crosswalk.response_map where survey_year = 2016 and question_id = $1)",
        [question],
    )
    connection.execute(
        "update warehouse.intermediate.int_cube set response = case response when first then last when last then first "
        "else response end from ends where survey_year = 2016 and question_id = $1 and trust = $2 "
        "and response is not null",
        [question, trust],
    )
    connection.execute(
        "update warehouse.intermediate.int_cube set status = 'not_answered', response = null where rowid = "
        "(select min(rowid) from warehouse.intermediate.int_cube where survey_year = 2016 and question_id = $1 "
        "and trust = $2 and response is not null)",
        [question, trust],
    )


def exchange(connection: duckdb.DuckDBPyConnection, question: str) -> None:
    """The answers of one twin to the other."""
    connection.execute(
        "update warehouse.intermediate.int_cube set trust = case trust when $1 then $2 else $1 end "
        "where survey_year = 2016 and question_id = $3 and trust in ($1, $2)",
        [*TWINS, question],
    )


@pytest.mark.parametrize(("question", "is_hidden"), [("support_local_activity", True), ("listened_to", False)])
def test_exchanging_the_answers_of_two_hidden_trusts_changes_nothing_published(
    answers: duckdb.DuckDBPyConnection, six_waves: Warehouse, question: str, is_hidden: bool
) -> None:
    twins(answers)
    other_answers(answers, question, TWINS[1])
    before = published_tables(answers, six_waves)
    truth = "select base, suppressed from warehouse.intermediate.int_suppression where survey_year = 2016 and " \
        f"question_id = '{question}' and geography_code in {TWINS} order by geography_code"  # fmt: skip
    bases = answers.execute(truth).df()
    assert bases["base"].nunique() == 2
    assert (bases["suppressed"] == is_hidden).all()
    exchange(answers, question)
    after = published_tables(answers, six_waves)
    assert list(answers.execute(truth).df()["base"]) == list(bases["base"][::-1])
    changed = differing(before, after)
    assert changed == [] if is_hidden else {"estimates", "changes", "trust_comparisons"} <= set(changed), changed


@pytest.mark.parametrize(("question", "is_hidden"), [("support_peer", True), ("overall_experience", False)])
def test_exchanging_answers_between_hidden_genders_changes_nothing_published(
    answers: duckdb.DuckDBPyConnection, six_waves: Warehouse, question: str, is_hidden: bool
) -> None:
    before = published_tables(answers, six_waves)
    cube = answers.execute(
        "select rowid, * from warehouse.intermediate.int_cube where survey_year = 2017 and status = 'answered' "
        "and question_id = $1",
        [question],
    ).df()
    alike = cube[cube["gender"] == "other"].merge(
        cube[cube["gender"] == "male"], on=["trust", "weight_cell", "age_band"], suffixes=("", "_of_male")
    )
    pair = alike[(alike["response"] != alike["response_of_male"]) & (alike["n"] == alike["n_of_male"])].iloc[0]
    for own, others in (("rowid", "response_of_male"), ("rowid_of_male", "response")):
        answers.execute(
            "update warehouse.intermediate.int_cube set response = $1 where rowid = $2", [pair[others], int(pair[own])]
        )
    after = published_tables(answers, six_waves)
    hidden = "select distinct suppressed from warehouse.intermediate.int_suppression where survey_year = 2017 " \
        f"and question_id = '{question}' and category in ('other', 'male')"  # fmt: skip
    assert answers.execute(hidden).fetchall() == [(is_hidden,)]
    changed = differing(before, after)
    assert changed == [] if is_hidden else "estimates" in changed, changed
