"""The committed six waves from end to end, against the published values and a second opinion."""

import json
import shutil
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import RAW, ROOT, SEEDS, Warehouse
from recompute import agreeing, beside_published, recompute

from orchestration.gate import PUBLISHED_TABLES
from orchestration.release import current, notes_of
from orchestration.warehouse import connect, content_hashes

KEYS = ["survey_year", "question_id", "response", "scheme"]
# The exact shares of the whole country in percent, once for each kind of weights.
COUNTRY = (
    "(select survey_year, question_id, response, scheme, estimate as pct, base from intermediate.int_estimates "
    "where geography_level <> 'trust' and breakdown = 'all' and measure = 'share' "
    "and (scheme <> 'trust_population' or variance_method = 'post_stratified'))"
)


@pytest.fixture(scope="module")
def again() -> dict[str, pd.DataFrame]:
    """Everything recomputed from the raw files without the pipeline."""
    return recompute(RAW, SEEDS)


def same(ours: pd.DataFrame, theirs: pd.DataFrame, keys: list[str]) -> None:
    """Both tables hold the same rows, number for number."""
    assert len(ours) > 0
    ours, theirs = (
        table.astype(dict.fromkeys(table.columns.difference([*keys, "weight_cell"]), "float64"))
        .sort_values(keys)
        .set_index(keys)
        for table in (ours, theirs[ours.columns])
    )
    pd.testing.assert_frame_equal(ours, theirs, check_index_type=False, check_exact=True)


# ---- the ledger and the published values ----
def test_every_exclusion_is_the_one_the_generator_planted(six_waves: Warehouse) -> None:
    ledger = pd.read_csv(ROOT / "data" / "synthetic" / "ledger.csv")
    same(
        ledger,
        six_waves.published("select survey_year, question_id, status, n from marts.exclusions"),
        ["survey_year", "question_id", "status"],
    )


def test_all_79_final_published_values_are_reproduced(six_waves: Warehouse) -> None:
    final = six_waves.published("select * from marts.reconciliation where vintage_status = 'final'")
    published = pd.read_csv(SEEDS / "published_figures.csv").query("status == 'final'")
    keys = ["question_id", "response", "survey_year"]
    assert len(final) == 79
    assert set(final[keys].astype(str).itertuples(index=False)) == set(
        published[keys].astype(str).itertuples(index=False)
    )
    assert final["agrees"].all()
    assert not final["accepted"].any()
    # The verdict is the mart's own: drawn again from its numbers.
    assert ((final["our_pct"] - final["published_pct"]).abs() <= final["tolerance"] + 1e-9).all()
    assert set(final.loc[final["survey_year"] <= 2013, "tolerance"]) == {0.5}
    assert set(final.loc[final["survey_year"] >= 2014, "tolerance"]) == {0.05}


@pytest.mark.parametrize("scheme", ["none", "trust"])
def test_a_lesser_weight_misses_at_least_26_published_values(six_waves: Warehouse, scheme: str) -> None:
    table = six_waves.published(
        "select abs(effect.pct - final.published_pct) > final.tolerance + 1e-9 as missed "
        "from marts.weighting_effect as effect inner join marts.reconciliation as final "
        "using (survey_year, question_id, response) "
        f"where final.vintage_status = 'final' and effect.scheme = '{scheme}'"
    )
    assert len(table) == 79
    assert table["missed"].sum() >= 26


def test_counting_every_returned_row_misses_at_least_26_published_values(
    again: dict[str, pd.DataFrame],
) -> None:
    table = beside_published(again["estimates"], SEEDS)
    assert len(table) == 79
    assert agreeing(table, "trust_population").all()
    assert (~agreeing(table, "unexcluded")).sum() >= 26


# ---- the second opinion ----
def test_a_second_opinion_has_the_same_percentages_and_bases(
    six_waves: Warehouse, again: dict[str, pd.DataFrame]
) -> None:
    ours = six_waves.query(f"from {COUNTRY}")
    theirs = again["estimates"].query("scheme != 'unexcluded'")
    assert set(ours["scheme"]) == {"none", "trust", "trust_population"}
    ours, theirs = (table.set_index(KEYS).sort_index() for table in (ours, theirs))
    assert ours.index.is_unique
    pd.testing.assert_index_equal(ours.index, theirs.index, exact=False)
    assert (ours["base"] == theirs["base"]).all()
    assert ((ours["pct"] - theirs["pct"]).abs() <= 1e-9 * theirs["pct"]).all()


