"""What is published with an uncertainty: intervals, changes, trusts, means, the guideline; on the six synthetic waves.

Figures are recomputed with numpy and scipy from counts or from the figures that they are made of.
"""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SEEDS, Warehouse
from scipy import stats

from orchestration.warehouse import connect

NORMAL = stats.norm.ppf(0.975)
# Statuses of rows that are no respondents of the wave.
NO_RESPONDENT = ("not_asked", "duplicate", "not_returned", "not_eligible", "not_useable")
WAVES = [2012, 2013, 2014, 2015, 2016, 2017]
FIGURES = ["pct", "se", "ci_low", "ci_high"]


def seed(name: str) -> pd.DataFrame:
    return pd.read_csv(SEEDS / f"{name}.csv")


def near(ours: pd.Series, theirs: pd.Series, within: float = 1e-9) -> bool:
    """Both are the same to a relative `within`, or to as much of a percentage point where they are close to 0."""
    assert len(ours) == len(theirs) > 0
    assert ours.notna().all()
    return bool(np.allclose(ours.astype(float), theirs.astype(float), rtol=within, atol=within))


@pytest.fixture(scope="module")
def exact(six_waves: Warehouse) -> pd.DataFrame:
    """Every published share, not rounded and whether or not it is hidden, in percent."""
    return six_waves.query("from intermediate.int_estimates where is_published and measure = 'share'")


@pytest.fixture(scope="module")
def estimates(six_waves: Warehouse) -> pd.DataFrame:
    return six_waves.published("from marts.estimates")


@pytest.fixture(scope="module")
def changes(six_waves: Warehouse) -> pd.DataFrame:
    return six_waves.published("from marts.changes")


@pytest.fixture(scope="module")
def exact_changes(six_waves: Warehouse) -> pd.DataFrame:
    return six_waves.query("from intermediate.int_changes")


@pytest.fixture
def to_change(six_waves: Warehouse, tmp_path: Path) -> Path:
    """A copy of the warehouse file alone, to change; the name of the file is that of the database in compiled SQL."""
    return Path(shutil.copy(six_waves.settings.warehouse, tmp_path / "warehouse.duckdb"))


def compiled(six_waves: Warehouse, folder: str, model: str) -> str:
    path = six_waves.settings.dbt_target_dir / "compiled" / "cmhs" / "models" / folder / f"{model}.sql"
    return path.read_text(encoding="utf-8")


# ---- shares and intervals ----
def test_every_shown_share_has_an_interval_that_holds_it_between_0_and_100(estimates: pd.DataFrame) -> None:
    shown = estimates[~estimates["suppressed"]]
    assert set(shown["geography_level"] + " " + shown["breakdown"]) == {
        "england all", "england age_band", "england gender", "trust all"
    }  # fmt: skip
    has = shown["no_interval_reason"].isna()
    assert (shown["ci_low"].notna() == has).all()
    assert (shown["ci_high"].notna() == has).all()
    assert has.mean() > 0.99
    shown = shown[has]
    assert (shown["ci_low"] >= 0).all()
    assert (shown["ci_low"] <= shown["pct"]).all()
    assert (shown["pct"] <= shown["ci_high"]).all()
    assert (shown["ci_high"] <= 100).all()


@pytest.mark.parametrize("end", [0, 100])
def test_a_share_of_nobody_or_of_everybody_has_an_interval(exact: pd.DataFrame, end: int) -> None:
    rows = exact[(exact["estimate"] == end) & (exact["degrees_of_freedom"] >= 1)]
    assert len(rows) > 0
    assert (rows["se"] == 0).all()
    assert (rows["effective_base"] == rows["base"]).all()
    other, width = (rows["ci_low"], rows["ci_high"]) if end == 0 else (rows["ci_high"], 100 - rows["ci_low"])
    assert (other == end).all()
    # Wilson's interval at an end: t^2 / (n + t^2).
    squared = stats.t.ppf(0.975, rows["degrees_of_freedom"]) ** 2
    assert near(width, 100 * squared / (rows["base"] + squared), 1e-12)


def test_intervals_are_wilsons_with_the_effective_base_and_students_t(exact: pd.DataFrame) -> None:
    rows = exact[exact["no_interval_reason"].isna() & exact["estimate"].between(0, 100, inclusive="neither")]
    p, squared = rows["estimate"] / 100, stats.t.ppf(0.975, rows["degrees_of_freedom"]) ** 2
    # Its ends are where a test of that share would just reject: (p - x)^2 = t^2 x (1 - x) / n.
    for bound in ("ci_low", "ci_high"):
        x = rows[bound] / 100
        assert np.allclose((p - x) ** 2 * rows["effective_base"], squared * x * (1 - x), rtol=1e-8, atol=1e-12)
    assert (rows["ci_low"] < rows["estimate"]).all()
    assert (rows["ci_high"] > rows["estimate"]).all()


