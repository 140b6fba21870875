"""Known errors of raw files: corrected by rows of the crosswalk, as if the files had never had them."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyreadstat
import pytest
from conftest import Warehouse, folder_of
from recompute import recompute

from orchestration import gate
from orchestration.explain import explain, in_words
from orchestration.lineage import raw_columns, upstream
from orchestration.release import notes_of
from orchestration.report.lineage import DATA
from orchestration.settings import DBT_PROJECT_DIR
from orchestration.warehouse import connect
from orchestration.wave.received import landed
from orchestration.wave.rehearsal import Rehearsal
from tests.torture.survey import read_rows, review_deliveries, write_rows

FORMS, SAMPLED, SPSS = "2013/hand_2013.csv", "2013/hand_2013_sampled.csv", "2014/hand_2014.sav"
COLUMNS = (
    "correction", "survey_year", "file_role", "raw_column", "found", "condition_column", "condition_value", "action",
    "replacement", "reason", "source", "reviewer", "reviewed_on",
)  # fmt: skip
Row = dict[str, str]
# All made up.
VOUCHED = {
    "reason": "the trust's scanner",
    "source": "a letter",
    "reviewer": "A. Reviewer",
    "reviewed_on": "2026-11-25",
}


def correction(name: str, raw_column: str, found: str, replacement: str = "", **cells: str) -> Row:
    """A row of the seed: of the responses of 2013, unless the cells say otherwise."""
    row = {"correction": name, "survey_year": "2013", "file_role": "responses", "raw_column": raw_column}
    row |= {"found": found, "action": "replace" if replacement else "set_missing", "replacement": replacement}
    return dict.fromkeys(COLUMNS, "") | row | VOUCHED | cells


def of_trust(trust: str) -> Row:
    return {"condition_column": "trustcode", "condition_value": trust}


def write_corrections(warehouse: Warehouse, rows: list[Row]) -> None:
    with (warehouse.seeds_dir / "corrections.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def in_rows(warehouse: Warehouse, path: str, change: Callable[[list[Row]], None]) -> None:
    """Another content of a text file, registered as a new edition."""
    rows = read_rows(warehouse.raw_dir / path, "cp1252")
    change(rows)
    write_rows(warehouse.raw_dir / path, rows, "cp1252")
    register(warehouse, path)


def register(warehouse: Warehouse, path: str) -> None:
    content = (warehouse.raw_dir / path).read_bytes()
    rows = read_rows(warehouse.raw_dir / "registry.csv")
    [row] = [row for row in rows if row["path"] == path]
    row |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": str(len(content))}
    write_rows(warehouse.raw_dir / "registry.csv", rows)


# The errors that are planted in the files of the hand-worked survey, and what mends them. Some texts are nowhere else.
TYPO, MISREAD, BLOT, RECORD = "T03-old", "1998.25", "777", "0105"
CORRECTIONS = [
    correction("boxes_swapped_1", "q2", "1", "3", **of_trust("T01")),
    correction("boxes_swapped_2", "q2", "3", "1", **of_trust("T01")),
    correction("trust_code_misspelt", "TRUSTCODE", TYPO, "T03"),
    # Of the rows with the misspelt code: conditions look at what the file has.
    correction("score_misread", "Q5", "90", "9", **of_trust(TYPO)),
    correction("outcomes_lost", "Outcome", "", "1", **of_trust("T02")),
    correction("blots", "Q4", BLOT),
    correction("year_misread", "BirthYear", MISREAD, "1950", condition_column="RecNo", condition_value=RECORD),
    correction("letters_for_codes", "sex", "F", "2", file_role="sampled"),
    correction("labels_for_codes", "Q4", "41", "1", survey_year="2014"),
]


def plant(warehouse: Warehouse) -> None:
    def in_forms(rows: list[Row]) -> None:
        misspelt = 0
        for row in rows:
            if row["TrustCode"] == "T01":
                row["Q2"] = {"1": "3", "3": "1"}.get(row["Q2"], row["Q2"])
            if row["TrustCode"] == "T02" and row["Outcome"] == "1":
                row["Outcome"] = ""
            if row["TrustCode"] == "T03" and misspelt < 5:
                misspelt += 1
                row["TrustCode"] = TYPO
                row["Q5"] = "90" if row["Q5"] == "9" else row["Q5"]
            if row["RecNo"] == RECORD:
                row["BirthYear"] = MISREAD
            row["Q4"] = row["Q4"] or BLOT

    def in_sample(rows: list[Row]) -> None:
        for row in rows:
            row["Sex"] = "F" if row["Sex"] == "2" else row["Sex"]

    in_rows(warehouse, FORMS, in_forms)
    in_rows(warehouse, SAMPLED, in_sample)
    path = warehouse.raw_dir / SPSS
    frame, meta = pyreadstat.read_sav(path, user_missing=True)
    frame["q4"] = frame["q4"].replace(1, 41)
    pyreadstat.write_sav(
        frame,
        path,
        column_labels=meta.column_names_to_labels,
        variable_value_labels=meta.variable_value_labels,
        missing_ranges=meta.missing_ranges,
        variable_measure=meta.variable_measure,
    )
    register(warehouse, SPSS)


TEXTS = (".json", ".html", ".csv", ".txt")


@pytest.fixture(scope="module")
def mended(hand_worked: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The hand-worked survey with errors in its files and the rows that mend them, refreshed."""
    warehouse = hand_worked.copy(tmp_path_factory.mktemp("corrections") / "mended")
    plant(warehouse)
    write_corrections(warehouse, CORRECTIONS)
    review_deliveries(warehouse.settings)
    warehouse.refresh()
    return warehouse