def test_the_published_estimates_are_the_fully_weighted_ones(six_waves: Warehouse) -> None:
    table = six_waves.query(
        "select estimates.pct, estimates.base, exact.pct as exact_pct, exact.base as exact_base "
        "from marts.estimates full outer join "
        f"(from {COUNTRY} where scheme = 'trust_population') as exact "
        "using (survey_year, question_id, response) "
        "where geography_code = 'E92000001' and breakdown = 'all' or geography_code is null"
    )
    assert len(table) == 341
    assert (table["pct"] == table["exact_pct"]).all()
    assert (table["base"] == table["exact_base"]).all()


def test_a_second_opinion_has_the_same_statuses(six_waves: Warehouse, again: dict[str, pd.DataFrame]) -> None:
    same(
        again["exclusions"],
        six_waves.published("select * from marts.exclusions"),
        ["survey_year", "question_id", "status"],
    )


def test_a_second_opinion_has_the_same_weight_cells(six_waves: Warehouse, again: dict[str, pd.DataFrame]) -> None:
    keys = ["survey_year", "trust", "cell"]
    ours = six_waves.query("select *, trust_weight * population_weight as weight from intermediate.int_weight_cells")
    theirs = again["weight_cells"]
    assert (theirs["weight_cell"] != theirs["cell"]).sum() > 20
    same(theirs.drop(columns="weight"), ours, keys)
    both = theirs.merge(ours, on=keys, validate="one_to_one")
    assert ((both["weight_x"] - both["weight_y"]).abs() <= 1e-12 * both["weight_x"]).all()


def test_a_published_weight_cell_is_rounded_or_hidden(six_waves: Warehouse, again: dict[str, pd.DataFrame]) -> None:
    shown = six_waves.published("select * from marts.weight_cells")
    both = again["weight_cells"].merge(shown, on=["survey_year", "trust", "cell"], how="outer", indicator=True)
    assert (both["_merge"] == "both").all()
    hidden = both["suppressed"].astype(bool)
    assert 0 < hidden.sum() < len(both)
    # A merge tells that a cell had nobody in it, so only cells that are hidden may have been merged.
    assert hidden[both["weight_cell"] != both["cell"]].all()
    assert both["merged_into"].isna().all()
    assert both.loc[hidden, ["sampled_y", "responded_y", "weight_y"]].isna().all(axis=None)
    shown = both[~hidden]
    for count in ("sampled", "responded"):
        assert (shown[f"{count}_y"] % 10 == 0).all()
        assert ((shown[f"{count}_x"] - shown[f"{count}_y"]).abs() <= 5).all()
    # The weight shown is made of these counts and of published totals, so that it tells nothing else.
    totals = six_waves.published(
        "select survey_year, geography_code as trust, sampled, "
        "sum(responded) over (partition by survey_year) / count(*) over (partition by survey_year) as weights "
        "from marts.response_rates where geography_level = 'trust'"
    )
    shown = shown[shown["cell"] != "unknown"].merge(totals, on=["survey_year", "trust"], validate="many_to_one")
    made = shown["weights"] * shown["sampled_y"] / shown["responded_y"] / shown["sampled"]
    assert ((made - shown["weight_y"]).abs() <= 0.05 + 1e-9).all()
    assert (shown["weight_y"] == shown["weight_y"].round(1)).all()


def test_a_second_opinion_has_the_same_response_rates(six_waves: Warehouse, again: dict[str, pd.DataFrame]) -> None:
    theirs = again["response_rates"].rename(columns={"trust": "geography_code"})
    england = theirs.drop(columns="geography_code").groupby("survey_year", as_index=False).sum()
    ours = six_waves.published("select * from marts.response_rates order by survey_year, geography_code")
    trusts = ours["geography_level"] == "trust"
    keys = ["survey_year", "geography_code"]
    same(theirs[[*keys, "sampled", "responded"]], ours[trusts], keys)
    same(england.drop(columns="died").assign(geography_code="E92000001"), ours[~trusts], keys)
    # How many persons of a trust had which outcome is not told, nor do its rates tell it.
    assert ours.loc[trusts, ["undeliverable", "not_eligible"]].isna().all(axis=None)
    everybody = pd.concat([theirs, england.assign(geography_code="E92000001")]).sort_values(keys, ignore_index=True)
    reached = everybody["sampled"] - everybody["undeliverable"] - everybody["died"] - everybody["not_eligible"]
    for column, out_of in (("response_rate", everybody["sampled"]), ("adjusted_response_rate", reached)):
        exact = 100 * everybody["responded"] / out_of
        assert (ours[column] - exact)[~trusts].abs().max() < 1e-9
        assert (ours[column] - exact)[trusts].abs().max() <= 0.05 + 1e-9
        assert (ours[column] == ours[column].round(1))[trusts].all()


