"""The committed synthetic files are what their generator makes, and hold everything the warehouse has to cope with."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyreadstat
import pytest
from conftest import RAW, ROOT, Warehouse

SYNTHETIC = ROOT / "data" / "synthetic"
WAVES = list(range(2012, 2018))
MEBIBYTE = 2**20

ANYWHERE = [
    "age_impossibly_high",
    "age_impossibly_low",
    "blank_answer",
    "blank_filter_answer_behind",
    "dont_know_answer",
    "duplicate",
    "missing_code",
    "missing_frame_age",
    "missing_frame_gender",
    "missing_own_age",
    "missing_own_gender",
    "multiple",
    "not_applicable_answer",
    "not_useable",
    "out_of_range",
    "routing_code",
    "routing_violation",
    "under_age_questionnaire",
    "white_space_trust",
]
SOMEWHERE = [
    "answers_without_return",
    "cell_merged_across_gender",
    "cell_merged_in_gender",
    "cell_respondent_without_frame",
    "frame_age_impossible",
    "small_base",
    "trust_merged",
    "under_age_frame",
    "white_space_code",
    "white_space_key",
    "white_space_record",
    "white_space_sampled",
]
DUPLICATES = ["equal", "different", "fuller_first", "fuller_later", "three_times"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def registry() -> pd.DataFrame:
    return pd.read_csv(RAW / "registry.csv")


@pytest.fixture(scope="module")
def dirt() -> pd.DataFrame:
    return pd.read_csv(SYNTHETIC / "dirt.csv")


@pytest.fixture(scope="module")
def ledger() -> pd.DataFrame:
    return pd.read_csv(SYNTHETIC / "ledger.csv")


def generate(*arguments: str) -> str:
    command = [sys.executable, str(SYNTHETIC / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# ---- the same bytes again ----
def test_the_generator_makes_the_committed_files_byte_for_byte(tmp_path: Path) -> None:
    committed = contents(RAW), {name: (SYNTHETIC / name).read_bytes() for name in ("dirt.csv", "ledger.csv")}
    said = generate("--out", str(tmp_path / "raw"))
    made = contents(tmp_path / "raw"), contents(tmp_path / "raw_ledgers")
    assert [sorted(files) for files in made] == [sorted(files) for files in committed]
    for ours, theirs in zip(made, committed, strict=True):
        assert [name for name in theirs if ours[name] != theirs[name]] == []
    assert "79 of 79 agree" in said


def test_another_seed_makes_other_files_and_leaves_the_committed_ones_alone(tmp_path: Path) -> None:
    before = contents(RAW), contents(SYNTHETIC / "instrument"), (SYNTHETIC / "ledger.csv").read_bytes()
    said = generate("--out", str(tmp_path / "raw"), "--seed", "1")
    assert "79 of 79 agree" in said
    assert (contents(RAW), contents(SYNTHETIC / "instrument"), (SYNTHETIC / "ledger.csv").read_bytes()) == before
    made = contents(tmp_path / "raw")
    assert sorted(made) == sorted(before[0])
    assert all(made[name] != before[0][name] for name in made if "codebook" not in name)


# ---- sizes and shapes ----
def test_the_files_are_small_enough_for_a_repository() -> None:
    sizes = [len(content) for content in contents(RAW).values()]
    assert sum(sizes) <= 20 * MEBIBYTE
    assert max(sizes) <= 5 * MEBIBYTE


def test_every_format_encoding_and_kind_of_frame_occurs(registry: pd.DataFrame) -> None:
    responses = registry[registry["role"] == "responses"].set_index("wave")
    assert list(responses.index) == WAVES
    assert dict(responses["format"]) == dict(zip(WAVES, ["tab", "csv", "sav", "dta", "sav", "sav"], strict=True))
    assert set(registry["encoding"]) == {"utf-8", "windows-1252"}
    assert set(registry.loc[registry["role"] == "sampled", "wave"]) == {2012, 2013, 2015, 2017}
    assert set(registry.loc[registry["role"] == "codebook", "wave"]) == {2012, 2013}
    assert set(registry["provenance"]) == {"synthetic"}
    with pytest.raises(UnicodeDecodeError):
        (RAW / responses.loc[2013, "path"]).read_text(encoding="utf-8")


def columns_of(file: pd.Series) -> list[str]:
    path = RAW / file["path"]
    if file["format"] in ("sav", "dta"):
        read = pyreadstat.read_sav if file["format"] == "sav" else pyreadstat.read_dta
        return list(read(str(path), metadataonly=True)[1].column_names)
    separator = "\t" if file["format"] == "tab" else ","
    return list(pd.read_csv(path, sep=separator, encoding=file["encoding"], nrows=0).columns)


def test_every_wave_has_40_columns_and_names_that_move(registry: pd.DataFrame) -> None:
    responses = registry[registry["role"] == "responses"]
    columns = {file["wave"]: columns_of(file) for _, file in responses.iterrows()}
    assert min(len(names) for names in columns.values()) >= 40
    assert len({tuple(names) for names in columns.values()}) == len(WAVES)
    question_map = pd.read_csv(ROOT / "dbt_project" / "seeds" / "question_map.csv")
    for year, names in columns.items():
        mapped = question_map.loc[question_map["survey_year"] == year, "raw_column"].str.lower()
        assert set(mapped) <= {name.lower() for name in names}
    names_of_work = question_map.loc[question_map["question_id"] == "support_work", "raw_column"].str.lower()
    assert names_of_work.nunique() > 3


def test_the_waves_have_the_real_numbers_of_trusts(six_waves: Warehouse) -> None:
    found = six_waves.query(
        "select survey_year, count(distinct trust) as trusts from intermediate.int_persons group by all order by 1"
    )
    assert list(found["trusts"]) == [61, 58, 57, 55, 58, 56]
    codes = six_waves.query("select distinct trust from intermediate.int_persons")["trust"]
    assert codes.str.fullmatch(r"S\d\d").all(), "no code may look like that of a real trust"


# ---- what is planted ----
@pytest.mark.parametrize("kind", ANYWHERE)
def test_this_dirt_is_in_every_wave(dirt: pd.DataFrame, kind: str) -> None:
    planted = dirt[(dirt["kind"] == kind) & (dirt["n"] > 0)]
    assert sorted(set(planted["survey_year"])) == WAVES


@pytest.mark.parametrize("kind", SOMEWHERE)
def test_this_dirt_is_in_some_wave(dirt: pd.DataFrame, kind: str) -> None:
    assert dirt.loc[dirt["kind"] == kind, "n"].sum() > 0


def test_duplicates_come_in_every_form(dirt: pd.DataFrame) -> None:
    notes = dirt.loc[dirt["kind"] == "duplicate", "note"]
    assert set(notes.str.removeprefix("extra rows: ")) >= set(DUPLICATES)


def test_every_rule_of_exclusion_has_rows_in_every_wave_where_it_can(
    ledger: pd.DataFrame, registry: pd.DataFrame
) -> None:
    rows = ledger.groupby(["status", "survey_year"])["n"].max().unstack()
    for status in ("not_routed", "multiple", "out_of_range", "not_answered", "dont_know", "not_applicable"):
        assert (rows.loc[status] >= 20).all(), status
    for status in ("duplicate", "not_eligible", "not_useable", "routing_violation", "answered"):
        assert (rows.loc[status] >= 20).all(), status
    frame_apart = set(registry.loc[registry["role"] == "sampled", "wave"])
    assert set(rows.columns[rows.loc["not_returned"] > 0]) == set(WAVES) - frame_apart


def test_every_question_of_the_ledger_sums_to_the_rows_of_the_file(ledger: pd.DataFrame, six_waves: Warehouse) -> None:
    landed = six_waves.query("select survey_year, row_count from raw.files where file_role = 'responses'")
    sums = ledger.groupby(["survey_year", "question_id"])["n"].sum().unstack()
    assert sums.shape == (6, 20)
    assert sums.eq(landed.set_index("survey_year")["row_count"], axis=0).all(axis=None)


def test_planted_white_space_arrives_in_the_warehouse_and_goes_no_further(six_waves: Warehouse) -> None:
    landed = six_waves.query("select TrustCode as trust from raw.responses_2012")["trust"]
    assert (landed != landed.str.strip()).sum() == 60
    kept = six_waves.query("select distinct trust from intermediate.int_cube")["trust"]
    assert (kept == kept.str.strip()).all()


def test_small_bases_lie_in_two_waves_with_three_or_more_and_one_with_exactly_one(
    six_waves: Warehouse, dirt: pd.DataFrame
) -> None:
    bases = six_waves.query(
        "select survey_year, trust, question_id, sum(n) filter (where status = 'answered') as base "
        "from intermediate.int_cube group by all"
    )
    small = bases[bases["base"].fillna(0) < 30]
    counts = small.groupby("survey_year").size()
    assert (counts >= 3).sum() == 2
    assert (counts == 1).sum() == 1
    assert len(counts) == 3
    planted = dirt[dirt["kind"] == "small_base"]
    names = planted["note"].str.extract(r"^(\S+) (\S+):")
    planted = set(zip(planted["survey_year"], names[0], names[1], strict=True))
    assert planted == set(small[["survey_year", "trust", "question_id"]].itertuples(index=False, name=None))
