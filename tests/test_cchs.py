"""Nothing is wired in: nine cycles of a real survey, described by another crosswalk, through the same job."""

from pathlib import Path

import pandas as pd
from conftest import CCHS_DATA, Warehouse
from recompute import recompute

from orchestration.release import current, notes_of

HERE = Path(__file__).parent / "cchs"
# The exact shares of the whole country in percent, once for each kind of weights.
COUNTRY = (
    "(select survey_year, question_id, response, scheme, estimate as pct, base from intermediate.int_estimates "
    "where geography_level <> 'trust' and breakdown = 'all' and measure = 'share')"
)


def test_all_164_reference_results_are_reproduced(cchs: Warehouse) -> None:
    reference = pd.read_csv(CCHS_DATA / "reference_weighted_results.csv")
    wave_of = pd.read_csv(HERE / "registry.csv").set_index("study_number")["wave"]
    reference["survey_year"] = reference["dataset"].map(wave_of)
    reference["question_id"] = reference["canonical"].str.lower()
    reference["response"] = reference["code"].astype(str)
    ours = cchs.query(
        "with counted as (select survey_year, question_id, response, sum(n) as persons "
        "from intermediate.int_cube where status = 'answered' group by all) "
        "select survey_year, question_id, response, weighted.pct, plain.pct as plain_pct, weighted.base, persons "
        f"from (from {COUNTRY} where scheme = 'supplied') as weighted "
        f"inner join (from {COUNTRY} where scheme = 'none') as plain "
        "using (survey_year, question_id, response) "
        "left join counted using (survey_year, question_id, response)"
    )
    keys = ["survey_year", "question_id", "response"]
    both = reference.merge(ours, on=keys, validate="one_to_one")
    assert len(both) == len(reference) == 164
    assert ((both["pct"] - both["pct_weighted"]).abs() <= 1e-4).all()
    assert ((both["plain_pct"] - both["pct_unweighted"]).abs() <= 1e-4).all()
    assert (both["base"] == both["n_valid"]).all()
    assert (both["persons"] == both["n"]).all()
    # Weighted and plain results differ, so that the agreement is one of the weights too.
    assert ((both["pct"] - both["plain_pct"]).abs() > 1).sum() > 80


def test_a_second_opinion_has_the_same_percentages_bases_and_statuses(cchs: Warehouse) -> None:
    again = recompute(cchs.raw_dir, cchs.seeds_dir)
    keys = ["survey_year", "question_id", "response", "scheme"]
    ours = cchs.query(f"from {COUNTRY} where scheme in ('none', 'supplied')")
    both = (
        again["estimates"]
        .query("scheme != 'unexcluded'")
        .merge(ours, on=keys, how="outer", indicator=True, validate="one_to_one")
    )
    assert len(both) > 2 * 164
    assert (both["_merge"] == "both").all()
    assert (both["base_x"] == both["base_y"]).all()
    assert ((both["pct_x"] - both["pct_y"]).abs() <= 1e-9 * both["pct_x"]).all()
    keys = ["survey_year", "question_id", "status"]
    ours = cchs.published("select survey_year, question_id, status, n from marts.exclusions")
    both = again["exclusions"].merge(ours, on=keys, how="outer", indicator=True, validate="one_to_one")
    assert (both["_merge"] == "both").all()
    assert (both["n_x"] == both["n_y"]).all()


def test_the_release_says_that_the_data_are_deposited_ones(cchs: Warehouse) -> None:
    folder = current(cchs.settings)
    assert folder is not None
    assert notes_of(folder)["provenance"] == "deposit"
    assert list(cchs.published("select provenance from marts.release_info")["provenance"]) == ["deposit"]
    for table in ("estimates", "exclusions", "weighting_effect", "question_wording"):
        found = cchs.published(f"select distinct data_provenance from marts.{table}")
        assert list(found["data_provenance"]) == ["deposit"], table
    assert "synthetic" not in (folder / "README.txt").read_text(encoding="utf-8").lower()


def test_no_row_is_named_england(cchs: Warehouse) -> None:
    rows = cchs.published("select distinct geography_level, geography_code, geography_name from marts.estimates")
    assert "Canada" in set(rows["geography_name"])
    for table in cchs.published("select table_name from duckdb_tables() where schema_name = 'marts'")["table_name"]:
        if table == "column_dictionary":  # the words of the documentation, the same for any survey
            continue
        content = cchs.published(f"select * from marts.{table}").astype(str)
        for name in content:
            assert not content[name].str.contains(r"england|E92000001|\bNHS\b", case=False).any(), f"{table}.{name}"