def test_totals_of_a_trust_leave_no_small_number_to_its_hidden_weight_cells(
    six_waves: Warehouse, again: dict[str, pd.DataFrame]
) -> None:
    shown = six_waves.published("select survey_year, trust, cell, suppressed from marts.weight_cells")
    both = again["weight_cells"].merge(shown, on=["survey_year", "trust", "cell"])
    hidden = both[both["suppressed"].astype(bool)].groupby(["survey_year", "trust"])
    assert len(hidden) > 100
    assert hidden["weight_cell"].nunique().min() >= 2
    assert hidden[["sampled", "responded"]].sum().min().min() >= 10


# ---- what the published page says ----
def overall(six_waves: Warehouse) -> pd.DataFrame:
    table = six_waves.published("select survey_year, score, pct from marts.overall_experience")
    return table.pivot(index="survey_year", columns="score", values="pct")


def support(six_waves: Warehouse) -> pd.DataFrame:
    table = six_waves.published("select survey_year, area, pct from marts.support_not_received")
    return table.pivot(index="survey_year", columns="area", values="pct")


def test_the_best_score_rises_by_about_two_points_to_20_percent(six_waves: Warehouse) -> None:
    best = overall(six_waves)[10]
    assert round(best[2017]) == 20
    assert 1.5 < best[2017] - best[2013] < 2.5


def test_scores_7_to_9_fall_and_0_rises_between_2013_and_2017(six_waves: Warehouse) -> None:
    change = overall(six_waves).loc[2017] - overall(six_waves).loc[2013]
    assert change[[7, 8, 9]].between(-2.0, -1.0).all()
    assert 0.5 < change[0] < 1.5


def test_the_scores_of_a_wave_sum_to_100(six_waves: Warehouse) -> None:
    table = overall(six_waves)
    assert list(table.columns) == list(range(11))
    assert table.sum(axis=1).between(100 - 1e-9, 100 + 1e-9).all()


def test_physical_health_is_best_supported_and_work_least(six_waves: Warehouse) -> None:
    areas = support(six_waves)[["work", "finance", "physical_health"]]
    assert (areas.loc[2017].idxmin(), round(areas.loc[2017, "physical_health"])) == ("physical_health", 36)
    assert areas.mean().idxmax() == "work"
    assert round(areas["work"].mean()) == 44


def test_financial_advice_goes_from_37_to_45_percent(six_waves: Warehouse) -> None:
    finance = support(six_waves)["finance"]
    assert (round(finance[2012]), round(finance[2017])) == (37, 45)


def test_not_knowing_how_to_make_contact_stays_between_3_and_4_percent(six_waves: Warehouse) -> None:
    contact = six_waves.published("select * from marts.contact_care_coordinator")
    assert sorted(contact["survey_year"]) == list(range(2012, 2018))
    assert contact["pct"].between(3.0, 4.0).all()


# ---- breaks, questions that were not asked, provenance ----
def test_the_contact_question_has_its_only_break_before_2014(six_waves: Warehouse) -> None:
    breaks = six_waves.published("select survey_year from marts.contact_care_coordinator where series_break_before")
    assert list(breaks["survey_year"]) == [2014]


def test_the_overall_score_begins_in_2013(six_waves: Warehouse) -> None:
    assert list(overall(six_waves).index) == [2013, 2014, 2015, 2016, 2017]