# ---------------------------------------------------------------------------------------- what is published


def test_a_release_of_mended_files_has_the_tables_of_files_without_errors(
    hand_worked: Warehouse, mended: Warehouse
) -> None:
    clean, of_mended = (notes_of(folder_of(warehouse))["tables"] for warehouse in (hand_worked, mended))

    assert clean.keys() == of_mended.keys() == set(gate.PUBLISHED_TABLES)
    differ = {name for name in clean if clean[name]["content_hash"] != of_mended[name]["content_hash"]}
    assert differ == {"source_files", "corrections", "release_info"}
    assert notes_of(folder_of(mended))["restates"]["values"] == 0


def test_each_error_that_is_planted_would_have_been_seen(hand_worked: Warehouse, mended: Warehouse) -> None:
    """Otherwise the tables would be the same without its correction."""
    for left_out in CORRECTIONS:
        others = [row for row in CORRECTIONS if row != left_out]
        assert not same(recomputed(hand_worked), recomputed(mended, others)), left_out["correction"]


def test_the_recomputation_comes_to_the_same(hand_worked: Warehouse, mended: Warehouse) -> None:
    assert same(recomputed(hand_worked), recomputed(mended))


def recomputed(warehouse: Warehouse, corrections: list[Row] | None = None) -> dict[str, pd.DataFrame] | None:
    """What the independent recomputation makes of the files; nothing where it stops at a code that nobody knows."""
    seeds = warehouse.seeds_dir
    if corrections is not None:
        seeds = warehouse.folder / f"seeds_{len(list(warehouse.folder.glob('seeds_*')))}"
        seeds.mkdir()
        for path in warehouse.seeds_dir.iterdir():
            (seeds / path.name).symlink_to(path)
        (seeds / "corrections.csv").unlink()
        write_corrections(Warehouse(warehouse.folder, warehouse.raw_dir, seeds), corrections)
    try:
        return recompute(warehouse.raw_dir, seeds)
    except ValueError as error:
        assert "unlisted codes" in str(error)
        return None


def same(one: dict[str, pd.DataFrame] | None, other: dict[str, pd.DataFrame] | None) -> bool:
    return one is not None and other is not None and all(one[name].equals(other[name]) for name in one)


def test_the_release_tells_what_was_corrected_and_of_nobody_what_it_was(mended: Warehouse) -> None:
    found = mended.published("select * exclude (reviewed_on) from marts.corrections order by correction")

    told = [column for column in COLUMNS if column in found]
    assert found.to_dict("records") == [
        {column: int(row[column]) if column == "survey_year" else row[column] for column in told}
        for row in sorted(CORRECTIONS, key=lambda row: row["correction"])
    ]
    assert set(COLUMNS) - set(found) == {"found", "condition_column", "condition_value", "replacement", "reviewed_on"}
    release = folder_of(mended)
    # Nor in the SQL that pages and lineage show. Checksums and figures may have such digits within.
    texts = {path: path.read_text(encoding="utf-8") for path in release.rglob("*") if path.suffix in TEXTS}
    assert {"lineage.json", "index.html", "corrections.csv"} <= {path.name for path in texts}
    assert any("boxes_swapped_1" in text for path, text in texts.items() if path.name == "lineage.json")
    for value in (TYPO, MISREAD, BLOT, RECORD):
        for quoted in (f"'{value}'", f'"{value}"', f",{value},", f">{value}<"):
            assert [str(path) for path, text in texts.items() if quoted in text] == [], quoted
    assert [str(path) for path, text in texts.items() if TYPO in text or MISREAD in text] == []


