"""`cmhs wave check`: what it finds in a wave that nobody has seen yet, and what it must not find or show.

The wave under test is made up: that of 2014 of the hand-worked survey again, as text with a codebook, as wave 2015. Its
faults are planted; each has to be found and named.
"""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyreadstat
import pytest
from click.testing import CliRunner
from conftest import CCHS_DATA, FIXTURES, RAW, SEEDS, Warehouse
from test_faults import Plant, Row, add, drop, in_seed, put, read_rows, write_rows

from orchestration.cli import main
from orchestration.errors import Refusal
from orchestration.ingest import unite_waves
from orchestration.registry import sha256_of
from orchestration.wave.check import HEADINGS, SHOWN, Checked, Entry, check
from orchestration.wave.received import landed
from orchestration.wave.rehearsal import Rehearsal
from orchestration.wave.shifts import Share, clear, standard_errors

HAND_WORKED = FIXTURES / "hand_worked"
FORMS, CODEBOOK = "2015/hand_2015.csv", "2015/hand_2015_codebook.csv"
DRAWN = "2013/hand_2013_sampled.csv"
# Written by respondents: never shown, in whatever column it stands.
CANARY = "please tell nobody of my sister"


def register(survey: Warehouse) -> None:
    """Make the registry agree with the files as they are now, those of 2015 among them."""
    rows = [row for row in read_rows(survey.raw_dir / "registry.csv") if row["wave"] != "2015"]
    new = {"wave": "2015", "format": "csv", "encoding": "utf-8"}
    rows += [
        rows[0] | new | {"path": FORMS, "role": "responses"},
        rows[0] | new | {"path": CODEBOOK, "role": "codebook"},
    ]
    for row in rows:
        path = survey.raw_dir / row["path"]
        row |= {"sha256": sha256_of(path), "bytes": str(path.stat().st_size)}
    write_rows(survey.raw_dir / "registry.csv", rows)