def test_a_question_that_was_not_asked_has_rows_in_no_mart_but_exclusions(six_waves: Warehouse) -> None:
    asked = pd.read_csv(SEEDS / "question_map.csv")[["survey_year", "question_id"]].drop_duplicates()
    asked = set(asked.itertuples(index=False, name=None))
    tables = six_waves.published(
        "select table_name from duckdb_columns() where schema_name = 'marts' "
        "and column_name in ('survey_year', 'question_id') group by table_name having count(*) = 2"
    )["table_name"]
    assert {"estimates", "exclusions", "reconciliation", "weighting_effect", "question_wording"} <= set(tables)
    not_asked = six_waves.published("select distinct survey_year, question_id, status from marts.exclusions")
    not_asked = not_asked[
        [pair not in asked for pair in not_asked[["survey_year", "question_id"]].itertuples(index=False, name=None)]
    ]
    assert len(not_asked) == 6 * 20 - len(asked) > 0
    assert set(not_asked["status"]) == {"not_asked"}
    # The guideline has statements that no question bears on.
    without = six_waves.published("select distinct question_id, measured from marts.guideline_alignment")
    assert (without["question_id"].isna() == ~without["measured"]).all()
    for table in set(tables) - {"exclusions"}:
        rows = six_waves.published(f"select distinct survey_year, question_id from marts.{table}")
        if table == "guideline_alignment":
            rows = rows.dropna()
        assert set(rows.itertuples(index=False, name=None)) <= asked, table
    areas = pd.read_csv(SEEDS / "questions.csv").dropna(subset="area")
    areas = {(year, area) for q, area in areas[["question_id", "area"]].values for year, of in asked if of == q}
    rows = six_waves.published("select survey_year, area from marts.support_not_received")
    assert set(rows.itertuples(index=False, name=None)) == areas


def test_every_mart_with_survey_values_says_synthetic(six_waves: Warehouse) -> None:
    columns = six_waves.published("select table_name, column_name from duckdb_columns() where schema_name = 'marts'")
    by_table = columns.groupby("table_name")["column_name"].agg(set)
    with_values = {table for table, names in by_table.items() if "survey_year" in names} - {
        "source_files",
        "corrections",
    }
    assert len(with_values) >= 10
    for table in with_values:
        assert "data_provenance" in by_table[table], table
        found = six_waves.published(f"select data_provenance, count(*) as n from marts.{table} group by all")
        assert list(found["data_provenance"]) == ["synthetic"], table
    assert list(six_waves.published("select distinct provenance from marts.source_files")["provenance"]) == [
        "synthetic"
    ]
    assert list(six_waves.published("select provenance from marts.release_info")["provenance"]) == ["synthetic"]


# ---- the same inputs ----
def hashes(warehouse: Warehouse) -> dict[str, str]:
    folder = current(warehouse.settings)
    assert folder is not None
    return {name: table["content_hash"] for name, table in notes_of(folder)["tables"].items() if name != "release_info"}


def runs(warehouse: Warehouse) -> int:
    import dagster as dg

    with warehouse.active(), dg.DagsterInstance.get() as instance:
        return instance.get_runs_count()


def state(warehouse: Warehouse) -> dict[str, int]:
    """When each file of the warehouse and of dbt was written."""
    settings = warehouse.settings
    paths = [settings.warehouse, *settings.dbt_target_dir.rglob("*")]
    return {path.name: path.stat().st_mtime_ns for path in paths}