def test_effective_base_and_design_effect_are_those_of_the_variance(exact: pd.DataFrame) -> None:
    rows = exact[exact["se"] > 0]
    p, variance = rows["estimate"] / 100, (rows["se"] / 100) ** 2
    assert near(rows["effective_base"], p * (1 - p) / variance)
    assert near(rows["design_effect"], variance / (p * (1 - p) / (rows["base"] - 1)))


def test_the_shares_of_every_domain_sum_to_100(exact: pd.DataFrame) -> None:
    domain = ["survey_year", "geography_level", "geography_code", "breakdown", "category", "question_id"]
    sums = exact.groupby(domain)["estimate"].sum()
    assert len(sums) > 5000
    assert sums.between(100 - 1e-9, 100 + 1e-9).all()


def test_the_whole_country_is_exact_and_its_parts_are_rounded(estimates: pd.DataFrame, exact: pd.DataFrame) -> None:
    keys = ["survey_year", "geography_level", "geography_code", "breakdown", "category", "question_id", "response"]
    both = estimates.merge(exact.rename(columns={"estimate": "pct"}), on=keys, suffixes=("", "_exact"))
    assert len(both) == len(exact)
    both = both[~both["suppressed"]]
    whole = (both["geography_level"] == "england") & (both["breakdown"] == "all")
    assert whole.sum() == 341
    for figure in [*FIGURES, "effective_base", "design_effect", "base"]:
        assert (both[figure] == both[f"{figure}_exact"])[whole & both[figure].notna()].all(), figure
    for figure in FIGURES:
        assert (both[figure] == both[figure].round(1))[~whole & both[figure].notna()].all(), figure
        assert (both[figure] - both[f"{figure}_exact"]).abs().max() <= 0.05 + 1e-9, figure
        assert (both[figure] != both[f"{figure}_exact"])[~whole].mean() > 0.9, figure
    assert (both["effective_base"] == both["effective_base"].round())[~whole].all()


# ---- the standard error, from counts ----
def counts_of(six_waves: Warehouse, wave: int, question: str) -> pd.DataFrame:
    """Respondents of a wave by trust, weight cell, age band, gender and valid response (NULL without), and weights."""
    return six_waves.query(
        "select counts.*, dense_rank() over (order by trust) - 1 as stratum, "
        "dense_rank() over (order by trust, weight_cell) - 1 as cell, cells.trust_weight, "
        "cells.trust_weight * cells.population_weight as weight from ("
        "select trust, weight_cell, age_band, gender, case when status = 'answered' then response end as response, "
        "cast(sum(n) as integer) as n from intermediate.int_cube "
        f"where survey_year = {wave} and question_id = '{question}' and status not in {NO_RESPONDENT} group by all"
        ") as counts inner join (select distinct trust, weight_cell, trust_weight, population_weight "
        f"from intermediate.int_weight_cells where survey_year = {wave}) as cells using (trust, weight_cell) "
        "order by all"
    )


def variance(counts: pd.DataFrame, weight: pd.Series, u: pd.Series, *, post_stratified: bool) -> float:
    """Variance of the weighted sum of u over persons, trusts being strata; relative to the means of weight cells."""
    n, u = counts["n"].to_numpy(), u.to_numpy()
    if post_stratified:
        cell = counts["cell"]
        u = u - (np.bincount(cell, n * u) / np.bincount(cell, n))[cell]
    r, stratum = weight.to_numpy() * u, counts["stratum"]
    n_h, of_r, of_squares = (np.bincount(stratum, values) for values in (n, n * r, n * r * r))
    return float((n_h / (n_h - 1) * (of_squares - of_r**2 / n_h)).sum())


QUESTIONS = [(2012, "support_work"), (2014, "overall_experience"), (2017, "contact_care_coordinator")]


@pytest.mark.parametrize(("wave", "question"), QUESTIONS)
def test_standard_errors_are_those_of_the_formula_person_by_person(
    six_waves: Warehouse, exact: pd.DataFrame, wave: int, question: str
) -> None:
    counts = counts_of(six_waves, wave, question)
    rows = exact[(exact["survey_year"] == wave) & (exact["question_id"] == question)]
    # A trust would do, but one in eight are enough to see it.
    rows = rows[(rows["geography_level"] == "england") | rows["geography_code"].str.endswith("3")]
    assert {"all", "age_band", "gender"} == set(rows["breakdown"])
    recomputed = []
    for row in rows.itertuples():
        d = counts["response"].notna().astype(float)
        if row.geography_level == "trust":
            d *= counts["trust"] == row.geography_code
        if row.breakdown != "all":
            d *= counts[row.breakdown] == row.category
        z = d * (counts["response"] == row.response)
        total = (counts["weight"] * counts["n"] * d).sum()
        p = (counts["weight"] * counts["n"] * z).sum() / total
        u = (z - p * d) / total
        spread = variance(counts, counts["weight"], u, post_stratified=True)
        recomputed.append((100 * p, 100 * np.sqrt(max(spread, 0)), (counts["n"] * d).sum()))
    again = pd.DataFrame(recomputed, columns=["estimate", "se", "base"], index=rows.index)
    assert near(rows["estimate"], again["estimate"])
    assert np.allclose(rows["se"], again["se"], rtol=1e-8, atol=1e-6)
    assert (rows["base"] == again["base"]).all()