@pytest.fixture(scope="module")
def three_waves(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The hand-worked survey with a third wave; nothing is built."""
    folder = tmp_path_factory.mktemp("three_waves")
    raw = shutil.copytree(HAND_WORKED / "raw", folder / "raw")
    seeds = shutil.copytree(HAND_WORKED / "seeds", folder / "seeds")
    (raw / "2015").mkdir()
    write_rows(raw / FORMS, read_rows(HAND_WORKED / "rows_2014.csv"))
    _, meta = pyreadstat.read_sav(raw / "2014" / "hand_2014.sav", metadataonly=True)
    with (raw / CODEBOOK).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["variable", "label", "code", "value_label"])
        for column, label in meta.column_names_to_labels.items():
            codes = meta.variable_value_labels.get(column, {}) or {"": ""}
            writer.writerows([column, label, f"{code:g}" if code != "" else "", text] for code, text in codes.items())
    for path in seeds.glob("*.csv"):
        rows = read_rows(path)
        if rows and "survey_year" in rows[0] and path.stem not in ("published_figures", "revisions", "drafts"):
            write_rows(path, rows + [row | {"survey_year": "2015"} for row in rows if row["survey_year"] == "2014"])
    pairs = read_rows(seeds / "comparability.csv")
    asked = [row for row in read_rows(seeds / "question_map.csv") if row["survey_year"] == "2015"]
    new = [
        {
            "question_id": row["question_id"],
            "from_year": "2014",
            "to_year": "2015",
            "comparable": "true",
            "note": "same",
        }
        for row in asked
    ]
    write_rows(seeds / "comparability.csv", pairs + new)
    survey = Warehouse(folder, raw, seeds)
    register(survey)
    return survey


@pytest.fixture
def survey(three_waves: Warehouse, tmp_path: Path) -> Warehouse:
    """A copy of it to break."""
    folder = shutil.copytree(three_waves.folder, tmp_path / "survey")
    return Warehouse(folder, folder / "raw", folder / "seeds")


def checked(survey: Warehouse, wave: int = 2015) -> Checked:
    return check(survey.settings, wave)


def text_of(entry: Entry) -> str:
    lines = [f"{file}: {line}" for file, line in entry.add]
    return "\n".join([entry.title, entry.where, entry.found, entry.expected, entry.to_do, *lines])


def in_file(path: str, change: Callable[[list[Row]], Any]) -> Plant:
    def plant(survey: Warehouse) -> None:
        rows = read_rows(survey.raw_dir / path)
        change(rows)
        write_rows(survey.raw_dir / path, rows)
        register(survey)

    return plant


def every(column: str, values: dict[str, str]) -> Callable[[list[Row]], None]:
    """Each value of a column replaced by another."""

    def change(rows: list[Row]) -> None:
        assert {row[column] for row in rows} & values.keys()
        for row in rows:
            row[column] = values.get(row[column], row[column])

    return change


def in_text(path: str, old: str, new: str) -> Plant:
    def plant(survey: Warehouse) -> None:
        text = (survey.raw_dir / path).read_text(encoding="utf-8")
        assert text.count(old) == 1
        (survey.raw_dir / path).write_text(text.replace(old, new), encoding="utf-8")
        register(survey)

    return plant


def all_of(*plants: Plant) -> Plant:
    def plant(survey: Warehouse) -> None:
        for one in plants:
            one(survey)

    return plant


def new_column(rows: list[Row]) -> None:
    for row in rows:
        row["q6"] = CANARY


def declared(column: str, label: str, code: str, text: str) -> Plant:
    return in_file(
        CODEBOOK, lambda rows: rows.append({"variable": column, "label": label, "code": code, "value_label": text})
    )


def put_codebook(column: str, **cells: str) -> Plant:
    """Other cells in the rows of a column; with `code` in that of this code."""

    def change(rows: list[Row]) -> None:
        chosen = [row for row in rows if row["variable"] == column and row["code"] == cells.get("code", row["code"])]
        assert chosen
        for row in chosen:
            row |= cells

    return in_file(CODEBOOK, change)


def exchanged_labels(survey: Warehouse) -> None:
    """The file's options 1 and 2 of q1 change places; the labels are copied into the crosswalk, the responses stay."""
    put_codebook("q1", code="1", value_label="No")(survey)
    put_codebook("q1", code="2", value_label="Yes")(survey)
    for code, label in (("1", "No"), ("2", "Yes")):
        put("response_map", {"survey_year": "2015", "question_id": "in_charge_known", "code": code}, label=label)(
            survey
        )


def drawn_none(rows: list[Row]) -> None:
    [row] = [
        row for row in rows if (row["Trust"], row["AgeBand"], row["Sex"], row["Outcome"]) == ("T02", "1", "1", "6")
    ]
    row["Persons"] = "0"
    [row] = [
        row for row in rows if (row["Trust"], row["AgeBand"], row["Sex"], row["Outcome"]) == ("T02", "1", "1", "1")
    ]
    row["Persons"] = "1"


W15 = {"survey_year": "2015"}
# Made up; as the seed has it, but for what is corrected.
CORRECTION = W15 | {
    "correction": "made_up", "file_role": "responses", "raw_column": "q1", "found": "1", "condition_column": "",
    "condition_value": "", "action": "set_missing", "replacement": "", "reason": "the scanner", "source": "a letter",
    "reviewer": "A. Reviewer", "reviewed_on": "2026-11-25",
}  # fmt: skip
Q1 = W15 | {"question_id": "in_charge_known"}
# What is planted; the level of the entry that must name it; words that it must have; the wave that is checked.
FAULTS: dict[str, tuple[Plant, str, list[str]] | tuple[Plant, str, list[str], int]] = {
    "a column that nobody mapped": (
        all_of(in_file(FORMS, new_column), declared("q6", "Were you listened to?", "1", "Yes")),
        "blocks",
        [FORMS, "q6 'Were you listened to?' (1 Yes)", "ignored_columns.csv: 2015,responses,q6,?"],
    ),
    "a column that was mapped in the wave before": (
        drop("question_map", **W15, question_id="overall_experience"),
        "blocks",
        ["q5", "in 2014 overall_experience, as q5", 'question_map.csv: 2015,overall_experience,q5,same,"How was it'],
    ),
    "a column mapped twice": (
        add("ignored_columns", **W15, file_role="responses", raw_column="Q1 ".strip(), reason="again"),
        "blocks",
        ["q1 of 2015/hand_2015.csv", "question_map in_charge_known", "ignored_columns", "keep one"],
    ),
    "a column under another name": (
        all_of(
            in_text(FORMS, ",q5,", ",q05,"),
            in_file(CODEBOOK, every("variable", {"q5": "q05"})),
        ),
        "blocks",
        ["q5 of 2015", "no such column", "column q05 has the label", "question_map.csv: 2015,overall_experience,q05,"],
    ),
    "an ignored column that is gone": (
        add("ignored_columns", **W15, file_role="responses", raw_column="batch", reason="administrative"),
        "blocks",
        ["ignored_columns.csv", "batch of 2015", "no such column"],
    ),
    "a key variable without a column": (
        drop("key_variables", **W15, variable="record"),
        "blocks",
        ["key_variables.csv", "record of the responses file", "key_variables.csv: 2015,responses,record,recno,text"],
    ),
    "a code without a response": (
        in_file(FORMS, every("q1", {"3": "7"})),
        "blocks",
        [FORMS, "q1", "in_charge_known: code 7", "fewer than 10 rows", "2015,in_charge_known,7,?,?,?"],
    ),
    "a code that had a response in the wave before": (
        drop("response_map", **Q1, code="3"),
        "blocks",
        ["code 3 'Not sure'", "response_map.csv: 2015,in_charge_known,3,dont_know,,Not sure"],
    ),
    "a code of a key variable": (
        in_file(FORMS, every("outcome", {"3": "8"})),
        "blocks",
        [FORMS, "outcome: code 8", "key_codes.csv: 2015,responses,outcome,8,?"],
    ),
    "a code that the file declares alone": (
        declared("q1", "Have you been told who looks after your care?", "4", "Refused"),
        "look",
        ["Codes that the file declares", "in_charge_known: code 4 'Refused'", "2015,in_charge_known,4,?,?,Refused"],
    ),
    "a code of a key variable that the file declares alone": (
        declared("outcome", "What became of the form", "7", "Moved away"),
        "look",
        ["outcome of the responses file: code 7 'Moved away'", "key_codes.csv: 2015,responses,outcome,7,?"],
    ),
    "a row whose code there is not": (
        add("response_map", **Q1, code="55", treatment="dont_know", response="", label="No idea"),
        "blocks",
        ["response_map.csv", "in_charge_known", "code 55", "no answer has this code"],
    ),
    "a response that nobody knows": (
        put("response_map", Q1 | {"code": "1"}, response="certainly"),
        "blocks",
        ["in_charge_known", "certainly", "responses"],
    ),
    "a treatment that there is not": (
        put("response_map", Q1 | {"code": "3"}, treatment="dontknow"),
        "blocks",
        ["response_map.csv", "2015,in_charge_known,3,dontknow", "treatment is one of answered, dont_know"],
    ),
    "a row that stands there twice": (
        add("response_map", **Q1, code="3", treatment="dont_know", response="", label="Not sure"),
        "blocks",
        ["response_map.csv", "2015,in_charge_known,3", "unique grain"],
    ),
    "another label than the file's": (
        put_codebook("q1", code="2", value_label="Nobody told me"),
        "blocks",
        ["in_charge_known: code 2 is 'No', in the file 'Nobody told me'", "shifted"],
    ),
    "a key code that the file calls otherwise": (
        put_codebook("framesex", code="1", value_label="Female"),
        "blocks",
        ["key_codes.csv", "frame_gender", "Female", "the file calls it female"],
    ),
    "the same number with a new meaning": (
        exchanged_labels,
        "look",
        ["Same words, other meaning", "in_charge_known: 'No' (code 1) is yes; in 2014 (code 2) it was no"],
    ),
    "a column with another question's label": (
        all_of(put_codebook("q4", label="How was it overall, 0 to 10?"), put_codebook("q5", label="Advice on work")),
        "look",
        ["support_work is q4", "'How was it overall, 0 to 10?'", "closer to overall_experience", "numbers move"],
    ),
    "a column whose label resembles nothing": (
        put_codebook("q5", label="Which newspaper do you read?"),
        "look",
        ["overall_experience is q5", "newspaper", "in 2014 its label was 'How was it overall, 0 to 10?'"],
    ),
    "an option that was reworded": (
        all_of(
            put_codebook("q4", code="4", value_label="Somebody else helps me"),
            put("response_map", W15 | {"question_id": "support_work", "code": "4"}, label="Somebody else helps me"),
        ),
        "look",
        ["Reworded options", "'Somebody else helps me' (code 4), in 2014 'I have help'"],
    ),
    "an option that appeared": (
        all_of(
            declared("q1", "Have you been told who looks after your care?", "4", "Does not apply to me"),
            add("response_map", **Q1, code="4", treatment="not_applicable", response="", label="Does not apply to me"),
        ),
        "look",
        ["Options that appeared", "in_charge_known: 'Does not apply to me' (code 4, not applicable)"],
    ),
    "an option that vanished": (
        all_of(
            in_text(CODEBOOK, "q3,Have you been told how to reach this person?,3,Not sure\n", ""),
            in_file(FORMS, every("q3", {"3": "999"})),
            drop("response_map", **W15, question_id="contact_care_coordinator", code="3"),
        ),
        "look",
        ["Options that vanished", "contact_care_coordinator: 'Not sure' (code 3 in 2014, dont know)"],
    ),
    "a share that moved": (
        in_file(FORMS, every("q1", {"1": "2", "2": "1"})),
        "look",
        ["Shares that moved", "in_charge_known", "answers, ", "yes", "->"],
    ),
    "a gender that moved": (
        in_file(FORMS, lambda rows: (every("qsex", {"1": "2"})(rows), every("framesex", {"1": "2"})(rows))),
        "look",
        ["Shares that moved", "gender: of 45 and 45 persons", "male"],
    ),
    "a filter that is gone": (
        drop("routing", **W15, question_id="in_charge_type"),
        "look",
        ["routing.csv", "in_charge_type was asked behind a filter in 2014"],
    ),
    "a trust that vanished": (
        in_file(FORMS, every("trust", {"T03": "T09"})),
        "look",
        ["T03, in 2014 and no more", "trust_mergers.csv: 2015,T03,?,?"],
    ),
    "a trust that appeared": (in_file(FORMS, every("trust", {"T03": "T09"})), "look", ["T09, not in 2014"]),
    "a merger that the files do not show": (
        add("trust_mergers", **W15, predecessor="T01", trust="T77", note="made up"),
        "look",
        ["2015,T01,T77", "T01 is still there", "T77 is no trust of 2015"],
    ),
    "a trust under another name": (
        in_file(FORMS, every("trustname", {"Far Moor NHS Trust": "Near Moor NHS Trust"})),
        "look",
        ["T03 is 'Near Moor NHS Trust', in 2014 'Far Moor NHS Trust'"],
    ),
    "a trust with two names": (
        in_file(FORMS, lambda rows: rows[1].update(trustname=CANARY)),
        "blocks",
        ["Trusts with several names", "trust T01", "names 2"],
    ),
    "a trust that is not in the sample": (
        in_file(DRAWN, lambda rows: rows.__setitem__(slice(None), [row for row in rows if row["Trust"] != "T03"])),
        "blocks",
        ["trust T03", "check the sampled file"],
        2013,
    ),
    "a trust without respondents": (
        in_file(DRAWN, lambda rows: rows.append(rows[0] | {"Trust": "T08", "AgeBand": "1", "Persons": "40"})),
        "blocks",
        ["trust T08", "nobody responded"],
        2013,
    ),
    "a weight cell with more respondents than persons drawn": (
        in_file(DRAWN, drawn_none),
        "look",
        ["Cells with more respondents than persons drawn", "trust T02, male:age_18_50"],
        2013,
    ),
    "a code of the sampled file": (
        in_file(DRAWN, lambda rows: rows[3].update(AgeBand="7")),
        "blocks",
        [DRAWN, "frame_age: code 7", "key_codes.csv: 2013,sampled,frame_age,7,?"],
        2013,
    ),
    "a response rate out of bounds": (
        put("waves", W15, minimum_response_rate="90"),
        "blocks",
        ["waves.csv", "percent of the persons drawn responded", "minimum_response_rate 90"],
    ),
    "more trusts than there may be": (
        put("waves", W15, maximum_trusts="2"),
        "blocks",
        ["3 trusts", "maximum_trusts 2"],
    ),
    "a base that is not believable": (
        put("expected_rows", W15 | {"question_id": "overall_experience"}, minimum_base="4000"),
        "blocks",
        ["overall_experience", "at least 4,000"],
    ),
    "no row of waves": (
        drop("waves", **W15),
        "blocks",
        ["go through every cell", "waves.csv: 2015,Hand-worked wave 2015,2014,trust_population,in_file,18,10,"],
    ),
    "no age bands": (drop("age_bands", **W15), "blocks", ["age_bands.csv", "age_bands.csv: 2015,age_18_50,1,18,50,"]),
    "age bands with a gap": (
        put("age_bands", W15 | {"age_band": "age_51_plus"}, from_age="55"),
        "blocks",
        ["age_51_plus", "from age 55", "does not begin a year after"],
    ),
    "ages without the year they count from": (
        put("waves", W15, minimum_age=""),
        "blocks",
        ["waves.csv, wave 2015: minimum_age is blank"],
    ),
    "a question that is not mapped any more": (
        drop("question_map", **W15, question_id="overall_experience"),
        "look",
        ["Questions of 2014 that are not mapped", "overall_experience (q5", "2015,overall_experience,q5"],
    ),
    "a question without a verdict": (
        drop("comparability", question_id="support_work", to_year="2015"),
        "blocks",
        ["support_work, from 2014 to 2015", "comparability.csv: support_work,2014,2015,true,same wording"],
    ),
    "a question without a smallest base": (
        drop("expected_rows", **W15, question_id="support_work"),
        "blocks",
        ["support_work", "expected_rows.csv: 2015,support_work,"],
    ),
    "a correction of a column that is not there": (
        add("corrections", **CORRECTION | {"raw_column": "q99"}),
        "blocks",
        ["corrections.csv", "correction made_up", "q99", "the file has no such column"],
    ),
    "a correction under a condition that there is not": (
        add("corrections", **CORRECTION | {"condition_column": "trustt", "condition_value": "T01"}),
        "blocks",
        ["corrections.csv", "correction made_up", "no column of the name in condition_column"],
    ),
    "a correction of nothing": (
        add("corrections", **CORRECTION | {"found": "88"}),
        "blocks",
        ["corrections.csv", "correction made_up", "it matches no row of the file"],
    ),
    "a drafted row that nobody has reviewed": (
        add(
            "drafts", **W15, seed="question_map", row="overall_experience", certainty="likely", score="97",
            evidence="same label", reviewer="", reviewed_on="",
        ),
        "blocks",
        ["drafts.csv", "question_map: overall_experience (likely: same label)", "nobody has reviewed it"],
    ),
    "a line of drafts whose row is gone": (
        add(
            "drafts", **W15, seed="age_bands", row="age_51_65", certainty="uncertain", score="",
            evidence="copied from 2014", reviewer="A. Reviewer", reviewed_on="2016-01-31",
        ),
        "blocks",
        ["row that is not there", "age_bands: age_51_65 (uncertain: copied from 2014)", "the seed has no such row"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_named(survey: Warehouse, fault: str) -> None:
    plant, level, words, wave = (*FAULTS[fault], 2015)[:4]
    plant(survey)

    entries = checked(survey, wave).entries

    texts = [text_of(entry) for entry in entries if entry.level == level]
    assert any(all(word in text for word in words) for text in texts), "\n\n".join(map(text_of, entries))
    assert CANARY not in "".join(map(text_of, entries))


def test_the_wave_without_a_fault_has_nothing_to_look_at(three_waves: Warehouse) -> None:
    found = checked(three_waves)

    assert found.wave_before == 2014
    assert found.counts == {"blocks": 0, "look": 0, "know": 1}
    assert "45 persons of 3 trusts count" in found.entries[0].found


def test_corrected_texts_are_what_is_looked_at(survey: Warehouse) -> None:
    in_file(FORMS, lambda rows: (every("q1", {"3": "77"})(rows), every("outcome", {"3": "lost"})(rows)))(survey)
    mended = [
        {"correction": "boxes", "raw_column": "Q1", "found": "77", "replacement": "3"},
        {"correction": "outcomes", "raw_column": "outcome", "found": "lost", "replacement": "3"},
    ]
    for cells in mended:
        add("corrections", **CORRECTION | cells | {"action": "replace"})(survey)

    found = checked(survey)

    assert [text_of(entry) for entry in found.entries if entry.level != "know"] == []
    assert "45 persons of 3 trusts count" in found.entries[-1].found


@pytest.mark.parametrize("wrong", [{"raw_column": "q99"}, {"condition_column": "trustt"}, {"file_role": "sampled"}])
@pytest.mark.parametrize("wave", ["2014", "2015"])
def test_a_correction_with_a_slip_leaves_the_rest_of_the_list(survey: Warehouse, wave: str, wrong: Row) -> None:
    add("corrections", **CORRECTION | wrong | {"survey_year": wave})(survey)

    found = checked(survey)

    assert found.counts == {"blocks": int(wave == "2015"), "look": 0, "know": 1}
    assert "45 persons of 3 trusts count" in found.entries[-1].found


def test_what_the_database_says_of_a_query_is_not_shown(survey: Warehouse) -> None:
    with landed(survey.settings, [2015]) as connection:
        rehearsal = Rehearsal(connection, survey.settings, [2015])
        with pytest.raises(Refusal) as refused:
            rehearsal.query(f"select cast('{CANARY}' as integer)")

    assert str(refused.value) == "The query of the crosswalk fails on these files (ConversionException)."


@pytest.mark.parametrize("wave", [2013, 2014])
def test_the_hand_worked_waves_block_nothing(three_waves: Warehouse, wave: int) -> None:
    assert [text_of(entry) for entry in checked(three_waves, wave).entries if entry.level == "blocks"] == []


@pytest.mark.parametrize("wave", [2013, 2014, 2015, 2016, 2017])
def test_a_wave_that_dbt_lets_through_blocks_nothing(wave: int, tmp_path: Path) -> None:
    found = check(Warehouse(tmp_path, RAW, SEEDS).settings, wave)

    assert [text_of(entry) for entry in found.entries if entry.level == "blocks"] == []
    assert len(found.entries) < 60


@pytest.mark.parametrize("wave", [2005, 2009, 2015])
def test_another_survey_is_checked_by_its_own_crosswalk(wave: int, cchs_files: list[str], tmp_path: Path) -> None:
    """Cycles of the CCHS, with weights of its own, age bands instead of ages, and nobody drawn that did not answer."""
    here = Path(__file__).parent / "cchs"
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copy(here / "registry.csv", raw)
    for name in cchs_files:
        shutil.copy(CCHS_DATA / name, raw)

    found = check(Warehouse(tmp_path, raw, here / "seeds").settings, wave)

    assert [text_of(entry) for entry in found.entries if entry.level == "blocks"] == []
    assert "200 counted" in "".join(map(text_of, found.entries))


def test_what_is_rehearsed_is_what_dbt_builds(hand_worked: Warehouse) -> None:
    waves = [2013, 2014]
    with landed(hand_worked.settings, waves) as connection:
        unite_waves(connection, waves)
        rehearsal = Rehearsal(connection, hand_worked.settings, waves)
        for model in ("int_response_counts", "int_cube", "int_sampled", "int_weight_cells", "int_trusts"):
            built = hand_worked.query(f"select * from intermediate.{model} order by all")
            made = connection.execute(f"select * from {rehearsal.table(model)} order by all").df()
            assert len(built)
            assert made.astype(str).equals(built.astype(str)), model


# ---------------------------------------------------------------------------------------- at every stage


def without_rows(seeds: tuple[str, ...] | None = None) -> Plant:
    """No row of 2015 in these seeds, by default in any."""

    def plant(survey: Warehouse) -> None:
        for path in survey.seeds_dir.glob("*.csv"):
            rows = read_rows(path)
            year = "to_year" if path.stem == "comparability" else "survey_year"
            kept = [row for row in rows if row.get(year) != "2015"]
            if kept != rows and (seeds is None or path.stem in seeds):
                write_rows(path, kept)

    return plant


def test_rows_of_a_drafted_wave_that_no_line_of_drafts_is_about_are_told(survey: Warehouse) -> None:
    """Written by hand, or their line was lost on the way: a release cannot know."""
    assert "Rows that drafts.csv does not list" not in {entry.title for entry in checked(survey).entries}
    reviewed = {"certainty": "likely", "evidence": "label", "reviewer": "A. Reviewer", "reviewed_on": "2016-01-31"}
    listed = ["support_work, code 1", "support_work, code 2"]
    for row in listed:
        add("drafts", **W15, seed="response_map", row=row, score="100", **reviewed)(survey)

    found = checked(survey)

    told = {entry.found for entry in found.entries if entry.title == "Rows that drafts.csv does not list"}
    assert found.counts["blocks"] == found.counts["look"] == 0
    assert {"waves: wave 2015", "response_map: support_work, code 3", "question_map: support_work"} <= told
    assert any(row.startswith("comparability: ") and row.endswith(", 2014 to 2015") for row in told)
    assert not {f"response_map: {row}" for row in listed} & told


def test_a_wave_that_is_only_registered_is_listed(survey: Warehouse) -> None:
    without_rows()(survey)
    found = checked(survey)

    lines = [f"{file}: {line}" for entry in found.entries for file, line in entry.add]
    assert any(line.startswith("waves.csv: 2015,Hand-worked wave 2015,") for line in lines)
    assert "key_variables.csv: 2015,responses,trust,trust,text" in lines
    assert 'question_map.csv: 2015,overall_experience,q5,same,"How was it overall, 0 to 10?"' in lines
    assert "cmhs wave init 2015" in "".join(map(text_of, found.entries))
    assert "Not looked at yet" in found.entries[-1].title


def test_columns_of_a_file_that_may_have_no_header_are_told_by_their_place(survey: Warehouse) -> None:
    def into_the_header(survey: Warehouse) -> None:
        path = survey.raw_dir / FORMS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join([lines[1].replace("0201", CANARY), *lines[2:]]), encoding="utf-8")

    # The first line is somebody's answers, so that no two of them may be the same.
    rows = read_rows(survey.raw_dir / FORMS)
    first = {column: f"a{number}" for number, column in enumerate(rows[0])} | {"recno": "0201"}
    write_rows(survey.raw_dir / FORMS, [first, *rows])
    without_rows()(survey)
    into_the_header(survey)
    register(survey)

    found = "\n".join(map(text_of, checked(survey).entries))

    assert "column number 3" in found
    assert "is its first line the header?" in found
    assert CANARY not in found


@pytest.mark.parametrize(
    "seeds",
    [
        ("response_map",), ("question_map",), ("key_variables",), ("key_codes",), ("waves", "age_bands"),
        ("response_map", "key_codes"), ("waves", "age_bands", "key_variables", "key_codes"),
        ("routing", "expected_rows", "comparability"),
    ],
)  # fmt: skip
def test_a_wave_that_is_half_described_is_listed(survey: Warehouse, seeds: tuple[str, ...]) -> None:
    without_rows(seeds)(survey)
    found = checked(survey)

    assert found.counts["blocks"] > 0
    assert {name for entry in found.entries for name, _ in entry.add} & {f"{seed}.csv" for seed in seeds}


def test_the_first_wave_has_none_beside_it(three_waves: Warehouse) -> None:
    found = checked(three_waves, 2013)

    assert found.wave_before is None
    assert not {entry.topic for entry in found.entries} & {"options", "trusts", "distributions"}


def test_a_first_wave_of_which_nothing_is_known_is_listed(survey: Warehouse) -> None:
    for path in survey.seeds_dir.glob("*.csv"):
        if read_rows(path) and {"survey_year", "to_year"} & read_rows(path)[0].keys():
            path.write_text(path.read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8")

    found = checked(survey, 2013)

    assert {"No age bands", "Nothing is mapped yet", "Columns neither mapped nor ignored"} <= {
        entry.title for entry in found.entries
    }


# ---------------------------------------------------------------------------------------- the command


def run(survey: Warehouse, *arguments: str) -> Any:
    return CliRunner().invoke(main, ["wave", "check", *arguments], env=survey.environment)


def test_the_exit_code_says_whether_something_blocks(survey: Warehouse) -> None:
    assert run(survey, "2015").exit_code == 0
    drop("response_map", **Q1, code="3")(survey)
    assert run(survey, "2015").exit_code == 1


def test_the_printed_list_is_in_order_and_cut_short(survey: Warehouse) -> None:
    def many(rows: list[Row]) -> None:
        for row in rows:
            row |= {f"extra{number}": "1" for number in range(SHOWN + 3)}

    in_file(FORMS, many)(survey)
    declared("q1", "Have you been told who looks after your care?", "4", "Refused \x1b[31m")(survey)
    printed = run(survey, "2015").stdout

    assert printed.startswith(f"Wave 2015 ({CODEBOOK}, {FORMS}), against wave 2014\n")
    places = [printed.index(heading) for heading in HEADINGS.values()]
    assert places == sorted(places)
    assert f"Columns neither mapped nor ignored ({SHOWN + 3}) - {FORMS}" in printed
    assert "    ... and 3 more (--json shows all)" in printed
    assert printed.endswith(f"{SHOWN + 3} block a release, 1 to look at, 1 good to know.\n")
    assert "\x1b" not in printed


def test_json_has_the_whole_list(survey: Warehouse) -> None:
    drop("response_map", **Q1, code="3")(survey)
    found = json.loads(run(survey, "2015", "--json").stdout)

    assert (found["survey_year"], found["wave_before"], found["files"]) == (2015, 2014, [CODEBOOK, FORMS])
    # Two filters send people past a question by this code.
    assert found["counts"] == {"blocks": 3, "look": 0, "know": 1}
    [blocking] = [entry for entry in found["entries"] if entry["title"] == "Codes without a response"]
    assert blocking["add"] == [{"file": "response_map.csv", "line": "2015,in_charge_known,3,dont_know,,Not sure"}]
    assert set(blocking) == {"level", "topic", "title", "where", "found", "expected", "to_do", "add"}


@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_respondent_wrote_is_not_shown(survey: Warehouse, as_json: bool) -> None:
    """In mapped columns and in others, in codes, trusts, names of trusts, outcomes and ages."""

    def write(rows: list[Row]) -> None:
        rows[1:1] = [rows[1] | {"recno": f"new{number}"} for number in range(len(rows[0]))]
        for number, column in enumerate(rows[0]):
            rows[1 + number][column] = f"{CANARY} {column}"
        for row in rows:
            row["more"] = f"{CANARY} more"

    in_file(FORMS, write)(survey)
    shown = run(survey, "2015", *(["--json"] if as_json else []))

    assert shown.exit_code == 1
    assert "a text of" in shown.output
    assert "more" in shown.output
    assert "sister" not in shown.output


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wave_that_cannot_be_read_is_refused(survey: Warehouse, as_json: bool) -> None:
    (survey.raw_dir / FORMS).write_text("altered", encoding="utf-8")
    for year, words in (("2015", "altered"), ("2016", "No file of wave 2016 is registered")):
        refused = run(survey, year, *(["--json"] if as_json else []))
        assert refused.exit_code == 1
        assert words in refused.output
        assert "Traceback" not in refused.output


def test_a_seed_that_is_no_table_is_refused(survey: Warehouse) -> None:
    in_seed("waves", lambda rows: rows[-1].update(minimum_age="eighteen"))(survey)
    refused = run(survey, "2015")

    assert refused.exit_code == 1
    assert "waves.csv line 4" in refused.output


def test_nothing_is_written(survey: Warehouse) -> None:
    before = {path: path.stat().st_mtime_ns for path in survey.folder.rglob("*")}
    run(survey, "2015")
    assert {path: path.stat().st_mtime_ns for path in survey.folder.rglob("*")} == before


# ---------------------------------------------------------------------------------------- the test of shares


def test_a_difference_in_standard_errors_is_the_one_of_the_textbook() -> None:
    # 60 of 100 against 45 of 100: z = 0.15 / sqrt(0.525 * 0.475 * 2 / 100).
    assert standard_errors(Share([60], [100]), Share([45], [100])) == pytest.approx(2.12398, abs=1e-5)
    # Too few to tell.
    assert standard_errors(Share([1], [100]), Share([3], [100])) is None


def test_trusts_that_differ_among_themselves_make_a_difference_less_clear() -> None:
    even, uneven = Share([30, 30], [50, 50]), Share([50, 10], [50, 50])
    before = Share([45], [100])
    # m / (m - 1) * sum((x - p * n)^2) / n^2 = 2 * (20^2 + 20^2) / 100^2.
    assert uneven.variance(0.5) == pytest.approx(0.16)
    assert even.variance(0.5) == pytest.approx(0.0025)
    assert abs(standard_errors(uneven, before) or 0) < abs(standard_errors(even, before) or 0)


def test_of_many_differences_those_are_clear_that_benjamini_and_hochberg_keep() -> None:
    from scipy import stats

    differences = [0.1, -1.0, 2.5, 3.0, -3.5, 4.0, 1.9, 0.0, 2.2, -2.9]
    p_values = 2 * stats.norm.sf([abs(z) for z in differences])
    expected = stats.false_discovery_control(p_values) <= 0.01
    assert 0 < sum(expected) < len(differences)
    assert clear(differences, 0.01) == list(expected)
    assert clear([]) == []


def test_a_survey_in_which_nothing_moved_is_silent() -> None:
    assert not any(clear([1.9, -1.9, 2.0, 2.5, -2.2, 0.3] * 20))