def test_a_warehouse_built_from_nothing_elsewhere_has_the_same_content(
    six_waves: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMHS_THREADS", "4")
    elsewhere = Warehouse(tmp_path / "another place", RAW, SEEDS)
    assert elsewhere.refresh().changed
    assert len(hashes(six_waves)) == len(PUBLISHED_TABLES) - 1 == 22
    assert hashes(elsewhere) == hashes(six_waves)


def rebuild(warehouse: Warehouse, file: Path, threads: int) -> dict[str, str]:
    """Run the SQL of every model again, in its order, and hash what would be published of it."""
    settings = warehouse.settings
    manifest = json.loads((settings.dbt_target_dir / "manifest.json").read_text(encoding="utf-8"))
    models = {name: node for name, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    order = TopologicalSorter(
        {name: [on for on in node["depends_on"]["nodes"] if on in models] for name, node in models.items()}
    )
    tables = [models[name] for name in order.static_order() if models[name]["config"]["materialized"] == "table"]
    with connect(file) as connection:
        connection.execute(f"set threads = {threads}")
        for node in tables:
            path = settings.dbt_target_dir / "compiled" / "cmhs" / node["original_file_path"]
            query = path.read_text(encoding="utf-8")
            connection.execute(f"create or replace table {node['schema']}.{node['alias']} as {query}")
        return content_hashes(connection, "marts", set(PUBLISHED_TABLES) - {"release_info"})


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_content_does_not_depend_on_the_number_of_threads(
    six_waves: Warehouse, tmp_path: Path, threads: int
) -> None:
    copy = shutil.copy(six_waves.settings.warehouse, tmp_path / "warehouse.duckdb")
    assert rebuild(six_waves, Path(copy), threads) == hashes(six_waves)


def test_a_second_refresh_reads_builds_and_publishes_nothing(six_waves: Warehouse, tmp_path: Path) -> None:
    copy = six_waves.copy(tmp_path / "copy")
    before = state(copy), runs(copy), len(copy.query("from gate.builds")), copy.published_bytes()
    assert before[1] == before[2] == 1
    done = copy.refresh()
    assert not done.changed
    assert done.folder == current(copy.settings)
    assert (state(copy), runs(copy), len(copy.query("from gate.builds")), copy.published_bytes()) == before


def test_another_byte_in_the_crosswalk_makes_it_run_again_without_reading_raw_files(
    six_waves: Warehouse, tmp_path: Path
) -> None:
    copy = six_waves.copy(tmp_path / "copy")
    before, release, content = runs(copy), current(copy.settings), hashes(copy)
    seed = copy.seeds_dir / "questions.csv"
    text = seed.read_text(encoding="utf-8")
    assert text.count("Listened to carefully") == 1
    seed.write_text(text.replace("Listened to carefully", "Listened to Carefully"), encoding="utf-8")
    done = copy.refresh()
    assert done.changed
    assert done.folder == current(copy.settings) != release
    assert runs(copy) == before + 1
    assert not any(": read;" in line for line in copy.said)
    changed = {name for name, value in hashes(copy).items() if value != content[name]}
    # Every published table that shows the label of this question, and no other.
    columns = copy.published("select table_name, column_name from duckdb_columns() where schema_name = 'marts'")
    showing = {
        table
        for table in columns.loc[columns["column_name"] == "question_label", "table_name"]
        if len(copy.published(f"from marts.{table} where question_label = 'Listened to Carefully'"))
    }
    assert changed == showing
    assert {"estimates", "exclusions", "question_wording", "changes", "trust_comparisons"} <= changed
    assert not copy.refresh().changed


def test_restated_figures_are_told_by_vintage(six_waves: Warehouse) -> None:
    """Worked out from the printed figures alone: what changed, and what only looks so for being rounded otherwise."""
    seed = pd.read_csv(SEEDS / "published_figures.csv", dtype={"response": str})
    key = ["question_id", "response", "survey_year"]
    seed = seed.sort_values([*key, "vintage"]).reset_index(drop=True)
    before = seed.groupby(key)[["vintage", "published_pct", "decimals"]].shift()
    seed["revision"] = seed["published_pct"] - before["published_pct"]
    rounding = 0.5 * (10.0 ** -seed["decimals"] + 10.0 ** -before["decimals"])
    seed["restated"] = seed["revision"].abs() > rounding + 1e-9

    final = seed[seed["status"] == "final"].set_index(key)[["published_pct", "decimals"]]
    final = seed[key].merge(final, left_on=key, right_index=True, how="left", validate="many_to_one")
    rounding = 0.5 * (10.0 ** -seed["decimals"] + 10.0 ** -final["decimals"])
    seed["restated_since"] = (final["published_pct"] - seed["published_pct"]).abs() > rounding + 1e-9

    found = six_waves.published("select * from marts.published_vintages")
    found = found.sort_values([*key, "vintage"]).reset_index(drop=True)

    assert len(found) == len(seed) > found["restated"].sum() > 0
    for column in (*key, "vintage", "restated", "restated_since"):
        assert found[column].tolist() == seed[column].tolist(), column
    assert found["previous_vintage"].isna().tolist() == before["vintage"].isna().tolist()
    np.testing.assert_allclose(found["revision"], seed["revision"], atol=1e-12)
    of_2014 = found[(found["survey_year"] == 2014) & (found["question_id"] == "overall_experience")]
    score_10 = of_2014[of_2014["response"] == "10"].set_index("vintage")
    # No step shows that 18.4 became 17.9, since whole percentages were printed in between.
    assert score_10["published_pct"].to_dict() == {"2014-10": 18, "2016-05": 18.4, "2017-01": 18, "2018-02": 17.9}
    assert not score_10["restated"].any()
    assert score_10.index[score_10["restated_since"]].tolist() == ["2016-05"]