def test_without_weights_and_with_weights_taken_as_fixed_the_formula_holds_too(six_waves: Warehouse) -> None:
    counts = counts_of(six_waves, 2015, "overall_experience")
    effect = six_waves.published(
        "from marts.weighting_effect where survey_year = 2015 and question_id = 'overall_experience'"
    )
    assert set(effect["scheme"]) == {"none", "trust", "trust_population"}
    weights = {"none": counts["n"] * 0 + 1.0, "trust": counts["trust_weight"], "trust_population": counts["weight"]}
    for row in effect.itertuples():
        weight, d = weights[row.scheme], counts["response"].notna().astype(float)
        z = d * (counts["response"] == row.response)
        total = (weight * counts["n"] * d).sum()
        p = (weight * counts["n"] * z).sum() / total
        fixed = 100 * np.sqrt(variance(counts, weight, (z - p * d) / total, post_stratified=False))
        assert row.pct == pytest.approx(100 * p, rel=1e-9)
        assert row.se_fixed_weights == pytest.approx(fixed, rel=1e-9)
        if row.scheme != "trust_population":
            assert row.se == row.se_fixed_weights


def test_weights_taken_as_fixed_are_mostly_a_little_less_certain(six_waves: Warehouse) -> None:
    effect = six_waves.published("from marts.weighting_effect where is_published_scheme")
    assert len(effect) == 341
    ratio = effect["se_fixed_weights"] / effect["se"]
    assert (ratio > 1).mean() > 0.9
    assert 1.01 < ratio.median() < 1.1


def test_the_weights_cost_precision(six_waves: Warehouse) -> None:
    effect = six_waves.published("from marts.weighting_effect").pivot(
        index=["survey_year", "question_id", "response"], columns="scheme", values=["se", "design_effect"]
    )
    assert (effect["se"]["none"] < effect["se"]["trust_population"]).mean() > 0.9
    # Without weights, strata only help.
    assert (effect["design_effect"]["none"] < 1.02).all()


# ---- means ----
def test_means_are_those_of_the_shares(six_waves: Warehouse, exact: pd.DataFrame) -> None:
    means = six_waves.query("from intermediate.int_estimates where is_published and measure = 'mean'")
    assert set(means["question_id"]) == {"overall_experience"}
    keys = ["survey_year", "geography_level", "geography_code", "breakdown", "category", "question_id"]
    scores = exact[exact["question_id"] == "overall_experience"]
    of_shares = (scores["estimate"] * scores["response"].astype(float) / 100).groupby([scores[k] for k in keys]).sum()
    both = means.merge(of_shares.rename("of_shares").reset_index(), on=keys)
    assert len(both) == len(means) > 300
    assert near(both["estimate"], both["of_shares"], 1e-12)
    t = stats.t.ppf(0.975, both["degrees_of_freedom"])
    assert near(both["ci_low"], both["estimate"] - t * both["se"], 1e-10)
    assert near(both["ci_high"], both["estimate"] + t * both["se"], 1e-10)
    published = six_waves.published("from marts.means").merge(both, on=keys, suffixes=("", "_exact"))
    assert len(published) == len(means)
    published = published[~published["suppressed"]]
    whole = (published["geography_level"] == "england") & (published["breakdown"] == "all")
    assert (published["mean_score"] == published["estimate"])[whole].all()
    assert (published["mean_score"] == published["estimate"].round(2))[~whole].mean() > 0.99
    assert ((published["mean_score"] - published["estimate"]).abs() <= 0.005 + 1e-9).all()


def test_the_standard_error_of_a_mean_is_that_of_the_formula_person_by_person(six_waves: Warehouse) -> None:
    counts = counts_of(six_waves, 2016, "overall_experience")
    means = six_waves.query(
        "from intermediate.int_estimates where is_published and measure = 'mean' and survey_year = 2016"
    )
    for row in means.itertuples():
        d = counts["response"].notna().astype(float)
        if row.geography_level == "trust":
            d *= counts["trust"] == row.geography_code
        if row.breakdown != "all":
            d *= counts[row.breakdown] == row.category
        y = d * counts["response"].astype(float).fillna(0)
        total = (counts["weight"] * counts["n"] * d).sum()
        mean = (counts["weight"] * counts["n"] * y).sum() / total
        spread = variance(counts, counts["weight"], (y - mean * d) / total, post_stratified=True)
        assert row.estimate == pytest.approx(mean, rel=1e-9)
        assert row.se == pytest.approx(np.sqrt(spread), rel=1e-8)


