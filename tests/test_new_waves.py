"""Three waves added to a published survey by raw files, registry and crosswalk rows alone: 2010, 2011 and 2018.

The files are made up; what is special about each is in fixtures/new_waves/README.md. The percentages, bases, statuses
and weights are held against the second opinion, the rest against counts from the raw files and what was planted.
"""

import csv
import importlib.util
import re
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from conftest import NEW_WAVES, ROOT, Warehouse, folder_of
from recompute import read_raw, recompute
from test_six_waves import COUNTRY, KEYS, same

from orchestration.cli import headline
from orchestration.comparison import restated
from orchestration.registry import read_registry
from orchestration.release import notes_of

YEARS = "(2010, 2011, 2018)"
ENGLAND = "geography_code = 'E92000001'"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def again(nine_waves: Warehouse) -> dict[str, pd.DataFrame]:
    """The new waves recomputed from their raw files without the pipeline."""
    return recompute(nine_waves.raw_dir, nine_waves.seeds_dir, registry=NEW_WAVES / "registry_rows.csv")


@pytest.fixture(scope="module")
def forms_of_2018() -> pd.DataFrame:
    """The forms of 2018 as received, without the second ones of a person: these come last and hold less."""
    forms = read_raw(NEW_WAVES / "raw" / "2018" / "cmh18_respondents.sav", "sav", "utf-8")
    assert forms["recno"].duplicated().sum() == 3
    return forms.drop_duplicates("recno")


# ---------------------------------------------------------------------------------------- without a line of code


