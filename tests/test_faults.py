"""Faults planted in a published survey: each is refused by name, and what was published stays as it was."""

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Warehouse

import expectations
from orchestration.errors import Refusal
from orchestration.warehouse import connect

FORMS, SAMPLED, CODEBOOK = "2013/hand_2013.csv", "2013/hand_2013_sampled.csv", "2013/hand_2013_codebook.csv"
SPSS = "2014/hand_2014.sav"
# What a respondent wrote and who it was: never in a message, wherever in a file it stands.
WORDS, RECORD = "please tell nobody of my sister", "canary-4711"

# An id as releases have it.
RELEASE = "20200101T000000Z-00000000"

Row = dict[str, str]
Plant = Callable[[Warehouse], None]


# ---------------------------------------------------------------------------------------- planting


def read_rows(path: Path, encoding: str = "utf-8") -> list[Row]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[Row], encoding: str = "utf-8") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def register(warehouse: Warehouse, path: str, /, **changes: str) -> None:
    """Make the registry agree with a file as it is now."""
    content = (warehouse.raw_dir / path).read_bytes()
    rows = read_rows(warehouse.raw_dir / "registry.csv")
    [row] = [row for row in rows if row["path"] == path]
    row.update({"sha256": hashlib.sha256(content).hexdigest(), "bytes": str(len(content))} | changes)
    write_rows(warehouse.raw_dir / "registry.csv", rows)


def unregister(warehouse: Warehouse, path: str) -> None:
    rows = read_rows(warehouse.raw_dir / "registry.csv")
    write_rows(warehouse.raw_dir / "registry.csv", [row for row in rows if row["path"] != path])


def also_register(warehouse: Warehouse, path: str, /, **changes: str) -> None:
    """A further row of the registry, like that of `path` but for the changes."""
    rows = read_rows(warehouse.raw_dir / "registry.csv")
    [row] = [row for row in rows if row["path"] == path]
    write_rows(warehouse.raw_dir / "registry.csv", [*rows, row | changes])


def in_bytes(path: str, change: Callable[[bytes], bytes]) -> Plant:
    """Another content, registered as the new edition."""

    def plant(warehouse: Warehouse) -> None:
        file = warehouse.raw_dir / path
        before = file.read_bytes()
        file.write_bytes(change(before))
        assert file.read_bytes() != before
        register(warehouse, path)

    return plant


def in_rows(path: str, change: Callable[[list[Row]], Any]) -> Plant:
    def plant(warehouse: Warehouse) -> None:
        rows = read_rows(warehouse.raw_dir / path, "cp1252")
        change(rows)
        write_rows(warehouse.raw_dir / path, rows, "cp1252")
        register(warehouse, path)

    return plant


def in_form(number: int, **cells: str) -> Plant:
    """Other cells in one form; the form is also given a record number and words that must not come out."""

    def change(rows: list[Row]) -> None:
        rows[number].update({"RecNo": f"{RECORD}-{number}", "Comments": WORDS} | cells)

    return in_rows(FORMS, change)


def in_seed(name: str, change: Callable[[list[Row]], Any]) -> Plant:
    def plant(warehouse: Warehouse) -> None:
        path = warehouse.seeds_dir / f"{name}.csv"
        header = path.read_text(encoding="utf-8").splitlines()[0]
        rows = read_rows(path)
        before = [dict(row) for row in rows]
        change(rows)
        assert rows != before
        path.write_text(header + "\n", encoding="utf-8")
        write_rows(path, rows)

    return plant


def in_seed_text(name: str, old: str, new: str, encoding: str = "utf-8") -> Plant:
    def plant(warehouse: Warehouse) -> None:
        path = warehouse.seeds_dir / f"{name}.csv"
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_bytes(text.replace(old, new).encode(encoding))

    return plant


def add(name: str, **cells: str) -> Plant:
    return in_seed(name, lambda rows: rows.append(cells))


def drop(name: str, **cells: str) -> Plant:
    def change(rows: list[Row]) -> None:
        rows[:] = [row for row in rows if not cells.items() <= row.items()]

    return in_seed(name, change)


def put(name: str, where: Row, **cells: str) -> Plant:
    def change(rows: list[Row]) -> None:
        [row] = [row for row in rows if where.items() <= row.items()]
        row.update(cells)

    return in_seed(name, change)


def exchange_codes(name: str, where: Row, one: str, other: str) -> Plant:
    """Each of two codes stands where the other stood."""

    def change(rows: list[Row]) -> None:
        chosen = [row for row in rows if where.items() <= row.items() and row["code"] in (one, other)]
        assert len(chosen) == 2
        for row in chosen:
            row["code"] = other if row["code"] == one else one

    return in_seed(name, change)


def shift_codes(year: str, question: str) -> Plant:
    """Each code of a question one higher, as after an option was added in front."""

    def change(rows: list[Row]) -> None:
        for row in rows:
            if (row["survey_year"], row["question_id"]) == (year, question) and row["treatment"] == "answered":
                row["code"] = str(int(row["code"]) + 1)

    return in_seed(name="response_map", change=change)


def move_away(path: str) -> Plant:
    def plant(warehouse: Warehouse) -> None:
        (warehouse.raw_dir / path).unlink()
        unregister(warehouse, path)

    return plant


# ---------------------------------------------------------------------------------------- the outcome


def refusal_of(warehouse: Warehouse, *, force: bool = False) -> str:
    """What a refused refresh says; nothing published may have changed, and no person's words may be in it."""
    before = warehouse.published_bytes()
    assert before["current"]

    with pytest.raises(Refusal) as refused:
        warehouse.refresh(force=force)

    assert warehouse.published_bytes() == before
    everything = "\n".join([str(refused.value), *warehouse.said])
    assert WORDS not in everything
    assert RECORD not in everything
    return str(refused.value)


# ---------------------------------------------------------------------------------------- files