# ---- changes ----
def expected_pairs() -> set[tuple[str, int, int]]:
    """Each wave to the one before, first to last, and first to last within each comparable block."""
    block = seed("waves").set_index("survey_year")["comparable_block"]
    pairs = set()
    for question, asked in seed("question_map").groupby("question_id")["survey_year"]:
        years = sorted(set(asked))
        spans = [*pairwise(years), (years[0], years[-1])]
        for name in set(block):
            within = [year for year in years if block[year] == name]
            spans += [(within[0], within[-1])] if within else []
        pairs |= {(question, start, end) for start, end in spans if start < end}
    return pairs


def test_the_pairs_of_waves_are_the_steps_the_whole_and_each_block(changes: pd.DataFrame) -> None:
    england = changes[changes["geography_level"] == "england"]
    keys = ["question_id", "from_year", "to_year"]
    assert set(england[keys].itertuples(index=False, name=None)) == expected_pairs()
    assert not england.duplicated([*keys, "response", "geography_code"]).any()
    trusts = changes[changes["geography_level"] == "trust"]
    assert set(trusts[keys].itertuples(index=False, name=None)) == expected_pairs()
    assert set(england.loc[england["to_year"] - england["from_year"] == 1, "span"]) <= {"wave_to_wave"}


def test_a_change_is_comparable_only_if_every_step_is(changes: pd.DataFrame) -> None:
    steps = seed("comparability")
    table = changes[["question_id", "from_year", "to_year", "comparable", "comparability_note", "geography_level"]]
    table = table[table["geography_level"] == "england"].drop_duplicates()
    assert set(table["comparable"]) == {True, False}
    for row in table.itertuples():
        own = steps[
            (steps["question_id"] == row.question_id)
            & (steps["from_year"] >= row.from_year)
            & (steps["to_year"] <= row.to_year)
        ]
        assert own["from_year"].min() == row.from_year
        assert own["to_year"].max() == row.to_year
        assert row.comparable == own["comparable"].all()
        for note in own["note"]:
            assert note in row.comparability_note


def test_nothing_is_significant_across_a_break(changes: pd.DataFrame) -> None:
    across = changes[~changes["comparable"]]
    assert len(across) > 1000
    assert not across["significant"].fillna(False).astype(bool).any()
    # Some of them would have been.
    assert (across["p_value"] < 1e-6).any()
    shown = changes[~changes["suppressed"] & changes["comparable"]]
    england = shown[shown["geography_level"] == "england"]
    assert (england["significant"] == (england["p_value"] < 0.05)).all()
    trusts = shown[shown["geography_level"] == "trust"]
    assert trusts["significant"].any()
    assert trusts["significant"].sum() < (trusts["p_value"] < 0.05).sum() / 5


def test_a_change_is_the_difference_of_two_independent_shares(exact: pd.DataFrame, exact_changes: pd.DataFrame) -> None:
    keys = ["geography_level", "geography_code", "question_id", "response"]
    shares = exact.loc[exact["breakdown"] == "all", [*keys, "survey_year", "estimate", "se"]]
    both = exact_changes.merge(
        shares.rename(columns={"survey_year": "from_year", "estimate": "before", "se": "se_before"}),
        on=[*keys, "from_year"],
    ).merge(
        shares.rename(columns={"survey_year": "to_year", "estimate": "after", "se": "se_after"}),
        on=[*keys, "to_year"],
    )
    assert len(both) == len(exact_changes)
    assert (both["change"] == both["after"] - both["before"]).all()
    se = np.hypot(both["se_before"], both["se_after"])
    assert near(both["se"], se, 1e-12)
    assert near(both["ci_low"], both["change"] - NORMAL * se, 1e-9)
    assert near(both["ci_high"], both["change"] + NORMAL * se, 1e-9)
    certain = both["se"] > 0
    assert both.loc[~certain, "p_value"].isna().all()
    p = 2 * stats.norm.sf((both["change"].abs() / se)[certain])
    assert np.allclose(both.loc[certain, "p_value"], p, rtol=1e-9, atol=0)


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg(exact_changes: pd.DataFrame) -> None:
    """A step from wave to wave among all between its two waves, a longer change among those of its question."""
    tested = exact_changes["comparable"] & ~exact_changes["suppressed"] & exact_changes["p_value"].notna()
    assert exact_changes.loc[~tested, "p_adjusted"].isna().all()
    steps = exact_changes["span"] == "wave_to_wave"
    among = exact_changes["question_id"].mask(steps, "all questions")
    families = exact_changes[tested].groupby(["from_year", "to_year", "geography_level", among[tested]])
    assert families.ngroups > 2 * (len(WAVES) - 1)
    assert exact_changes[tested & steps].groupby(["to_year", "geography_level"]).ngroups == 2 * (len(WAVES) - 1)
    for _, family in families:
        adjusted = stats.false_discovery_control(family["p_value"], method="bh")
        assert near(family["p_adjusted"], pd.Series(adjusted, index=family.index), 1e-12)


