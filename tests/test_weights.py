"""Properties of the weights that hold for any table, on the very SQL that the warehouse runs.

The compiled models run in a DuckDB in memory, on tables of the same names with other contents.
"""

import json
from collections import defaultdict
from collections.abc import Iterator

import duckdb
import pandas as pd
import pytest
from conftest import Warehouse
from hypothesis import given, settings
from hypothesis import strategies as st
from recompute import fails, merge_cells

GENDERS = ["female", "male", "other"]
BANDS = ["age_18_35", "age_36_50", "age_51_65", "age_66_plus"]
CELLS = [(gender, band) for gender in GENDERS for band in BANDS]
MEMORY = """
attach ':memory:' as warehouse;
create schema warehouse.crosswalk;
create schema warehouse.intermediate;
create schema warehouse.marts;
"""
# From counts and weights to estimates.
MODELS = ("int_trust_sums", "int_estimates")
# What must not depend on the unit of the weights.
PRECISION = ["estimate", "se", "ci_low", "ci_high", "effective_base", "design_effect", "degrees_of_freedom"]
Table = list[tuple[str, int, int]]


def compiled(six_waves: Warehouse, model: str) -> str:
    folder = six_waves.settings.dbt_target_dir / "compiled" / "cmhs" / "models" / "intermediate"
    return (folder / f"{model}.sql").read_text(encoding="utf-8")


# ---- one constant ----
@pytest.fixture(scope="module")
def cubed(six_waves: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """The cube and the crosswalk of one wave, with the weights still as they were in `weights`."""
    with duckdb.connect() as connection:
        connection.execute(MEMORY)
        connection.execute(f"attach '{six_waves.settings.warehouse}' as built (read_only)")
        manifest = json.loads((six_waves.settings.dbt_target_dir / "manifest.json").read_text(encoding="utf-8"))
        needed = {on for model in MODELS for on in manifest["nodes"][f"model.cmhs.{model}"]["depends_on"]["nodes"]}
        for node in (manifest["nodes"][name] for name in sorted(needed)):
            table = f"{node['schema']}.{node['alias']}"
            one_wave = "where survey_year = 2015" if "survey_year" in node["columns"] else ""
            connection.execute(f"create table warehouse.{table} as from built.{table} {one_wave}")
        connection.execute("create table weights as from built.intermediate.int_weight_cells where survey_year = 2015")
        connection.execute("create table expected as from built.intermediate.int_estimates where survey_year = 2015")
        connection.execute("detach built")
        yield connection


@settings(max_examples=12, deadline=None, derandomize=True)
@given(constant=st.floats(min_value=1e-3, max_value=1e6))
def test_results_stay_the_same_when_all_weights_are_multiplied(
    cubed: duckdb.DuckDBPyConnection, six_waves: Warehouse, constant: float
) -> None:
    cubed.execute(
        "create or replace table warehouse.intermediate.int_weight_cells as "
        "select * replace (trust_weight * $1 as trust_weight) from weights",
        [constant],
    )
    for model in MODELS:
        query = compiled(six_waves, model)
        cubed.execute(f"create or replace table warehouse.intermediate.{model} as {query}")
    # Of no weights nothing may change, of all others only the sum of the weights.
    found = cubed.execute(
        "select ours.base, expected.base as expected_base, "
        + ", ".join(f"ours.{column}, expected.{column} as expected_{column}" for column in PRECISION)
        + ", ours.weight / expected.weight as ratio, scheme from warehouse.intermediate.int_estimates as ours "
        "full outer join expected using (survey_year, geography_level, geography_code, breakdown, category, "
        "question_id, measure, scheme, variance_method) "
        "where ours.response is not distinct from expected.response"
    ).df()
    rows = [
        cubed.execute(f"select count(*) from {t}").fetchall()[0][0]
        for t in ("expected", "warehouse.intermediate.int_estimates")
    ]
    assert [len(found)] * 2 == rows
    assert len(found) > 1000
    for column in PRECISION:
        ours, expected = found[column], found[f"expected_{column}"]
        assert (ours.isna() == expected.isna()).all(), column
        assert ((ours - expected).abs() <= 1e-9 * expected.abs())[expected.notna()].all(), column
    assert (found["base"] == found["expected_base"]).all()
    scaled = found["scheme"] != "none"
    assert ((found["ratio"] - constant).abs() <= 1e-9 * constant)[scaled].all()
    assert (found["ratio"] == 1)[~scaled].all()


# ---- sums ----
def test_the_weights_of_a_trust_sum_to_the_same_share_of_the_respondents(six_waves: Warehouse) -> None:
    cells = six_waves.query("from intermediate.int_weight_cells")
    answering = cells[cells["responded"] > 0]
    total = (answering["responded"] * answering["trust_weight"] * answering["population_weight"]).groupby(
        [answering["survey_year"], answering["trust"]]
    )
    share = cells.groupby("survey_year")["responded"].sum() / cells.groupby("survey_year")["trust"].nunique()
    sums = total.sum().reset_index(name="weight")
    assert len(sums) == 345
    expected = sums["survey_year"].map(share)
    assert ((sums["weight"] - expected).abs() <= 1e-9 * expected).all()


# ---- merging, against the rule written as a loop ----
absent = st.none()
nobody_answered = st.tuples(st.integers(1, 20), st.just(0))
nobody_drawn = st.tuples(st.just(0), st.integers(1, 6))
usual = st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda pair: (sum(pair), pair[1]))
cell = st.one_of(absent, nobody_answered, nobody_drawn, usual, usual)
tables = st.lists(cell, min_size=len(CELLS), max_size=len(CELLS)).map(
    lambda counts: [(":".join(c), *pair) for c, pair in zip(CELLS, counts, strict=True) if pair is not None]
)