def test_only_raw_files_and_rows_were_added(six_waves: Warehouse, nine_waves: Warehouse) -> None:
    """What differs between the inputs of both: files of the registry, and rows at the end of CSVs."""
    for old, new in ((six_waves.raw_dir, nine_waves.raw_dir), (six_waves.seeds_dir, nine_waves.seeds_dir)):
        before, after = ({p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in (old, new))
        registered = {Path(file.path) for file in read_registry(nine_waves.settings.registry)}
        assert before.keys() <= after.keys()
        assert after.keys() - before.keys() <= registered
        changed = {path for path in before if before[path] != after[path]}
        assert changed
        for path in changed:
            assert path.suffix == ".csv"
            assert after[path].startswith(before[path])
    kinds = {path.suffix for path in NEW_WAVES.rglob("*") if path.is_file()} - {".md"}
    assert kinds == {".csv", ".tab", ".dta", ".sav"}
    assert sum(path.stat().st_size for path in NEW_WAVES.rglob("*") if path.is_file()) < 300_000


def test_no_code_knows_of_the_new_waves() -> None:
    folders = ("orchestration", "expectations", "dbt_project")
    files = [p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in (".py", ".sql", ".yml", ".json")]
    assert len(files) > 150
    # A month, as 2018-02, is an example of a vintage.
    named = [p for p in files if re.search(r"\b(2010|2011|2018)\b(?!-\d\d)", p.read_text(encoding="utf-8"))]
    assert named == []


def test_the_raw_files_are_what_their_script_makes(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_new_waves", NEW_WAVES.with_name("make_new_waves.py"))
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(made) == 7
    assert made == {path: (NEW_WAVES / path).read_bytes() for path in made}


# ---------------------------------------------------------------------------------------- the second opinion


def test_a_second_opinion_has_the_same_percentages_and_bases(
    nine_waves: Warehouse, again: dict[str, pd.DataFrame]
) -> None:
    ours = nine_waves.query(f"select * from {COUNTRY} where survey_year in {YEARS}")
    theirs = again["estimates"].query("scheme != 'unexcluded'")
    ours, theirs = (table.set_index(KEYS).sort_index() for table in (ours, theirs))
    assert ours.index.is_unique
    pd.testing.assert_index_equal(ours.index, theirs.index, exact=False)
    assert (ours["base"] == theirs["base"]).all()
    assert ((ours["pct"] - theirs["pct"]).abs() <= 1e-9).all()
    # The weights matter: without them most shares are others.
    shares = theirs["pct"].unstack("scheme")
    assert ((shares["trust_population"] - shares["none"]).abs() > 0.1).mean() > 0.5


def test_a_second_opinion_has_the_same_statuses(nine_waves: Warehouse, again: dict[str, pd.DataFrame]) -> None:
    ours = nine_waves.published(f"select * from marts.exclusions where survey_year in {YEARS}")
    same(again["exclusions"], ours, ["survey_year", "question_id", "status"])


def test_a_second_opinion_has_the_same_weight_cells(nine_waves: Warehouse, again: dict[str, pd.DataFrame]) -> None:
    keys = ["survey_year", "trust", "cell"]
    ours = nine_waves.query(
        "select *, trust_weight * population_weight as weight from intermediate.int_weight_cells "
        f"where survey_year in {YEARS}"
    )
    same(again["weight_cells"].drop(columns="weight"), ours, keys)
    both = again["weight_cells"].merge(ours, on=keys, validate="one_to_one")
    assert ((both["weight_x"] - both["weight_y"]).abs() <= 1e-12 * both["weight_x"]).all()


def test_a_second_opinion_has_the_same_response_rates(nine_waves: Warehouse, again: dict[str, pd.DataFrame]) -> None:
    ours = nine_waves.published(
        "select survey_year, geography_code as trust, sampled, responded from marts.response_rates "
        f"where geography_level = 'trust' and survey_year in {YEARS}"
    )
    same(ours, again["response_rates"], ["survey_year", "trust"])


# ---------------------------------------------------------------------------------------- persons of 16 and 17


def test_nobody_under_18_is_counted_in_2010_or_2011(nine_waves: Warehouse) -> None:
    """Who is under age by the frame or by the form is not eligible, and who is by the frame was not drawn."""
    everybody = read_raw(NEW_WAVES / "raw" / "2010" / "cmh2010_all.dta", "dta", "utf-8")
    years = everybody[["sampage", "j02"]].apply(pd.to_numeric)
    young = (everybody["outcome"] == "1") & ((years["sampage"] < 18) | (2010 - years["j02"] < 18))
    forms = read_raw(NEW_WAVES / "raw" / "2011" / "cmhs11.csv", "csv", "windows-1252")
    also_young = (forms["frameage"] == "16 or 17") | (forms["q41"].astype(int) < 18)
    # Each of four trusts: five by the frame, two of whom write that they are 18, and two by the form alone.
    assert young.sum() == also_young.sum() == 4 * (5 + 2)

    left_out = nine_waves.published(
        "select survey_year, count(*) as questions, sum(n) as n from marts.exclusions "
        "where status = 'not_eligible' and survey_year in (2010, 2011) group by 1 order by 1"
    )
    assert list(left_out["n"] / left_out["questions"]) == [28, 28]
    assert list(left_out["questions"]) == [12, 14]

    counts = nine_waves.published(
        f"select survey_year, sampled, responded from marts.response_rates where {ENGLAND} order by survey_year"
    ).set_index("survey_year")
    assert counts.loc[2010, "sampled"] == counts.loc[2011, "sampled"] == 4 * (84 - 5)
    returned = everybody[(everybody["outcome"] == "1") & ~young].drop_duplicates("serial")
    assert counts.loc[2010, "responded"] == len(returned)
    assert counts.loc[2011, "responded"] == len(forms[~also_young].drop_duplicates("record"))


# ---------------------------------------------------------------------------------------- 2018


def test_contact_is_read_from_where_it_moved_to(nine_waves: Warehouse, forms_of_2018: pd.DataFrame) -> None:
    """Its old column holds a question with the same codes, to which many more say no."""
    columns = nine_waves.published(
        "select question_id, raw_column from marts.question_wording where survey_year = 2018"
    ).set_index("question_id")["raw_column"]
    assert columns["contact_care_coordinator"] == "q11_1"
    assert columns["crisis_contact_known"] == "q09_1"

    asked = ~forms_of_2018["q08_1"].isin(["2", "3"]) & (forms_of_2018["q10_1"] != "6")
    answers = forms_of_2018.loc[asked & forms_of_2018["q11_1"].isin(["1", "2"]), "q11_1"]
    elsewhere = forms_of_2018.loc[forms_of_2018["q09_1"].isin(["1", "2"]), "q09_1"]
    no, no_elsewhere = (100 * (values == "2").mean() for values in (answers, elsewhere))
    assert no < 15 < 35 < no_elsewhere
    found = nine_waves.published(
        "select question_id, pct from marts.weighting_effect where survey_year = 2018 and scheme = 'none' "
        "and response = 'no' and question_id in ('contact_care_coordinator', 'crisis_contact_known')"
    ).set_index("question_id")["pct"]
    assert found["contact_care_coordinator"] == pytest.approx(no)
    assert found["crisis_contact_known"] == pytest.approx(no_elsewhere)
    [published] = nine_waves.published("select base from marts.contact_care_coordinator where survey_year = 2018")[
        "base"
    ]
    assert published == len(answers)


def test_a_new_option_is_a_response_of_its_wave_alone(nine_waves: Warehouse, forms_of_2018: pd.DataFrame) -> None:
    found = nine_waves.published(
        "select distinct survey_year, response from marts.estimates where question_id = 'in_charge_type'"
    )
    options = found.groupby("survey_year")["response"].agg(set)
    assert all("peer_support_worker" not in options[year] for year in range(2014, 2018))
    assert options[2018] == options[2017] | {"peer_support_worker"}
    chosen = forms_of_2018.loc[~forms_of_2018["q08_1"].isin(["2", "3"]), "q10_1"]
    given = chosen[chosen.isin([str(code) for code in range(1, 9)])]
    bases = nine_waves.published(
        f"select base from marts.estimates where {ENGLAND} and breakdown = 'all' and response = 'peer_support_worker'"
    )["base"]
    assert (given == "8").sum() > 3
    assert list(bases) == [len(given)]
    # Code 8, which was don't know in the year before, is an answer now.
    unweighted = nine_waves.published(
        "select pct from marts.weighting_effect where scheme = 'none' and response = 'peer_support_worker'"
    )["pct"]
    assert list(unweighted) == [pytest.approx(100 * (given == "8").mean())]


def test_a_new_option_that_does_not_apply_is_outside_the_base(
    nine_waves: Warehouse, forms_of_2018: pd.DataFrame
) -> None:
    answers = forms_of_2018["q31_1"]
    assert (answers == "6").sum() > 20
    counts = nine_waves.published(
        "select status, n from marts.exclusions where survey_year = 2018 and question_id = 'support_finance'"
    ).set_index("status")["n"]
    assert counts["not_applicable"] == answers.isin(["4", "5", "6"]).sum()
    assert counts["answered"] == answers.isin(["1", "2", "3"]).sum()


def test_a_question_with_another_meaning_is_compared_with_nothing(nine_waves: Warehouse) -> None:
    columns = nine_waves.published(
        "select survey_year, question_id, raw_column from marts.question_wording where raw_column = 'q14_1'"
    )
    assert set(columns.itertuples(index=False, name=None)) == {
        (2017, "review_meeting", "q14_1"),
        (2018, "review_date_agreed", "q14_1"),
    }
    changes = nine_waves.published("select question_id, max(to_year) as last from marts.changes group by 1")
    last = changes.set_index("question_id")["last"]
    assert "review_date_agreed" not in last.index
    assert last["review_meeting"] == 2017
    asked = nine_waves.published(
        "select survey_year, question_id from marts.exclusions where status <> 'not_asked' "
        "and question_id in ('review_meeting', 'review_date_agreed') group by all"
    )
    assert set(asked.loc[asked["question_id"] == "review_date_agreed", "survey_year"]) == {2018}
    assert set(asked.loc[asked["question_id"] == "review_meeting", "survey_year"]) == set(range(2010, 2018))


def test_nothing_is_compared_over_a_merger_or_cast_back_before_it(nine_waves: Warehouse) -> None:
    trusts = nine_waves.published(
        "select survey_year, geography_code from marts.estimates where geography_level = 'trust' group by all"
    )
    years = trusts.groupby("geography_code")["survey_year"].agg(set)
    assert years["S67"] == {2018}
    assert 2017 in years["S10"] and 2017 in years["S11"] and 2017 in years["S15"]
    assert 2018 not in years["S10"] | years["S11"] | years["S15"]

    changes = nine_waves.published(
        "select geography_code, from_year, to_year, comparable, significant, comparability_note from marts.changes "
        "where geography_level = 'trust' and to_year = 2018"
    )
    assert "S67" not in set(changes["geography_code"])
    kept_its_code = changes[changes["geography_code"] == "S16"]
    assert len(kept_its_code) > 30
    assert not kept_its_code["comparable"].any()
    assert not kept_its_code["significant"].fillna(False).astype(bool).any()
    assert kept_its_code["comparability_note"].str.startswith("the trust merged with another").all()
    assert changes.loc[changes["geography_code"] == "S01", "comparable"].any()

    told = nine_waves.published("select * from marts.trusts where survey_year in (2017, 2018)")
    told = told.set_index(["survey_year", "trust"])
    assert told.loc[(2017, "S10"), "continues_as"] == told.loc[(2017, "S11"), "continues_as"] == "S67"
    assert told.loc[(2018, "S16"), "formed_by_merger"] and told.loc[(2018, "S67"), "formed_by_merger"]


def test_renamed_weight_cells_are_those_of_their_wave_alone(nine_waves: Warehouse) -> None:
    cells = nine_waves.published("select survey_year, cell from marts.weight_cells where cell <> 'unknown'")
    bands = cells.assign(band=cells["cell"].str.split(":").str[1]).groupby("survey_year")["band"].agg(set)
    younger = {"age_18_35", "age_36_50"}
    assert bands[2018] == younger | {"age_51_64", "age_65_plus"}
    assert all(bands[year] == younger | {"age_51_65", "age_66_plus"} for year in range(2010, 2018))
    categories = nine_waves.published(
        "select distinct category from marts.estimates where survey_year = 2018 and breakdown = 'age_band'"
    )["category"]
    assert set(categories) == bands[2018]

    weights = nine_waves.query(
        "select survey_year, trust, sum(responded) as n, sum(responded * trust_weight * population_weight) as weights "
        f"from intermediate.int_weight_cells where survey_year in {YEARS} group by all"
    )
    of_wave = weights.groupby("survey_year")
    assert (weights["weights"] - of_wave["n"].transform("mean")).abs().max() < 1e-9
    assert list(of_wave["n"].count()) == [4, 4, 5]


# ---------------------------------------------------------------------------------------- the series


def test_waves_are_compared_as_the_crosswalk_says(nine_waves: Warehouse) -> None:
    changes = nine_waves.published(
        f"select distinct question_id, from_year, to_year, span, comparable from marts.changes where {ENGLAND}"
    )
    steps = changes[changes["span"] == "wave_to_wave"].set_index(["question_id", "from_year", "to_year"])["comparable"]
    added = rows_of(NEW_WAVES / "seeds" / "comparability.csv")
    assert len(added) > 35
    for row in added:
        key = (row["question_id"], int(row["from_year"]), int(row["to_year"]))
        assert bool(steps[key]) == (row["comparable"] == "true"), key
    contact = changes[changes["question_id"] == "contact_care_coordinator"].set_index(["from_year", "to_year"])
    assert contact.loc[(2010, 2013), ["span", "comparable"]].tolist() == ["comparable_block", True]
    assert contact.loc[(2014, 2018), ["span", "comparable"]].tolist() == ["comparable_block", True]
    assert contact.loc[(2010, 2018), ["span", "comparable"]].tolist() == ["first_to_last", False]
    # Five words and six words are two scales.
    ratings = changes[changes["question_id"].str.startswith("overall_rating")]
    pairs = ratings[["question_id", "from_year", "to_year"]].itertuples(index=False, name=None)
    assert set(pairs) == {("overall_rating_five_points", 2010, 2011)}
    breaks = nine_waves.published(
        "select distinct question_id from marts.estimates where survey_year = 2018 and series_break_before"
    )["question_id"]
    assert list(breaks) == ["in_charge_type"]


def test_the_headlines_have_the_new_waves(nine_waves: Warehouse) -> None:
    scores = nine_waves.published("select score, pct from marts.overall_experience where survey_year = 2018")
    assert sorted(scores["score"]) == list(range(11))
    assert scores["pct"].sum() == pytest.approx(100)
    contact = nine_waves.published("select survey_year from marts.contact_care_coordinator")["survey_year"]
    assert sorted(contact) == list(range(2010, 2019))
    support = nine_waves.published("select survey_year, area from marts.support_not_received")
    areas = support.groupby("survey_year")["area"].agg(set)
    always = {"finance", "physical_health", "work"}
    assert areas[2010] == always
    assert areas[2011] == areas[2012] == areas[2013] == always | {"accommodation", "care_responsibilities"}
    assert areas[2018] == always | {"local_activity", "peer"}
    first, *_ = headline(folder_of(nine_waves)).splitlines()
    assert first.split() == ["percent", *map(str, range(2010, 2019))]
    page = (folder_of(nine_waves) / "report" / "index.html").read_text(encoding="utf-8")
    assert "2018" in page and "2010" in page


def test_the_published_history_does_not_move(six_waves: Warehouse, nine_waves: Warehouse) -> None:
    earlier, later = folder_of(six_waves), folder_of(nine_waves)
    notes = notes_of(later)
    assert notes["restates"]["release_id"] == earlier.name
    assert notes["restates"]["values"] == 0
    assert len((later / "restatements.csv").read_text(encoding="utf-8").splitlines()) == 1
    assert restated(earlier, later, 0.0) == []
    # Only changes between the first and the last wave are others now.
    keys = ["question_id", "response", "geography_level", "geography_code", "from_year", "to_year"]
    old, new = (w.published("from marts.changes").set_index(keys).sort_index() for w in (six_waves, nine_waves))
    gone = old.index.difference(new.index)
    assert set(old.loc[gone, "span"]) == {"first_to_last", "comparable_block"}
    # Of the others every figure is the same, also the p-values that are adjusted for each other.
    stayed = old.index.intersection(new.index)
    assert set(old.loc[stayed, "span"]) == {"wave_to_wave", "comparable_block"}
    assert old.loc[stayed, "significant"].fillna(False).astype(bool).sum() > 20
    pd.testing.assert_frame_equal(old.loc[stayed], new.loc[stayed])


# ---------------------------------------------------------------------------------------- what was reused


def test_waves_that_were_there_are_reused_as_landed_and_the_release_says_so(
    six_waves: Warehouse, nine_waves: Warehouse
) -> None:
    old = list(range(2012, 2018))
    notes = {name: notes_of(folder_of(w)) for name, w in (("six", six_waves), ("nine", nine_waves))}
    assert (notes["six"]["waves_read"], notes["six"]["waves_reused"]) == (old, [])
    assert (notes["nine"]["waves_read"], notes["nine"]["waves_reused"]) == ([2010, 2011, 2018], old)
    with nine_waves.active(), dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["published", "release"]))
        assert event is not None and event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert metadata["waves read in this run"].value == "2010, 2011, 2018"
        assert metadata["waves reused as landed"].value == ", ".join(map(str, old))
        words = [entry.user_message for entry in instance.all_logs(event.run_id) if entry.dagster_event is None]
    assert "waves read: 2010, 2011, 2018; reused as landed: 2012, 2013, 2014, 2015, 2016, 2017" in words
    # The tables themselves are those that the run before had landed.
    runs = nine_waves.query("select survey_year, min(landed_by) as run from raw.files group by 1 order by 1")
    before = six_waves.query("select distinct landed_by from raw.files")["landed_by"]
    assert set(runs.loc[runs["survey_year"].isin(old), "run"]) == set(before)