def test_published_changes_of_trusts_are_rounded_and_those_of_the_country_exact(
    changes: pd.DataFrame, exact_changes: pd.DataFrame
) -> None:
    keys = ["question_id", "response", "geography_level", "geography_code", "from_year", "to_year"]
    both = changes.merge(exact_changes, on=keys, suffixes=("", "_exact"), validate="one_to_one")
    assert len(both) == len(changes) == len(exact_changes)
    both = both[~both["suppressed"]]
    trusts = both["geography_level"] == "trust"
    for figure, digits in {"change": 1, "se": 1, "ci_low": 1, "ci_high": 1, "p_value": 3, "p_adjusted": 3}.items():
        there = both[figure].notna()
        assert (there == both[f"{figure}_exact"].notna()).all()
        assert (both[figure] == both[f"{figure}_exact"])[there & ~trusts].all(), figure
        assert (both[figure] == both[figure].round(digits))[there & trusts].all(), figure
        error = (both[figure] - both[f"{figure}_exact"])[there].abs()
        assert error.max() <= 0.5 * 10.0**-digits + 1e-9, figure


def test_the_best_score_rose_by_about_two_points_and_the_questionnaire_is_mentioned(changes: pd.DataFrame) -> None:
    [row] = changes[
        (changes["question_id"] == "overall_experience")
        & (changes["response"] == "10")
        & (changes["geography_level"] == "england")
        & (changes["from_year"] == 2013)
        & (changes["to_year"] == 2017)
    ].itertuples()
    assert 1.5 < row.change < 2.5
    assert row.ci_low < row.change < row.ci_high
    assert row.comparable
    assert row.significant
    assert "questionnaire redeveloped around an unchanged item" in row.comparability_note


@pytest.mark.parametrize(
    "question", ["contact_care_coordinator", "support_work", "support_finance", "support_physical_health"]
)
def test_contact_and_support_cannot_be_compared_across_the_new_questionnaire(
    changes: pd.DataFrame, question: str
) -> None:
    rows = changes[changes["question_id"] == question]
    across = (rows["from_year"] <= 2013) & (rows["to_year"] >= 2014)
    assert {(2013, 2014), (2012, 2017)} <= set(
        rows.loc[across, ["from_year", "to_year"]].itertuples(index=False, name=None)
    )
    assert not rows.loc[across, "comparable"].any()
    assert rows.loc[across, "comparability_note"].str.contains("reworded in the new questionnaire").all()
    assert rows.loc[~across, "comparable"].all()


# ---- a merger ----
def test_nothing_of_a_merged_trust_is_cast_back(
    six_waves: Warehouse, changes: pd.DataFrame, estimates: pd.DataFrame
) -> None:
    years = estimates[estimates["geography_level"] == "trust"].groupby("geography_code")["survey_year"].agg(set)
    assert max(years["S14"]) == max(years["S27"]) == 2015
    assert years["S62"] == {2016, 2017}
    of_merged = changes[changes["geography_code"] == "S62"]
    assert set(of_merged[["from_year", "to_year"]].itertuples(index=False, name=None)) == {(2016, 2017)}
    for gone in ("S14", "S27"):
        assert changes.loc[changes["geography_code"] == gone, "to_year"].max() == 2015
    trusts = six_waves.published("from marts.trusts").set_index(["trust", "survey_year"]).sort_index()
    for gone in ("S14", "S27"):
        assert set(trusts.loc[gone, "continues_as"]) == {"S62"}
        assert set(trusts.loc[gone, "continues_from"]) == {2016}
        assert not trusts.loc[gone, "formed_by_merger"].any()
    assert trusts.loc["S62", "formed_by_merger"].to_dict() == {2016: True, 2017: False}
    assert trusts.loc["S62", "comparable_with_wave_before"].to_dict() == {2016: False, 2017: True}
    assert trusts.loc[("S62", 2016), "merger_note"]
    assert trusts["formed_by_merger"].sum() == 1