def test_the_page_lists_corrections_where_there_are_any(hand_worked: Warehouse, mended: Warehouse) -> None:
    without, with_some = (
        (folder_of(warehouse) / "report" / "index.html").read_text(encoding="utf-8")
        for warehouse in (hand_worked, mended)
    )

    assert 'id="table-corrections"' not in without
    assert 'id="table-corrections"' in with_some
    assert f"{len(CORRECTIONS)} corrected errors of the raw files" in with_some


# ---------------------------------------------------------------------------------------- for auditors


def test_a_number_tells_what_was_corrected_in_its_columns(mended: Warehouse) -> None:
    found = explain(folder_of(mended), "contact_care_coordinator.pct", ["survey_year = 2013"])

    [wave] = found["waves"]
    named = {row["correction"] for row in wave["corrections"]}
    assert {"boxes_swapped_1", "boxes_swapped_2", "trust_code_misspelt", "letters_for_codes"} <= named
    assert "labels_for_codes" not in named
    assert "    boxes_swapped_1: q2 (responses), replace; the trust's scanner (a letter)" in in_words(found)
    assert "crosswalk.corrections" in {step["table"] for step in found["lineage"]}


def test_a_number_of_another_wave_tells_nothing_of_it(hand_worked: Warehouse, mended: Warehouse) -> None:
    of_2014 = explain(folder_of(mended), "contact_care_coordinator.pct", ["survey_year = 2014"])
    clean = explain(folder_of(hand_worked), "contact_care_coordinator.pct", ["survey_year = 2013"])

    assert {row["correction"] for wave in of_2014["waves"] for row in wave["corrections"]} == {"labels_for_codes"}
    assert [wave["corrections"] for wave in clean["waves"]] == [[]]
    assert "known errors of these columns" not in in_words(clean)


def test_a_corrected_column_is_made_of_its_raw_column_its_condition_and_the_correction(mended: Warehouse) -> None:
    relations = json.loads((folder_of(mended) / DATA).read_text(encoding="utf-8"))["relations"]
    steps = upstream(relations, "staging.stg_responses", "answer_contact_care_coordinator")
    read = raw_columns(relations, steps)["staging.stg_responses", "answer_contact_care_coordinator"]

    assert read == {2013: ["Q2", "TrustCode"], 2014: ["q3"]}
    for column in ("found", "condition_value", "replacement"):
        assert steps["crosswalk.corrections", column] == "value"


def test_without_corrections_the_sql_is_what_it_was(hand_worked: Warehouse, mended: Warehouse) -> None:
    for model in ("stg_responses", "stg_sampled"):
        clean, corrected = (
            (w.settings.dbt_target_dir / "compiled" / "cmhs" / "models" / "staging" / f"{model}.sql").read_text("utf-8")
            for w in (hand_worked, mended)
        )
        statement = "\n".join(line for line in clean.splitlines() if not line.startswith("--"))
        assert "correction" not in statement and "join" not in statement
        assert "cross join" in corrected


# ---------------------------------------------------------------------------------------- what blocks

WRONG: dict[str, tuple[Row, str]] = {
    row["correction"]: (row, words)
    for row, words in [
        (correction("", "Q1", "1", "2"), "it has no name"),
        (correction("no_wave", "Q1", "1", "2", survey_year="2012"), "the crosswalk has no such wave"),
        (correction("no_role", "Q1", "1", "2", file_role="codebook"), "neither responses nor sampled"),
        (correction("blank_role", "Q1", "1", "2", file_role=""), "neither responses nor sampled"),
        (correction("no_file", "sex", "1", "2", survey_year="2014", file_role="sampled"), "no such file of this wave"),
        (correction("no_column", "Q77", "1", "2"), "the file has no such column"),
        (correction("column_of_the_other_file", "Persons", "1", "2"), "the file has no such column"),
        (correction("blank_column", "", "1", "2"), "the file has no such column"),
        (correction("ignored", "Comments", "first copy"), "the crosswalk does not use this column"),
        (
            correction("condition_nowhere", "Q1", "1", "2", condition_column="Batch"),
            "no column of the name in",
        ),
        (correction("value_alone", "Q1", "1", "2", condition_value="T01"), "no condition_column"),
        (correction("no_action", "Q1", "1", "2", action=""), "neither replace nor set_missing"),
        (correction("other_action", "Q1", "1", "2", action="delete"), "neither replace nor set_missing"),
        (correction("by_nothing", "Q1", "1", action="replace"), "it replaces by nothing"),
        (correction("missing_by_something", "Q1", "1", "2", action="set_missing"), "remove that"),
        (correction("no_change", "Q1", "1", "1"), "what it finds is what it leaves"),
        (correction("missing_stays_missing", "Q1", ""), "what it finds is what it leaves"),
        *((correction(f"no_{name}", "Q1", "1", "2", **{name: ""}), "nobody vouches for it") for name in VOUCHED),
        (correction("no_row", "Q1", "88", "2"), "it matches no row of the file"),
        (correction("no_row_of_the_trust", "Q1", "1", "2", **of_trust("T09")), "it matches no row of the file"),
        (correction("chained", "Q2", "66", "1"), "it matches no row of the file"),
        (correction("all_rows", "Q5", "9", "8"), "matched by another correction, too"),
        (correction("some_of_them", "Q5", "9", "7", **of_trust("T01")), "matched by another correction, too"),
        (correction("of_a_trust", "Q3", "3", "1", **of_trust("T01")), "matched by another correction, too"),
        (
            correction("of_a_gender", "Q3", "3", "1", condition_column="Sex", condition_value="1"),
            "matched by another correction, too",
        ),
    ]
}
RIGHT = [
    correction("leaves_66", "Q2", "3", "66"),
    correction("one_trust", "Q4", "1", "3", **of_trust("T01")),
    correction("another_trust", "Q4", "1", "2", **of_trust("T02")),
    correction("back_again", "Q4", "3", "1", **of_trust("T01")),
]