def alter_one_byte(warehouse: Warehouse) -> None:
    file = warehouse.raw_dir / FORMS
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def truncate(warehouse: Warehouse) -> None:
    file = warehouse.raw_dir / SPSS
    file.write_bytes(file.read_bytes()[:-100])


def lead_outside(warehouse: Warehouse) -> None:
    file = warehouse.raw_dir / FORMS
    outside = warehouse.folder / "elsewhere.csv"
    shutil.move(file, outside)
    file.symlink_to(outside)


def register_a_copy_as_another_wave(warehouse: Warehouse) -> None:
    copy = "2015/hand_2015.sav"
    (warehouse.raw_dir / "2015").mkdir()
    shutil.copy(warehouse.raw_dir / SPSS, warehouse.raw_dir / copy)
    also_register(warehouse, SPSS, path=copy, wave="2015")


FILE_FAULTS: dict[str, tuple[Plant, list[str]]] = {
    "one byte of a file altered": (alter_one_byte, [FORMS, "2013", "altered"]),
    "a file cut short": (truncate, [SPSS, "2014", "truncated"]),
    "a file missing": (lambda w: (w.raw_dir / SPSS).unlink(), [SPSS, "2014", "missing"]),
    "a file nobody registered": (
        lambda w: shutil.copy(w.raw_dir / FORMS, w.raw_dir / "2013/hand_2013_v2.csv"),
        ["2013/hand_2013_v2.csv", "not registered"],
    ),
    "a registered file that leads outside": (lead_outside, [FORMS, "leads out"]),
    "two files of one role in a wave": (
        lambda w: also_register(w, FORMS, path="2013/hand_2013_v2.csv"),
        ["wave 2013", "2 files of role responses", FORMS, "2013/hand_2013_v2.csv"],
    ),
    "one wave's file registered for another too": (
        lambda w: also_register(w, FORMS, wave="2015"),
        [FORMS, "registered 2 times"],
    ),
    "a copy of one wave's file registered for another": (
        register_a_copy_as_another_wave,
        [SPSS, "2015/hand_2015.sav", "same"],
    ),
    "a path that climbs out": (
        lambda w: register(w, FORMS, path="../" + FORMS),
        ["line 3", "../" + FORMS, "inside"],
    ),
    "synthetic and deposited files mixed": (
        lambda w: register(w, SPSS, provenance="deposit"),
        ["deposit and synthetic"],
    ),
    "no responses file for a wave": (
        lambda w: (unregister(w, FORMS), (w.raw_dir / FORMS).unlink()),
        ["wave 2013", "no file of role responses"],
    ),
    "no registry": (lambda w: (w.raw_dir / "registry.csv").unlink(), ["registry.csv", "no registry"]),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_fault_in_the_files_is_refused_before_anything_is_read(small: Warehouse, fault: str) -> None:
    plant, words = FILE_FAULTS[fault]
    warehouse_before = small.settings.warehouse.read_bytes()
    plant(small)

    said = refusal_of(small)

    assert [word for word in words if word not in said] == []
    assert small.settings.warehouse.read_bytes() == warehouse_before


# ---------------------------------------------------------------------------------------- contents


def utf_8(content: bytes) -> bytes:
    return content.decode("cp1252").encode("utf-8")


def with_words(content: bytes) -> bytes:
    """The first form given a record number and words that must not come out."""
    return content.replace(b"0101,", RECORD.encode() + b",", 1).replace(b"first copy", WORDS.encode(), 1)


def one_cell_more(content: bytes) -> bytes:
    lines = with_words(content).split(b"\n")
    lines[1] += b",1"
    return b"\n".join(lines)


def spoiled_spss(content: bytes) -> bytes:
    return content[:200] + bytes(len(content) - 200)


CONTENT_FAULTS: dict[str, tuple[Plant, list[str]]] = {
    "UTF-8 registered as windows-1252": (in_bytes(FORMS, utf_8), [FORMS, "wave 2013", "windows-1252", "UTF-8"]),
    "windows-1252 registered as UTF-8": (
        lambda w: (in_bytes(FORMS, with_words)(w), register(w, FORMS, encoding="utf-8")),
        [FORMS, "wave 2013", "not utf-8", "line 2"],
    ),
    "a line with a cell too many": (
        in_bytes(FORMS, one_cell_more),
        [FORMS, "wave 2013", "line 2", "15 cells", "14"],
    ),
    "an empty file": (in_bytes(FORMS, lambda content: b""), [FORMS, "wave 2013", "empty"]),
    "a NUL byte in a label of the codebook": (
        in_bytes(CODEBOOK, lambda content: content.replace(b"Male", b"M\0ale", 1)),
        [CODEBOOK, "wave 2013", "NUL byte"],
    ),
    "a header without rows": (
        in_bytes(FORMS, lambda content: content.split(b"\n")[0] + b"\n"),
        [FORMS, "wave 2013", "no rows"],
    ),
    "an SPSS file that is none": (in_bytes(SPSS, spoiled_spss), [SPSS, "wave 2014", "sav"]),
    "a column name twice": (
        in_bytes(FORMS, lambda content: with_words(content).replace(b",Q4,", b",q3,", 1)),
        [FORMS, "wave 2013", "have one name"],
    ),
}


@pytest.mark.parametrize("fault", CONTENT_FAULTS)
def test_a_file_that_cannot_be_read_is_refused_and_the_landed_one_stays(small: Warehouse, fault: str) -> None:
    plant, words = CONTENT_FAULTS[fault]
    landed = "select * from raw.files order by all"
    forms = "select * from raw.responses_2013 order by _row"
    before = small.query(landed), small.query(forms)
    plant(small)

    said = refusal_of(small)

    assert [word for word in words if word not in said] == []
    assert small.query(landed).equals(before[0])
    assert small.query(forms).equals(before[1])


# ---------------------------------------------------------------------------------------- building


def draw_fewer(rows: list[Row], *place: str) -> None:
    """One person drawn in each row of a trust, or two in each of a trust's age band and sex."""
    chosen = [row for row in rows if (row["Trust"], row["AgeBand"], row["Sex"])[: len(place)] == place]
    assert chosen
    for row in chosen:
        row["Persons"] = "1" if len(place) == 1 else "2"


def leave_one_form(rows: list[Row]) -> None:
    """One form of the smallest trust, with words for the trust's name; nobody else there sent one back."""
    rows[:] = [row for row in rows if row["TrustCode"] != "T03" or row["RecNo"] == "0301"]
    [only] = [row for row in rows if row["TrustCode"] == "T03"]
    only["TrustName"] = WORDS


def supply_weights(warehouse: Warehouse, weights: dict[str, str]) -> None:
    """The first wave with weights of the depositor's, 1.25 for each form but those given."""
    in_rows(FORMS, lambda rows: [row.update(Weight=weights.get(row["RecNo"], "1.25")) for row in rows])(warehouse)
    add("key_variables", survey_year="2013", file_role="responses", variable="weight", raw_column="Weight",
        measured_as="number")(warehouse)  # fmt: skip
    put("waves", {"survey_year": "2013"}, weighting_scheme="supplied")(warehouse)


# Faults of one group are planted together: a refusal names all of them.
GROUPS: dict[str, dict[str, tuple[Plant, list[str]]]] = {
    "forms": {
        "an unknown code of a question": (
            in_form(20, Q3="7"),
            ["survey_year 2013, question_id support_work, raw_column Q3, code 7,", "response_map"],
        ),
        "words where a code belongs": (in_form(21, Q1=WORDS), ["raw_column Q1, code a text of 31 characters"]),
        "an unknown outcome": (in_form(28, Outcome="8"), ["outcome", "raw_column Outcome, code 8,", "key_codes"]),
        "an unknown gender": (in_form(22, Sex="5"), ["questionnaire_gender, raw_column Sex, code 5,"]),
        "words where a year belongs": (
            in_form(23, BirthYear=WORDS),
            ["questionnaire_age, raw_column BirthYear", "no numbers"],
        ),
    },
    "blanks": {
        "a form without trust": (
            in_form(20, TrustCode=" "),
            ["check no_nulls of stg_responses.trust: 1 found:", "survey_year 2013, n 1"],
        ),
        "a column nobody knows": (
            in_rows(FORMS, lambda rows: [row.update(Q6="1") for row in rows]),
            ["survey_year 2013, file_role responses, raw_column Q6", "ignored_columns"],
        ),
    },
    "crosswalk": {
        "a question mapped to a column that is not there": (
            put("question_map", {"survey_year": "2013", "question_id": "overall_experience"}, raw_column="Q55"),
            ["survey_year 2013", "raw_column q55, seed question_map", "no such column"],
        ),
        "a code of a key variable that nothing has": (
            add("key_codes", survey_year="2014", file_role="responses", variable="frame_gender", code="77",
                value="missing"),
            ["every_key_code_is_mapped", "variable frame_gender, code 77", "key_codes"],
        ),
        "a filter code that nothing has": (
            add("routing", survey_year="2014", question_id="contact_care_coordinator",
                filter_question_id="in_charge_type", filter_code="66"),
            ["routing_matches_the_crosswalk", "filter_question_id in_charge_type, filter_code 66"],
        ),
        "no verdict on comparability": (
            drop("comparability", question_id="overall_experience"),
            ["question_id overall_experience, from_year 2013, to_year 2014", "comparability"],
        ),
        "a question without a believable base": (
            drop("expected_rows", survey_year="2014", question_id="in_charge_type"),
            ["every_question_has_an_expected_base", "survey_year 2014, question_id in_charge_type"],
        ),
        "a response nobody listed": (
            put("response_map", {"survey_year": "2013", "question_id": "in_charge_known", "code": "2"},
                response="nope"),
            ["every_response_is_known", "question_id in_charge_known, code 2", "response nope"],
        ),
        "words as the response of a numeric question": (
            put("questions", {"question_id": "support_work"}, is_numeric="true"),
            ["every_numeric_response_is_a_number", "question_id support_work, response no_would_have_liked"],
        ),
        "a response of the guideline that the question has not": (
            lambda w: (
                add("guideline_statements", statement="9", title="A statement", source="A guideline", version="1")(w),
                add("guideline_items", statement="9", question_id="support_work", response="nope", meets="is",
                    fit="partial", rationale="why", reviewer="who", reviewed_on="2020-01-01")(w),
            ),
            ["guideline_items_name_offered_responses", "statement 9, question_id support_work, response nope"],
        ),
        "a value that no outcome has": (
            put("key_codes", {"survey_year": "2014", "variable": "outcome", "code": "4"}, value="ill"),
            ["key_code_values_are_known", "variable outcome, code 4, value ill"],
        ),
        "an accepted disagreement with nothing": (
            add("revisions", question_id="support_work", survey_year="2014", response="yes_definitely",
                vintage="2015-01", reason="why", reviewer="who", reviewed_on="2020-01-01"),
            ["revisions_match_a_published_figure", "question_id support_work", "response yes_definitely"],
        ),
        "a base expected of a question that the wave did not ask": (
            add("expected_rows", survey_year="2013", question_id="in_charge_type", minimum_base="1"),
            ["every_question_has_an_expected_base", "survey_year 2013, question_id in_charge_type", "did not ask"],
        ),
        "an indicator without the response that is published": (
            put("questions", {"question_id": "support_work"}, indicator_response="nope"),
            ["indicators_name_offered_responses", "question_id support_work", "indicator_response nope"],
        ),
        "an indicator that nobody publishes": (
            put("questions", {"question_id": "contact_care_coordinator"}, indicator="contact"),
            ["accepted_values of questions.indicator", "value_field contact,"],
        ),
    },
    "labels of codes": {
        "two codes exchanged, which the codebook tells": (
            exchange_codes("response_map", {"survey_year": "2013", "question_id": "support_work"}, "1", "3"),
            ["response_map_labels_are_those_of_the_file", "survey_year 2013, question_id support_work, code 1,"],
        ),
        "the codes of a question shifted by one, which the SPSS file tells": (
            shift_codes("2014", "overall_experience"),
            ["survey_year 2014, question_id overall_experience, code 10, label 8, label_in_file 9"],
        ),
        "genders exchanged, which the labels tell": (
            exchange_codes("key_codes", {"survey_year": "2014", "variable": "frame_gender"}, "1", "2"),
            ["key_codes_agree_with_value_labels", "variable frame_gender, code 1, value female, label_in_file Male"],
        ),
        "age bands exchanged, which the labels tell": (
            exchange_codes("key_codes", {"survey_year": "2014", "variable": "frame_age"}, "1", "2"),
            ["variable frame_age, code 2, value age_18_50, label_in_file 51 and over"],
        ),
        "outcomes exchanged, which the labels tell": (
            exchange_codes("key_codes", {"survey_year": "2014", "variable": "outcome"}, "2", "3"),
            ["variable outcome, code 2, value died, label_in_file Undelivered"],
        ),
    },
    "blank cells of the crosswalk": {
        "a wave without its block of comparable waves": (
            put("waves", {"survey_year": "2014"}, comparable_block=""),
            ["not_null of waves.comparable_block", "survey_year 2014"],
        ),
        "a published figure without its wave": (
            put("published_figures", {"survey_year": "2014", "response": "8"}, survey_year=""),
            ["not_null of published_figures.survey_year", "question_id overall_experience, response 8"],
        ),
        "a band without its youngest age": (
            put("age_bands", {"survey_year": "2014", "age_band": "age_51_plus"}, from_age=""),
            ["age_bands_follow_each_other", "survey_year 2014, age_band age_51_plus", "from_age is blank"],
        ),
        "a band that is open though another follows": (
            put("age_bands", {"survey_year": "2013", "age_band": "age_18_50"}, to_age=""),
            ["survey_year 2013, age_band age_18_50, from_age 18, what_to_do its to_age is blank"],
        ),
    },
    "bands of ages": {
        "an age that no band has": (
            put("age_bands", {"survey_year": "2013", "age_band": "age_51_plus"}, from_age="52"),
            ["survey_year 2013, age_band age_51_plus, from_age 52, what_to_do it does not begin a year after"],
        ),
        "a youngest band that does not begin with the youngest age": (
            put("age_bands", {"survey_year": "2014", "age_band": "age_18_50"}, from_age="19"),
            ["survey_year 2014, age_band age_18_50", "does not begin with minimum_age"],
        ),
    },
    "figures in print": {
        "a vintage that would sort after later ones": (
            put("published_figures", {"survey_year": "2013", "question_id": "contact_care_coordinator",
                                      "vintage": "2015-01"}, vintage="2015-1"),
            ["is_month of published_figures.vintage", "vintage 2015-1"],
        ),
        "a figure about a response that the question has not": (
            add("published_figures", question_id="support_work", survey_year="2014", response="nope",
                published_pct="5", decimals="0", vintage="2015-01", status="final"),
            ["published_figures_name_offered_responses", "question_id support_work, survey_year 2014, response nope"],
        ),
        "a figure whose newest vintage binds nobody": (
            put("published_figures", {"survey_year": "2014", "response": "8"}, status="superseded"),
            ["the_newest_vintage_of_a_figure_is_final", "response 8, vintage 2015-01, status superseded"],
        ),
    },
    "restatements and texts": {
        "a drafted row that nobody reviewed": (
            add("drafts", survey_year="2014", seed="question_map", row="support_work", certainty="likely",
                score="100", evidence="label", reviewer="", reviewed_on=""),
            ["every_draft_is_reviewed", "seed question_map, row support_work", "nobody has reviewed it"],
        ),
        "a drafted row with a day and no reviewer": (
            add("drafts", survey_year="2014", seed="question_map", row="in_charge_known", certainty="likely",
                score="100", evidence="label", reviewer="", reviewed_on="2026-11-23"),
            ["row in_charge_known, certainty likely, evidence label, what_to_do a date without a reviewer"],
        ),
        "a drafted row with a reviewer and no day": (
            add("drafts", survey_year="2014", seed="question_map", row="contact_care_coordinator", certainty="likely",
                score="100", evidence="label", reviewer="A. Reviewer", reviewed_on=""),
            ["row contact_care_coordinator, certainty likely, evidence label, what_to_do a reviewer without a date"],
        ),
        "a drafted row reviewed on a day that there is not": (
            add("drafts", survey_year="2014", seed="question_map", row="overall_experience", certainty="likely",
                score="100", evidence="label", reviewer="A. Reviewer", reviewed_on="2026-02-30"),
            ["row overall_experience, certainty likely, evidence label, what_to_do reviewed_on is no day"],
        ),
        "a line of drafts whose row has another key now": (
            add("drafts", survey_year="2014", seed="response_map", row="support_work, code 04", certainty="likely",
                score="100", evidence="label", reviewer="A. Reviewer", reviewed_on="2026-11-23"),
            ["row support_work, code 04, certainty likely, evidence label, what_to_do the seed has no such row"],
        ),
        "a response without its question": (
            add("revisions", question_id="", survey_year="2014", response="yes", vintage=RELEASE,
                reason="why", reviewer="who", reviewed_on="2020-01-01"),
            ["revisions_match_a_published_figure", "a response without its question allows nothing"],
        ),
        "a response that the question has not": (
            add("revisions", question_id="support_work", survey_year="2014", response="nope", vintage=RELEASE,
                reason="why", reviewer="who", reviewed_on="2020-01-01"),
            ["question_id support_work, survey_year 2014, response nope", "the question has no such response"],
        ),
        "a wave that the crosswalk has not": (
            add("revisions", question_id="support_work", survey_year="2020", response="", vintage=RELEASE,
                reason="why", reviewer="who", reviewed_on="2020-01-01"),
            ["question_id support_work, survey_year 2020", "the crosswalk has no such wave"],
        ),
        "a release's id that none could have": (
            add("revisions", question_id="support_work", survey_year="2014", response="", vintage="20200101T00:00Z",
                reason="why", reviewer="who", reviewed_on="2020-01-01"),
            ["vintage 20200101T00:00Z, what_to_do no published figure is meant, and no release"],
        ),
        "a correction of an error that the file has not": (
            add("corrections", correction="mended_since", survey_year="2013", file_role="responses", raw_column="Q1",
                found="1", condition_column="RecNo", condition_value=RECORD, action="replace", replacement="2",
                reason="why", source="a letter", reviewer="who", reviewed_on="2020-01-01"),
            ["every_correction_matches", "correction mended_since, survey_year 2013, file_role responses",
             "raw_column Q1, what_to_do it matches no row of the file: correct it; if a new edition mended the error"],
        ),
        "a label with what a terminal would act on": (
            put("questions", {"question_id": "support_work"}, label="Work\x1b[2J\u202e and more"),
            ["every_text_is_plain", "seed questions, column_name label, cell Work\N{REPLACEMENT CHARACTER}[2J"],
        ),
        "a day of review that is none": (
            put("guideline_items", {"question_id": "contact_care_coordinator"}, reviewed_on="infinity"),
            ["is_day of guideline_items.reviewed_on", "reviewed_on infinity"],
        ),
        "a reviewer of white space": (
            put("guideline_items", {"question_id": "support_work"}, reviewer="\u00a0"),
            ["seed guideline_items, column_name reviewer"],
        ),
    },
    "waves": {
        "a wave of the crosswalk that is not registered": (
            lambda w: [move_away(path)(w) for path in (FORMS, SAMPLED, CODEBOOK)],
            ["survey_year 2013, what_to_do", "register its responses file"],
        ),
        "a registered wave without a row in the crosswalk": (
            drop("waves", survey_year="2014"),
            ["survey_year 2014, what_to_do", "the seed waves does not: add its row"],
        ),
        "a row of the crosswalk twice": (
            in_seed("questions", lambda rows: rows.append(dict(rows[0]))),
            ["unique_grain of questions", "question_id contact_care_coordinator, n 2"],
        ),
        "words where a number belongs in the crosswalk": (
            put("expected_rows", {"survey_year": "2013", "question_id": "in_charge_known"}, minimum_base="many"),
            ["seed expected_rows could not be built"],
        ),
    },
    "a crosswalk with other columns": {
        "a column of the crosswalk renamed": (
            in_seed_text("comparability", "comparable,note", "comparable,notes"),
            ["comparability.csv: columns missing: note; columns unknown or repeated: notes."],
        ),
        "a column of the crosswalk twice": (
            in_seed_text("genders", "gender,position,label", "gender,position,position"),
            ["genders.csv: columns missing: label; columns unknown or repeated: position"],
        ),
    },
    "a crosswalk in another encoding": {
        "a seed saved as windows-1252": (
            in_seed_text("question_map", "Do you know who", "Do you know – who", encoding="cp1252"),
            ["question_map", "UTF-8"],
        ),
    },
    "a crosswalk that lacks a part": {
        "a seed that is not there": (
            lambda w: (w.seeds_dir / "genders.csv").unlink(),
            ["cannot be parsed", "genders"],
        ),
    },
    "cells": {
        "a code that nothing has": (
            add("response_map", survey_year="2014", question_id="support_work", code="44",
                treatment="not_applicable", response="", label="Never offered"),
            ["every_response_map_row_is_used", "survey_year 2014, question_id support_work, code 44"],
        ),
        "fewer persons drawn in a cell than forms": (
            in_rows(SAMPLED, lambda rows: draw_fewer(rows, "T01", "1", "2")),
            ["survey_year 2013, trust T01, weight_cell female:age_18_50, sampled 6, responded 10"],
        ),
    },
    "trusts": {
        "fewer persons drawn in a trust than forms": (
            in_rows(SAMPLED, lambda rows: draw_fewer(rows, "T02")),
            ["survey_year 2013, trust T02, sampled 10, responded 16", "fewer persons were drawn"],
        ),
        "a trust from which nobody answered": (
            in_rows(SAMPLED, lambda rows: rows.append(rows[3] | {"Trust": "T04", "Persons": "9"})),
            ["survey_year 2013, trust T04, sampled 9, responded 0", "nobody responded"],
        ),
        "a stratum of one respondent": (
            in_rows(FORMS, leave_one_form),
            ["survey_year 2013, stratum T03, responded 1, what_to_do join it to another trust in merged_strata"],
        ),
        "a trust of the wave that is joined to another, but is not there": (
            add("merged_strata", survey_year="2014", trust="T09", stratum="T01", reason="why"),
            ["merged_strata_name_trusts_of_the_wave", "survey_year 2014, trust T09"],
        ),
    },
    "supplied weights": {
        "weights that are missing, zero or negative": (
            lambda w: supply_weights(w, {"0102": " ", "0103": "0", "0202": "-1.5", "0302": WORDS}),
            ["supplied_weights_are_positive", "survey_year 2013, trust T01, n 2, what_to_do the weight is missing",
             "survey_year 2013, trust T02, n 1, what_to_do"],
        ),
        "a weight that is no number": (
            lambda w: None,
            ["survey_year 2013, file_role responses, variable weight, raw_column Weight, n 1", "no numbers"],
        ),
    },
    "a frame": {
        "a wave without a frame whose scheme needs one": (
            put("waves", {"survey_year": "2014"}, sample_frame="none"),
            ["survey_year 2014, what_to_do its scheme trust_population needs the persons drawn"],
        ),
    },
    "figures": {
        "a published figure that is not reproduced": (
            put("published_figures", {"survey_year": "2014", "response": "8"}, published_pct="33"),
            ["survey_year 2014, question_id overall_experience, response 8, verdict disagrees",
             "published 33.0, ours 31.988"],
        ),
        "an implausible change": (
            put("waves", {"survey_year": "2014"}, maximum_change="12.5"),
            ["overall_experience: expected no change", "survey_year 2014, score 8"],
        ),
        "fewer answers than believable": (
            put("expected_rows", {"survey_year": "2013", "question_id": "in_charge_known"}, minimum_base="46"),
            ["bases at least as large", "survey_year 2013, question_id in_charge_known"],
        ),
        "fewer answers than believable where the figure is hidden": (
            put("expected_rows", {"survey_year": "2014", "question_id": "support_work"}, minimum_base="18"),
            ["support_not_received: expected bases at least as large", "survey_year 2014, area work"],
        ),
        "more unreadable answers than believable": (
            put("waves", {"survey_year": "2013"}, maximum_unreadable="4.8"),
            ["not more answers with two ticks or out of range than the waves seed allows",
             "survey_year 2013, question_id contact_care_coordinator"],
        ),
        "too low a response rate": (
            put("waves", {"survey_year": "2013"}, minimum_response_rate="19"),
            ["response rate not below the waves seed", "survey_year 2013"],
        ),
        "fewer trusts than expected": (
            put("waves", {"survey_year": "2014"}, minimum_trusts="4", maximum_trusts="9"),
            ["not fewer trusts than the waves seed says", "survey_year 2014"],
        ),
        "an implausible effect of the weights": (
            put("waves", {"survey_year": "2013"}, maximum_weighting_effect="3.9"),
            ["weighting moves no share by more", "survey_year 2013, question_id overall_experience, response 9"],
        ),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def refused(hand_worked: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """What a refresh says with all faults of a group planted; each group runs once."""
    known: dict[str, str] = {}

    def run(group: str) -> str:
        if group not in known:
            warehouse = hand_worked.copy(tmp_path_factory.mktemp("faults") / "small")
            for plant, _ in GROUPS[group].values():
                plant(warehouse)
            known[group] = refusal_of(warehouse)
        return known[group]

    return run


@pytest.mark.parametrize(
    ("group", "fault"),
    [
        pytest.param(group, fault, marks=pytest.mark.xdist_group(f"faults {group}"), id=fault)
        for group, faults in GROUPS.items()
        for fault in faults
    ],
)
def test_a_fault_that_shows_while_building_is_refused_by_name(
    refused: Callable[[str], str], group: str, fault: str
) -> None:
    _, words = GROUPS[group][fault]

    said = refused(group)

    assert [word for word in words if word not in said] == []


def test_an_expectation_that_is_itself_broken_does_not_pass(
    hand_worked: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(expectations.FOLDER, tmp_path / "expectations")
    suite = json.loads((folder / "overall_experience.json").read_text(encoding="utf-8"))
    suite["expectations"][1]["kwargs"]["column"] = "no_such_column"
    (folder / "overall_experience.json").write_text(json.dumps(suite), encoding="utf-8")
    monkeypatch.setattr(expectations, "FOLDER", folder)

    with connect(hand_worked.settings.warehouse, read_only=True) as warehouse:
        outcomes = expectations.run_suites(warehouse)

    assert [
        (outcome.suite, outcome.status)
        for outcome in outcomes
        if outcome.expected == "shares between 0 and 100 percent" and "no_such_column" in outcome.check_id
    ] == [("overall_experience", "error")]
    assert {outcome.status for outcome in outcomes} == {"pass", "error"}
    [broken] = [outcome for outcome in outcomes if outcome.status == "error"]
    assert "overall_experience: the expectation 'shares between 0 and 100 percent' is broken" in broken.sentence


# What each expectation of a suite is there for, planted in a mart of its own: (table, statement).
ENGLAND = "geography_level = 'england'"
MART_FAULTS: dict[str, dict[str, str]] = {
    "corrections": {
        "every correction of the crosswalk is told":
            "insert into crosswalk.corrections (correction, survey_year) values ('untold', 2017)",
        "nothing is told to be corrected that the crosswalk does not correct":
            "insert into marts.corrections values ('made_up', 2017, 'responses', 'q1', 'replace', 'why', 'a letter', "
            "'A. Reviewer', '2026-11-25')",
    },
    "changes": {
        "every figure that the crosswalk says was asked for is there":
            f"delete from marts.changes where {ENGLAND} and question_id = 'listened_to'",
        "the change is the difference of the published shares":
            f"update marts.changes set change = change + 0.001 where {ENGLAND}",
        "comparable where the crosswalk says so, and nowhere else":
            "update marts.changes set comparable = true where question_id = 'contact_care_coordinator'",
        "nothing is significant across a break":
            "update marts.changes set significant = true where question_id = 'support_work'",
        "the interval holds the change": f"update marts.changes set ci_low = change + 1 where {ENGLAND}",
        "the interval has its ends in order": f"update marts.changes set ci_high = ci_low - 1 where {ENGLAND}",
    },
    "guideline_alignment": {
        "every statement is there, and every question that bears on it and was asked":
            "delete from marts.guideline_alignment where question_id = 'listened_to'",
        "nothing is there that the reviewed mapping does not have":
            "insert into marts.guideline_alignment from marts.guideline_alignment where question_id = 'listened_to'",
        "measured exactly where a question bears on the statement":
            "update marts.guideline_alignment set measured = true where question_id is null",
    },
    "instrument_changes": {
        "every question asked on both sides of a change of questionnaire is there":
            "delete from marts.instrument_changes where question_id = 'listened_to'",
        "as many ordinary steps as the crosswalk has comparable pairs":
            "update marts.instrument_changes set ordinary_steps = ordinary_steps - 1",
        "the ordinary range has its ends in order":
            "update marts.instrument_changes set ordinary_low = 50, ordinary_high = 49",
    },
    "means": {
        "every figure that the crosswalk says was asked for is there":
            f"delete from marts.means where {ENGLAND}",
        "no mean below the lowest score on offer": "update marts.means set mean_score = -0.1",
        "no mean above the highest score on offer": "update marts.means set mean_score = 10.1",
        "the mean is that of the published shares": "update marts.means set mean_score = mean_score + 0.001",
        "the interval holds the mean": "update marts.means set ci_low = mean_score + 1",
        "the interval has its ends in order": "update marts.means set ci_high = ci_low - 1",
    },
    "trust_band_counts": {
        "every response that can be good or bad has its count of bands":
            "delete from marts.trust_band_counts where question_id = 'listened_to'",
        "the bands sum to the trusts compared": "update marts.trust_band_counts set better = better + 1",
        "no more than 30 % of trusts outside the middle band: the bands allow for ordinary differences":
            "update marts.trust_band_counts set worse = worse + about_the_same, about_the_same = 0",
    },
    "trust_comparisons": {
        "every trust of the wave is there for every question":
            "delete from marts.trust_comparisons where trust = 'S01' and question_id = 'listened_to'",
        "every shown row has a difference and its standard error": "update marts.trust_comparisons set se = null",
        "no difference larger than 100 percentage points":
            "update marts.trust_comparisons set difference = 101 where difference > 20",
        "some trusts lie above the country and some below, or all are equal":
            "update marts.trust_comparisons set difference = abs(difference) + 0.1",
    },
    "trusts": {
        "every trust that took part is there": "delete from marts.trusts where trust = 'S01'",
        "every merger of the crosswalk shows, with both trusts":
            "update marts.trusts set formed_by_merger = false",
        "no trust takes part after it went into another one":
            "insert into marts.trusts select * replace ("
            "(select max(survey_year) from marts.trusts) as survey_year) "
            "from marts.trusts where continues_as is not null limit 1",
    },
    "waves": {
        "every wave of the crosswalk is there": "delete from marts.waves where survey_year = 2015",
        "no fewer persons drawn than responded": "update marts.waves set sampled = responded - 1",
        "as many questions as the crosswalk has": "update marts.waves set questions = questions - 1",
    },
}  # fmt: skip


@pytest.mark.parametrize("suite", MART_FAULTS)
def test_every_expectation_sees_the_fault_it_is_there_for(
    six_waves: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: str
) -> None:
    declared = json.loads((expectations.FOLDER / f"{suite}.json").read_text(encoding="utf-8"))["expectations"]
    assert {expectation["meta"]["notes"] for expectation in declared} == set(MART_FAULTS[suite])
    monkeypatch.setattr(expectations, "suite_names", lambda: [suite])
    copy = shutil.copy(six_waves.settings.warehouse, tmp_path / "warehouse.duckdb")

    with connect(Path(copy)) as warehouse:
        assert {outcome.status for outcome in expectations.run_suites(warehouse)} == {"pass"}
        for expected, statement in MART_FAULTS[suite].items():
            warehouse.begin()
            [(rows,)] = warehouse.execute(statement).fetchall()
            assert rows > 0, expected
            found = {outcome.expected: outcome for outcome in expectations.run_suites(warehouse)}
            assert found[expected].status == "fail", expected
            assert found[expected].failures > 0, expected
            warehouse.rollback()


# Checks of dbt on what is hidden, each with a fault in a mart that it is there for, and what it names.
HIDING_FAULTS: dict[str, tuple[str, str, str]] = {
    "a hidden row keeps a figure": (
        "hidden_rows_hold_nothing",
        "update marts.estimates set pct = 50 where suppressed",
        "estimates",
    ),
    "a hidden row without a reason": (
        "hidden_rows_hold_nothing",
        "update marts.guideline_alignment set suppressed = true, pct_met = null, se = null, ci_low = null, "
        "ci_high = null, base = null where statement = 2",
        "guideline_alignment",
    ),
    "a change of a hidden share": (
        "hidden_rows_hold_nothing",
        "update marts.changes set p_value = 0.5 where suppressed",
        "changes",
    ),
    "a trust's band behind a hidden share": (
        "hidden_rows_hold_nothing",
        "update marts.trust_comparisons set band = 'better' where suppressed",
        "trust_comparisons",
    ),
    "one part of a margin hidden alone": (
        "hidden_estimates_cannot_be_worked_out",
        "update marts.estimates set suppressed = true, base = null "
        "where geography_code = 'S01' and survey_year = 2017 and question_id = 'overall_experience'",
        "overall_experience",
    ),
    "parts of a margin hidden that are few persons together": (
        "hidden_estimates_cannot_be_worked_out",
        # Two trusts are hidden here.
        "update marts.estimates set base = 29 + (select sum(base) from ("
        "select distinct geography_code, base from marts.estimates "
        "where geography_level = 'trust' and survey_year = 2016 and question_id = 'support_peer')) "
        "where survey_year = 2016 and question_id = 'support_peer' and geography_level = 'england' "
        "and breakdown = 'all'",
        "support_peer",
    ),
}


@pytest.mark.parametrize("fault", HIDING_FAULTS)
def test_a_check_on_what_is_hidden_sees_the_fault_it_is_there_for(
    six_waves: Warehouse, tmp_path: Path, fault: str
) -> None:
    check, statement, named = HIDING_FAULTS[fault]
    compiled = six_waves.settings.dbt_target_dir / "compiled" / "cmhs" / "tests" / f"{check}.sql"
    query = compiled.read_text(encoding="utf-8")
    copy = shutil.copy(six_waves.settings.warehouse, tmp_path / "warehouse.duckdb")

    with connect(Path(copy)) as warehouse:
        assert warehouse.execute(query).fetchall() == []
        [(rows,)] = warehouse.execute(statement).fetchall()
        assert rows > 0
        found = warehouse.execute(query).fetchall()

    assert len(found) == 1
    assert named in found[0]


# ---------------------------------------------------------------------------------------- sparse data


def without_figures(warehouse: Warehouse) -> None:
    """Nothing to compare the first wave with, as most of its forms are about to change."""
    drop("published_figures", survey_year="2013")(warehouse)
    in_seed("expected_rows", lambda rows: [row.update(minimum_base="1") for row in rows])(warehouse)
    put("waves", {"survey_year": "2013"}, maximum_weighting_effect="50")(warehouse)
    put("waves", {"survey_year": "2014"}, maximum_change="50")(warehouse)


def nothing_in_print(warehouse: Warehouse) -> None:
    """As if these files were the first: what they change is no restatement."""
    published = warehouse.settings.published_dir
    (published / "current").unlink()
    (published / "journal.jsonl").unlink()
    shutil.rmtree(published / "releases")


def test_a_cell_that_nobody_answered_is_merged_and_the_merge_is_a_row(small: Warehouse) -> None:
    merges = "select cell, weight_cell from intermediate.int_cell_merges where survey_year = 2013 and trust = 'T01'"
    assert all(cell == weight_cell for cell, weight_cell in small.query(merges).values)
    old_men = ("0119", "0120")
    in_rows(FORMS, lambda rows: rows.__setitem__(slice(None), [r for r in rows if r["RecNo"] not in old_men]))(small)
    without_figures(small)
    nothing_in_print(small)

    assert small.refresh().changed

    # The oldest band has no older one to join.
    assert ["male:age_51_plus", "male:age_18_50"] in small.query(merges).values.tolist()
    [[sampled, responded, cell_sampled, weight]] = small.query(
        "select sampled, responded, sum(sampled) over (partition by weight_cell), population_weight "
        "from intermediate.int_weight_cells where survey_year = 2013 and trust = 'T01' "
        "qualify cell = 'male:age_51_plus'"
    ).values
    assert (sampled, responded, cell_sampled) == (10, 0, 40)
    assert weight == pytest.approx((40 / 100) / (4 / 18), rel=1e-12)


def test_a_stratum_of_one_respondent_is_joined_to_another_as_the_refusal_asks(small: Warehouse) -> None:
    in_rows(FORMS, leave_one_form)(small)
    without_figures(small)
    assert "stratum T03, responded 1, what_to_do join it to another trust in merged_strata" in refusal_of(small)
    add("merged_strata", survey_year="2013", trust="T03", stratum="T02", reason="one form came back")(small)
    nothing_in_print(small)

    assert small.refresh().changed

    table = small.query(
        "select geography_code, base, degrees_of_freedom, se from intermediate.int_estimates "
        "where survey_year = 2013 and question_id = 'in_charge_known' and response = 'yes' and is_published "
        "and breakdown = 'all' order by all"
    ).set_index("geography_code")
    # The one row's name of the trust is not believed.
    names = small.query("select geography_name from intermediate.int_areas where geography_code = 'T03'")
    assert set(names["geography_name"]) == {"Far Moor NHS Trust"}
    # Two strata are left of three trusts.
    assert table.loc["E92000001", "degrees_of_freedom"] == table.loc["E92000001", "base"] - 2
    assert table["se"].notna().all()


# ---------------------------------------------------------------------------------------- afterwards


def test_a_fault_is_refused_again_until_what_the_refusal_asks_for_is_done(small: Warehouse) -> None:
    releases = [name for name in small.published_bytes() if name.endswith("release.json")]
    in_form(20, Q3="7")(small)

    first, second = refusal_of(small), refusal_of(small)

    unknown = "question_id support_work, raw_column Q3, code 7, n 1, what_to_do add the code to response_map"
    assert unknown in first
    assert unknown in second
    add("response_map", survey_year="2013", question_id="support_work", code="7", treatment="out_of_range",
        response="", label="Not a code of this question")(small)  # fmt: skip
    # One form counts less than in the release that is in print.
    restated = refusal_of(small)
    assert "values in print of support_work in wave 2013 differ" in restated
    in_print = (small.settings.current_release.readlink()).name
    assert f"The files of wave 2013 are not those of release {in_print}: responses {FORMS}: edition 1 (" in restated
    asked = re.search(rf"\n    ,2013,,{in_print},REASON (\(files [0-9a-f]{{12}}\)),REVIEWER,YYYY-MM-DD", restated)
    assert asked
    add("revisions", question_id="", survey_year="2013", response="", vintage=in_print,
        reason=f"re-issued {asked[1]}", reviewer="A. Reviewer", reviewed_on="2026-11-01")(small)  # fmt: skip
    add("revisions", question_id="support_work", survey_year="2013", response="", vintage=in_print,
        reason="a code was misread", reviewer="A. Reviewer", reviewed_on="2026-11-01")(small)  # fmt: skip
    assert small.refresh().changed
    assert len([name for name in small.published_bytes() if name.endswith("release.json")]) == len(releases) + 1
    counted = small.published(
        "select n from marts.exclusions where survey_year = 2013 and question_id = 'support_work' "
        "and status = 'out_of_range'"
    )
    assert counted["n"].tolist() == [1]
    assert not small.refresh().changed


def test_a_file_put_back_as_it_was_needs_no_new_release(small: Warehouse) -> None:
    before = small.published_bytes()
    content = (small.raw_dir / FORMS).read_bytes()
    alter_one_byte(small)
    refusal_of(small)
    refusal_of(small)

    (small.raw_dir / FORMS).write_bytes(content)

    assert not small.refresh().changed
    assert small.published_bytes() == before