def test_a_trust_that_keeps_its_code_over_a_merger_is_not_comparable_across_it(
    six_waves: Warehouse, exact_changes: pd.DataFrame, to_change: Path
) -> None:
    with connect(to_change) as warehouse:
        warehouse.execute(
            "insert into crosswalk.trust_mergers values "
            "(2016, 'S01', 'S01', 'took another one in'), (2016, 'S14', 'S01', 'took another one in')"
        )
        for schema, model in (("intermediate", "int_changes"), ("marts", "changes"), ("marts", "trusts")):
            query = compiled(six_waves, schema, model)
            warehouse.execute(f"create or replace table {schema}.{model} as {query}")
        rebuilt = warehouse.execute("from intermediate.int_changes").df()
        changes = warehouse.execute("from marts.changes where geography_code = 'S01'").df()
        trusts = warehouse.execute("from marts.trusts where trust = 'S01' order by survey_year").df()
    keys = ["question_id", "response", "geography_level", "geography_code", "from_year", "to_year"]
    both = exact_changes.merge(rebuilt, on=keys, suffixes=("", "_now"), validate="one_to_one")
    assert len(both) == len(exact_changes) == len(rebuilt)
    over = (both["geography_code"] == "S01") & (both["from_year"] < 2016) & (both["to_year"] >= 2016)
    assert both.loc[over, "comparable"].any()
    assert not both.loc[over, "comparable_now"].any()
    assert both.loc[over, "p_adjusted_now"].isna().all()
    assert both.loc[over, "comparability_note_now"].str.startswith("the trust merged with another; ").all()
    for column in ("comparable", "comparability_note"):
        assert (both[column] == both[f"{column}_now"])[~over].all()
    assert (both["change"] == both["change_now"]).all()
    over = (changes["from_year"] < 2016) & (changes["to_year"] >= 2016)
    assert set(changes.loc[over, "from_year"]) >= {2012, 2013, 2014, 2015}
    assert not changes.loc[over, "significant"].fillna(False).astype(bool).any()
    assert not changes.loc[over, "comparable"].any()
    assert changes.loc[~over & (changes["from_year"] >= 2014), "comparable"].all()
    assert list(trusts["survey_year"]) == WAVES
    assert dict(zip(trusts["survey_year"], trusts["formed_by_merger"], strict=True)) == {
        year: year == 2016 for year in WAVES
    }
    assert dict(zip(trusts["survey_year"], trusts["comparable_with_wave_before"], strict=True)) == {
        year: year not in (2012, 2016) for year in WAVES
    }


# ---- trusts against the country ----
@pytest.mark.parametrize(("wave", "question"), QUESTIONS)
def test_a_trust_is_compared_with_a_country_that_it_is_a_part_of(
    six_waves: Warehouse, wave: int, question: str
) -> None:
    counts = counts_of(six_waves, wave, question)
    rows = six_waves.query(
        f"from intermediate.int_trust_comparisons where survey_year = {wave} and question_id = '{question}'"
    )
    assert set(rows["trust"]) == set(counts["trust"])
    d, weight = counts["response"].notna().astype(float), counts["weight"]
    total = (weight * counts["n"] * d).sum()
    recomputed = []
    for row in rows.itertuples():
        z = d * (counts["response"] == row.response)
        inside = (counts["trust"] == row.trust).astype(float)
        of_trust = (weight * counts["n"] * d * inside).sum()
        share = (weight * counts["n"] * z * inside).sum() / of_trust
        national = (weight * counts["n"] * z).sum() / total
        u = inside * (z - share * d) / of_trust - (z - national * d) / total
        spread = variance(counts, weight, u, post_stratified=True)
        recomputed.append((100 * (share - national), 100 * np.sqrt(spread)))
    again = pd.DataFrame(recomputed, columns=["difference", "se"], index=rows.index)
    assert near(rows["difference"], again["difference"])
    assert near(rows["se"], again["se"], 1e-8)
    # Adding the variances as if the trust were no part of the country is something else.
    alone = six_waves.query(
        "select trusts.geography_code as trust, trusts.response, sqrt(trusts.se ** 2 + country.se ** 2) as se_apart "
        "from intermediate.int_estimates as trusts inner join intermediate.int_estimates as country "
        "using (survey_year, question_id, response, measure, breakdown, is_published) "
        "where trusts.geography_level = 'trust' and country.geography_level <> 'trust' and breakdown = 'all' "
        f"and is_published and measure = 'share' and survey_year = {wave} and question_id = '{question}'"
    )
    both = rows.merge(alone, on=["trust", "response"])
    assert len(both) == len(rows)
    assert (both["se"] < both["se_apart"]).mean() > 0.9


def bands_of(table: pd.DataFrame) -> pd.DataFrame:
    """Bands of the trusts of one wave and response: additive over-dispersion after Spiegelhalter (2005)."""
    z = (table["difference"] / table["se"]).to_numpy()
    precision = (1 / table["se"] ** 2).to_numpy()
    winsorised = np.clip(z, *np.quantile(z, [0.1, 0.9]))
    dispersion = np.mean(winsorised**2)
    excess = len(z) * dispersion - (len(z) - 1)
    between = max(excess, 0) / (precision.sum() - (precision**2).sum() / precision.sum())
    adjusted = table["difference"] / np.sqrt(table["se"] ** 2 + between)
    better = adjusted if table["better_when"].iloc[0] == "high" else -adjusted
    band = np.select([better > NORMAL, better < -NORMAL], ["better", "worse"], "about_the_same")
    return table.assign(adjusted=adjusted, again=band, dispersion=dispersion, between=np.sqrt(between))