@pytest.fixture(scope="module")
def in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    """Empty tables of cells, of trusts and of five waves, one for each min_cell."""
    with duckdb.connect() as connection:
        connection.execute(MEMORY)
        connection.execute(
            "create table warehouse.crosswalk.waves as select survey_year, survey_year as min_cell, "
            "'apart' as sample_frame from range(1, 6) as years (survey_year)"
        )
        connection.execute(
            "create table warehouse.crosswalk.merged_strata (survey_year integer, trust varchar, stratum varchar)"
        )
        yield connection


def fill(connection: duckdb.DuckDBPyConnection, min_cell: int, trusts: list[Table]) -> None:
    """Put the cells of some trusts into the wave of this min_cell."""
    rows = [
        (min_cell, f"T{number}", name, *name.split(":"), drawn, responded)
        for number, table in enumerate(trusts)
        for name, drawn, responded in table
    ]
    cells = pd.DataFrame(rows, columns=["survey_year", "trust", "cell", "gender", "band", "sampled", "responded"])
    cells["gender_position"] = cells["gender"].map(GENDERS.index) + 1
    cells["age_position"] = cells["band"].map(BANDS.index) + 1
    connection.execute("create or replace table warehouse.intermediate.int_cells as from cells")


def merged(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, dict[str, str]]:
    """The weight cell of every cell by trust, as the model says."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for trust, name, weight_cell in connection.execute(f"select trust, cell, weight_cell from ({sql})").fetchall():
        assert name not in found[trust]
        found[trust][name] = weight_cell
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(min_cell=st.integers(1, 5), trusts=st.lists(tables.filter(bool), min_size=1, max_size=30))
def test_small_cells_are_merged_as_the_rule_says_step_by_step(
    in_memory: duckdb.DuckDBPyConnection, six_waves: Warehouse, min_cell: int, trusts: list[Table]
) -> None:
    fill(in_memory, min_cell, trusts)
    found = merged(in_memory, compiled(six_waves, "int_cell_merges"))
    assert len(found) == len(trusts)
    for number, table in enumerate(trusts):
        assert found[f"T{number}"] == merge_cells(table, BANDS, GENDERS, min_cell), table


@settings(max_examples=50, deadline=None, derandomize=True)
@given(min_cell=st.integers(1, 5), trusts=st.lists(tables.filter(bool), min_size=1, max_size=30))
def test_whatever_the_cells_no_merged_cell_is_too_small_and_none_is_merged_for_nothing(
    in_memory: duckdb.DuckDBPyConnection, six_waves: Warehouse, min_cell: int, trusts: list[Table]
) -> None:
    fill(in_memory, min_cell, trusts)
    found = merged(in_memory, compiled(six_waves, "int_cell_merges"))
    for number, table in enumerate(trusts):
        names = found[f"T{number}"]
        assert set(names) == {name for name, _, _ in table}
        assert all(names[name] == name for name in names.values())
        groups = {into: {"N": 0, "n": 0, "needed": False} for into in names.values()}
        for name, drawn, responded in table:
            group = groups[names[name]]
            group["needed"] |= fails({"N": drawn, "n": responded}, min_cell)
            group["N"] += drawn
            group["n"] += responded
        assert len(groups) == 1 or not any(fails(group, min_cell) for group in groups.values())
        sizes = pd.Series(list(names.values())).value_counts()
        assert all(groups[into]["needed"] for into in sizes[sizes > 1].index)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(min_cell=st.integers(1, 5), trusts=st.lists(tables.filter(bool), min_size=1, max_size=20))
def test_population_weights_give_the_sample_its_shares_and_sum_to_the_respondents(
    in_memory: duckdb.DuckDBPyConnection, six_waves: Warehouse, min_cell: int, trusts: list[Table]
) -> None:
    fill(in_memory, min_cell, trusts)
    for model in ("int_cell_merges", "int_trusts", "int_weight_cells"):
        query = compiled(six_waves, model)
        in_memory.execute(f"create or replace table warehouse.intermediate.{model} as {query}")
    cells = in_memory.execute("from warehouse.intermediate.int_weight_cells").df()
    for trust, of_trust in cells.groupby("trust"):
        responded, drawn = of_trust["responded"].sum(), of_trust["sampled"].sum()
        if responded == 0 or drawn == 0:  # such a trust is refused before anything is published
            continue
        weighted = of_trust["responded"] * of_trust["population_weight"]
        assert abs(weighted.sum() - responded) <= 1e-9 * responded, trust
        shares = weighted.groupby(of_trust["weight_cell"]).sum() / responded
        expected = of_trust.groupby("weight_cell")["sampled"].sum() / drawn
        assert ((shares - expected).abs() <= 1e-9).all(), trust
        of_all = (weighted * of_trust["trust_weight"]).sum()
        share = cells["responded"].sum() / cells["trust"].nunique()
        assert abs(of_all - share) <= 1e-9 * share, trust
