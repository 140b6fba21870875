"""Every estimate, interval and difference against the R package survey; see tests/reference/README.md."""

import shutil
from typing import Any

import duckdb
import jinja2
import numpy as np
import pandas as pd
import pytest
from conftest import FIXTURES, ROOT, Warehouse, build_once
from reference.count_kinds import HERE, as_markdown, kinds, read
from scipy import special, stats

RELATIVE = 1e-9
ABSOLUTE = 1e-12  # only where R's value is exactly 0
MACROS = ROOT / "dbt_project" / "macros" / "distributions.sql"
QUANTILES = ROOT / "dbt_project" / "statistical_tables" / "t_quantiles.csv"


@pytest.fixture(scope="module")
def merged_strata(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The hand-worked survey with two of its three trusts in one stratum."""
    fixture = FIXTURES / "hand_worked"
    seeds = shutil.copytree(fixture / "seeds", tmp_path_factory.mktemp("merged_strata") / "seeds")
    shutil.copy(HERE / "merged_strata.csv", seeds)
    return build_once(tmp_path_factory, "merged_strata", fixture / "raw", seeds)


KEYS = [
    "survey_year",
    "geography_level",
    "geography_code",
    "breakdown",
    "category",
    "question_id",
    "measure",
    "response",
    "scheme",
    "variance_method",
]
COUNTS = ["base", "degrees_of_freedom"]


def disagreements(both: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows whose number `name` is not R's: too far from it, or there where R has none, or the other way round."""
    expected, found = both[f"{name}_r"].astype(float), both[name].astype(float)
    allowed = 0 if name in COUNTS else np.where(expected == 0, ABSOLUTE, RELATIVE * expected.abs())
    agree = ((found - expected).abs() <= allowed) | (found.isna() & expected.isna())
    return both.loc[~agree, [column for column in both if column in KEYS or column.startswith(name)]]


def compare(reference: pd.DataFrame, ours: pd.DataFrame, keys: list[str], numbers: list[str]) -> None:
    """Every reference row has one row of ours, with the same numbers."""
    assert len(reference) > 0
    assert not reference.duplicated(keys).any()
    expected = reference[[*keys, *numbers]].rename(columns={name: f"{name}_r" for name in numbers})
    both = expected.merge(ours, on=keys, how="left", validate="one_to_one", indicator=True)
    absent = both[both["_merge"] != "both"]
    assert absent.empty, f"{len(absent)} rows of R are not in the warehouse, such as\n{absent[keys].head()}"
    for name in numbers:
        wrong = disagreements(both, name)
        assert wrong.empty, f"{name}: {len(wrong)} of {len(both)} are not R's, such as\n{wrong.head().to_string()}"


def compare_estimates(warehouse: Warehouse, name: str) -> None:
    reference = read(name).query("kind != 'difference'").rename(columns={"df": "degrees_of_freedom"})
    numbers = [*COUNTS, "estimate", "se", "ci_low", "ci_high", "effective_base", "design_effect"]
    ours = warehouse.query("from intermediate.int_estimates").fillna({"response": ""})
    compare(reference, ours[[*KEYS, *numbers]], KEYS, numbers)
    # The other way round: R has everything that the warehouse estimates for the country and all persons.
    national = reference["kind"].isin(["country", "scheme"])
    level = reference.loc[national, "geography_level"].iloc[0]
    assert national.sum() == ((ours["geography_level"] == level) & (ours["breakdown"] == "all")).sum()


def compare_differences(warehouse: Warehouse, name: str) -> None:
    reference = read(name).query("kind == 'difference'")
    reference = reference.rename(columns={"geography_code": "trust", "estimate": "difference"})
    ours = warehouse.query(
        "select survey_year, trust, question_id, response, difference, se from intermediate.int_trust_comparisons"
    )
    compare(reference, ours, ["survey_year", "trust", "question_id", "response"], ["difference", "se"])


def test_the_reference_covers_what_a_survey_can_show() -> None:
    found = kinds(read("reference"))
    assert found["all"] > 2000
    assert min(count for kind, count in found.items() if kind != "without degrees of freedom") > 0
    assert found["of an age band or a gender (domain)"] > 1000
    assert found["of a trust (domain)"] > 1000
    assert found["trust minus country"] > 1000
    assert found["post-stratified"] > 2000
    assert kinds(read("reference_merged_strata"))["without degrees of freedom"] > 0
    assert set(read("reference_supplied")["scheme"]) >= {"supplied", "none"}
    # Aggregates of real persons: none so small that they would tell of one.
    assert read("reference_supplied")["base"].min() >= 30


def test_the_readme_has_the_counts_of_the_files() -> None:
    assert as_markdown() in (HERE / "README.md").read_text(encoding="utf-8")


def test_estimates_of_six_waves_are_those_of_r(six_waves: Warehouse) -> None:
    compare_estimates(six_waves, "reference")


def test_differences_between_trusts_and_the_country_are_those_of_r(six_waves: Warehouse) -> None:
    compare_differences(six_waves, "reference")


def test_two_trusts_in_one_stratum_have_the_estimates_of_r(merged_strata: Warehouse) -> None:
    compare_estimates(merged_strata, "reference_merged_strata")


def test_two_trusts_in_one_stratum_have_the_differences_of_r(merged_strata: Warehouse) -> None:
    compare_differences(merged_strata, "reference_merged_strata")


def test_supplied_weights_give_the_estimates_of_r(cchs: Warehouse) -> None:
    compare_estimates(cchs, "reference_supplied")


def test_supplied_weights_give_the_differences_of_r(cchs: Warehouse) -> None:
    compare_differences(cchs, "reference_supplied")


@pytest.mark.parametrize(("name", "factor"), [("se", 1 + 2e-9), ("estimate", 1 - 2e-9), ("base", 1 + 1e-9)])
def test_a_number_that_is_off_is_found(name: str, factor: float) -> None:
    reference = read("reference").query("kind == 'country'")
    compare(reference, reference, KEYS, [name])
    off = reference.astype({name: float})
    off.loc[off.index[-1], name] *= factor
    with pytest.raises(AssertionError, match=f"{name}: 1 of"):
        compare(reference, off, KEYS, [name])
    with pytest.raises(AssertionError, match="1 rows of R"):
        compare(reference, reference.iloc[1:], KEYS, [name])
    gone = reference.astype({name: float})
    gone.loc[gone.index[0], name] = np.nan
    with pytest.raises(AssertionError, match=f"{name}: 1 of"):
        compare(reference, gone, KEYS, [name])


# ---- distributions ----
def macro(name: str, *arguments: str) -> str:
    """The SQL of a macro; what dbt's `return` hands back is what the macro would print."""
    template = jinja2.Environment().from_string(MACROS.read_text(), globals={"return": lambda value: value})
    return str(getattr(template.module, name)(*arguments))


def evaluated(sql: str, values: np.ndarray) -> np.ndarray:
    """An SQL expression of x, for every value of x."""
    table: Any = pd.DataFrame({"x": values})
    with duckdb.connect() as connection:
        connection.register("given", table)
        return connection.execute(f"select {sql} as value from given").df()["value"].to_numpy()


def test_tabled_t_quantiles_are_those_of_scipy() -> None:
    table = pd.read_csv(QUANTILES)
    assert list(table["degrees_of_freedom"]) == list(range(1, 201))
    np.testing.assert_allclose(table["quantile"], stats.t.ppf(0.975, table["degrees_of_freedom"]), rtol=1e-12, atol=0)


def test_t_quantiles_beyond_the_table_are_those_of_scipy() -> None:
    df = np.unique(np.geomspace(201, 1e7, 2000).astype("int64"))
    found = evaluated(macro("t_quantile", "x", "cast(null as double)"), df)
    np.testing.assert_allclose(found, stats.t.ppf(0.975, df), rtol=1e-12, atol=0)


def test_a_t_quantile_is_the_tabled_one_and_none_without_degrees_of_freedom() -> None:
    found = evaluated(macro("t_quantile", "x", "cast(7 as double)"), np.array([-1, 0, 1, 200]))
    np.testing.assert_array_equal(found, [np.nan, np.nan, 7, 7])


def test_normal_p_values_are_those_of_scipy() -> None:
    # The ends of the three approximations, and a grid over all that a double can hold.
    joins = np.array([0.67448975, 5.656854249492381])
    z = np.unique(np.concatenate([[1e-300, 1e-9], joins, np.nextafter(joins, 99), np.linspace(0, 37, 40001)]))
    found = evaluated(macro("normal_p_value", "x"), np.concatenate([z, -z]))
    np.testing.assert_allclose(found, np.tile(special.erfc(z / np.sqrt(2)), 2), rtol=1e-12, atol=0)


def test_a_p_value_is_none_without_a_deviate_and_zero_far_out() -> None:
    found = evaluated(macro("normal_p_value", "x"), np.array([np.nan, 38.5, 1e6]))
    assert found[1:].tolist() == [0, 0]
    nothing = evaluated(macro("normal_p_value", "cast(null as double)"), np.array([1.0]))
    assert np.isnan(nothing).all()