def test_bands_allow_for_the_differences_that_trusts_ordinarily_have(six_waves: Warehouse) -> None:
    comparisons = six_waves.query("from intermediate.int_trust_comparisons").rename(columns={"trust": "geography_code"})
    hidden = six_waves.query(
        "select survey_year, geography_code, question_id, suppressed from intermediate.int_suppression "
        "where geography_level = 'trust'"
    )
    better_when = seed("responses")[["question_id", "response", "better_when"]].dropna().astype(str)
    table = comparisons.merge(hidden, on=["survey_year", "geography_code", "question_id"])
    table = table.merge(better_when, on=["question_id", "response"])
    keys = ["survey_year", "question_id", "response"]
    sizes = six_waves.query(
        "select survey_year, geography_code, question_id, response, base, design_effect "
        "from intermediate.int_estimates where is_published and geography_level = 'trust' and measure = 'share'"
    )
    table = table[~table["suppressed"]].merge(sizes, on=[*keys, "geography_code"])
    # The standard error that a trust would have at the country's share, as in a funnel plot.
    usual = table.groupby(keys)["design_effect"].transform("median")
    table["se"] = np.sqrt(table["national_pct"] * (100 - table["national_pct"]) * usual / (table["base"] - 1))
    again = pd.concat([bands_of(group) for _, group in table.groupby(keys)])
    ours = six_waves.query("from intermediate.int_trust_bands").rename(columns={"trust": "geography_code"})
    both = again.merge(ours, on=[*keys, "geography_code"], how="outer", indicator=True)
    assert (both["_merge"] == "both").all()
    assert near(both["adjusted_z"], both["adjusted"])
    assert near(both["over_dispersion"], both["dispersion"])
    assert near(both["sd_between_trusts"], both["between"])
    assert (both["band"] == both["again"]).all()
    assert set(both["band"]) == {"better", "about_the_same", "worse"}
    # Where hardly anybody, or almost everybody, chose the response, nobody is called extreme for that alone.
    edge = both["pct"].isin([0, 100])
    assert edge.any()
    assert both.loc[edge, "adjusted_z"].abs().max() < 4
    published = six_waves.published("from marts.trust_comparisons").merge(
        both.rename(columns={"geography_code": "trust"})[[*keys, "trust", "band"]],
        on=[*keys, "trust"], how="left", suffixes=("", "_again"),
    )  # fmt: skip
    pd.testing.assert_series_equal(published["band"], published["band_again"], check_names=False)
    # A response that is neither good nor bad, and a hidden one, have no band.
    assert published.loc[published["better_when"].isna() | published["suppressed"], "band"].isna().all()
    assert published["suppressed"].any()


def test_bands_are_counted_beside_what_chance_alone_would_flag(six_waves: Warehouse) -> None:
    counts = six_waves.published("from marts.trust_band_counts")
    keys = ["survey_year", "question_id", "response"]
    bands = six_waves.published("from marts.trust_comparisons where band is not null")
    counted = bands.groupby([*keys, "band"]).size().unstack(fill_value=0).reset_index()
    both = counts.merge(counted, on=keys, suffixes=("", "_again"), validate="one_to_one")
    assert len(both) == len(counts) == len(counted)
    for band in ("better", "about_the_same", "worse"):
        assert (both[band] == both[f"{band}_again"]).all()
    assert (both["trusts"] == both[["better", "about_the_same", "worse"]].sum(axis=1)).all()
    assert np.allclose(both["flagged_by_chance"], 0.05 * both["trusts"])
    flagged = both[["better", "worse"]].sum(axis=1)
    assert flagged.sum() < 2 * both["flagged_by_chance"].sum()
    # Without the allowance, far more trusts would stand out.
    comparisons = six_waves.query("from intermediate.int_trust_comparisons where se > 0")
    assert ((comparisons["difference"] / comparisons["se"]).abs() > NORMAL).mean() > 0.1


# ---- what the new questionnaire did ----
def test_the_step_to_the_new_questionnaire_stands_beside_ordinary_steps(
    six_waves: Warehouse, changes: pd.DataFrame
) -> None:
    block = seed("waves").set_index("survey_year")["comparable_block"]
    steps = changes[(changes["geography_level"] == "england") & (changes["span"] == "wave_to_wave")]
    assert not steps["suppressed"].any()
    new = steps["from_year"].map(block) != steps["to_year"].map(block)
    assert set(steps.loc[new, ["from_year", "to_year"]].itertuples(index=False, name=None)) == {(2013, 2014)}
    ordinary = steps[~new & steps["comparable"]].groupby(["question_id", "response"])["change"]
    expected = steps[new].set_index(["question_id", "response"]).sort_index()
    found = six_waves.published("from marts.instrument_changes").set_index(["question_id", "response"]).sort_index()
    pd.testing.assert_index_equal(found.index, expected.index)
    for figure, column in (("step", "change"), ("se", "se"), ("ci_low", "ci_low"), ("ci_high", "ci_high")):
        assert (found[figure] == expected[column]).all()
    n = ordinary.count().reindex(found.index, fill_value=0)
    assert (found["ordinary_steps"] == n).all()
    several = n >= 2
    assert several.any()
    mean, sd = ordinary.mean().reindex(found.index), ordinary.std().reindex(found.index)
    half = stats.t.ppf(0.975, (n - 1).where(several)) * sd * np.sqrt(1 + 1 / n.where(several))
    for bound, edge in (("ordinary_low", -1), ("ordinary_high", 1)):
        assert near(found.loc[several, bound], (mean + edge * half)[several])
        assert found.loc[~several, bound].isna().all()
    largest = ordinary.agg(lambda step: step.abs().max()).reindex(found.index)
    assert near(found.loc[n > 0, "largest_ordinary_step"], largest[n > 0])
    outside = ~found["step"].between(found["ordinary_low"], found["ordinary_high"])
    assert (found["outside_ordinary"].astype(bool) == outside)[several].all()
    assert set(outside[several]) == {True, False}
    for (question, response), row in found[several].iterrows():
        assert ("within the range" in row["reading"]) != outside[question, response]
        if not row["comparable"]:
            assert "cannot" in row["reading"]