@pytest.fixture(scope="module")
def judged(hand_worked: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[str], str]:
    """What the check says of each wrong or right row, all in one crosswalk; what a user is told; all failing rows."""
    warehouse = hand_worked.copy(tmp_path_factory.mktemp("judged") / "small")
    write_corrections(warehouse, [row for row, _ in WRONG.values()] + RIGHT)
    with warehouse.active() as settings:
        settings.prepare()
    target = warehouse.folder / "dbt"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    places = ["--project-dir", settings.dbt_project_dir, "--profiles-dir", DBT_PROJECT_DIR, "--target-path", target]
    subprocess.run(
        ["dbt", "--quiet", "--log-level-file", "none", "build", "--indirect-selection", "empty", "--select",
         "corrections", "every_correction_matches", *places],
        env=os.environ | warehouse.environment | {"PATH": path},
        check=False,
        capture_output=True,
    )  # fmt: skip
    results, manifest = (json.loads((target / f"{name}.json").read_text()) for name in ("run_results", "manifest"))
    with connect(settings.warehouse) as connection:
        problems = gate.problems_of_build(connection, results, manifest)
        rows = connection.execute("from failures.every_correction_matches").df().fillna("")
    assert rows["correction"].is_unique
    return dict(zip(rows["correction"], rows["what_to_do"], strict=True)), problems, rows.to_csv()


@pytest.mark.parametrize("name", WRONG)
def test_a_row_that_is_no_correction_is_refused_with_what_to_do(
    judged: tuple[dict[str, str], list[str], str], name: str
) -> None:
    found, _, _ = judged
    _, words = WRONG[name]
    assert words in found[name]


def test_right_rows_are_not_refused_and_no_text_is_told(judged: tuple[dict[str, str], list[str], str]) -> None:
    found, problems, rows = judged

    assert found.keys() == WRONG.keys()
    [problem] = problems
    assert problem.startswith("check every_correction_matches (Every known source error")
    assert "survey_year 2013, file_role responses, raw_column" in problem
    # What a correction looks for may be somebody's words or record number.
    assert all(text not in rows for text in ("first copy", "T09", "88", "trustcode"))


def test_a_text_with_white_space_around_it_is_refused_and_not_told(hand_worked: Warehouse, tmp_path: Path) -> None:
    warehouse = hand_worked.copy(tmp_path / "spaces")
    spaced = CORRECTIONS[0] | {"found": " secret", "condition_column": "RecNo", "condition_value": f"{RECORD} "}
    write_corrections(warehouse, [spaced])
    with landed(warehouse.settings, [2013]) as connection:
        rows = Rehearsal(connection, warehouse.settings, [2013]).check("every_text_is_plain")

    assert sorted((row["seed"], row["column_name"], row["cell"]) for row in rows) == [
        ("corrections", "condition_value", None),
        ("corrections", "found", None),
    ]


def test_a_row_that_is_no_row_is_refused_without_its_words() -> None:
    message = (
        "Runtime Error in seed corrections\n  Invalid Input Error: CSV Error on Line: 5\n"
        "  Original Line: a,2013,secretword,0105,soon\n"
        '  Error when converting column "reviewed_on". Could not convert string "soon" to \'DATE\''
    )
    result = {"unique_id": "seed.cmhs.corrections", "status": "error", "message": message}
    said = gate.without_values({"results": [result]})["results"][0]["message"]
    assert "CSV Error on Line: 5" in said
    assert not any(text in said for text in ("secretword", "0105", "soon"))