# ---- the guideline ----
def test_the_guideline_is_held_against_the_reviewed_questions_and_nothing_else(
    six_waves: Warehouse, estimates: pd.DataFrame
) -> None:
    table = six_waves.published("from marts.guideline_alignment")
    statements, items = seed("guideline_statements"), seed("guideline_items").astype({"response": str})
    england = estimates[(estimates["geography_level"] == "england") & (estimates["breakdown"] == "all")]
    expected = items.merge(england, on=["question_id", "response"])
    keys = ["survey_year", "statement", "question_id"]
    both = table[table["measured"]].merge(expected, on=keys, suffixes=("", "_share"), validate="one_to_one")
    assert len(both) == table["measured"].sum() == len(expected)
    met = both["meets"] == "is"
    assert set(met) == {True, False}
    assert near(both["pct_met"], both["pct"].where(met, 100 - both["pct"]), 1e-12)
    assert near(both["ci_low"], both["ci_low_share"].where(met, 100 - both["ci_high_share"]), 1e-12)
    assert near(both["ci_high"], both["ci_high_share"].where(met, 100 - both["ci_low_share"]), 1e-12)
    assert near(both["se"], both["se_share"], 1e-12)
    assert (both["base"] == both["base_share"]).all()
    assert (both["ci_low"] <= both["pct_met"]).all()
    assert (both["pct_met"] <= both["ci_high"]).all()
    # Every statement stands in every wave, also if nothing measures it.
    pairs = {(year, statement) for year in WAVES for statement in statements["statement"]}
    assert set(table[["survey_year", "statement"]].itertuples(index=False, name=None)) == pairs
    silent = table[~table["measured"]]
    assert len(silent) > 0
    assert set(silent["how_measured"]) == {"not measured by this survey"}
    assert silent[["question_id", "pct_met", "se", "ci_low", "ci_high", "base"]].isna().all(axis=None)
    assert not silent.duplicated(["survey_year", "statement"]).any()
    unmapped = set(statements["statement"]) - set(items["statement"])
    assert {1, 11, 12, 13, 14, 15} <= unmapped
    assert not set(table.loc[table["measured"], "statement"]) & unmapped


# ---- waves and trusts ----
def test_the_waves_are_described_as_they_were(six_waves: Warehouse) -> None:
    waves = six_waves.published("from marts.waves order by survey_year")
    assert list(waves["survey_year"]) == WAVES
    rates = six_waves.published("from marts.response_rates order by survey_year")
    england = rates[rates["geography_level"] == "england"].reset_index()
    assert (waves["sampled"] == england["sampled"]).all()
    assert (waves["responded"] == england["responded"]).all()
    trusts = rates[rates["geography_level"] == "trust"].groupby("survey_year").size()
    assert (waves["trusts"].to_numpy() == trusts.to_numpy()).all()
    questions = seed("question_map").groupby("survey_year").size()
    assert (waves["questions"].to_numpy() == questions.to_numpy()).all()
    assert (waves["weighting_scheme"] == "trust_population").all()
    assert list(waves["comparable_block"]) == list(seed("waves").sort_values("survey_year")["comparable_block"])


def test_the_trusts_of_each_wave_are_listed_with_the_waves_they_took_part_in(six_waves: Warehouse) -> None:
    trusts = six_waves.published("from marts.trusts")
    took_part = six_waves.published(
        "select survey_year, geography_code as trust from marts.response_rates where geography_level = 'trust'"
    )
    pairs = set(took_part.itertuples(index=False, name=None))
    assert set(trusts[["survey_year", "trust"]].itertuples(index=False, name=None)) == pairs
    assert len(trusts) == len(pairs) == 345
    years = took_part.groupby("trust")["survey_year"]
    assert (trusts["first_year"] == trusts["trust"].map(years.min())).all()
    assert (trusts["last_year"] == trusts["trust"].map(years.max())).all()
    before = [(year - 1, trust) in pairs for year, trust in trusts[["survey_year", "trust"]].itertuples(index=False)]
    assert (trusts["comparable_with_wave_before"] == (pd.Series(before) & ~trusts["formed_by_merger"])).all()
    assert not trusts["comparable_with_wave_before"].all()
