"""A new wave is registered and drafted: what is guessed is right or says that it may not be, and nothing is lost."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat
import pytest
from click.testing import CliRunner, Result
from conftest import CCHS_DATA, FIXTURES, RAW, ROOT, SEEDS, Warehouse

from orchestration.cli import main
from orchestration.wave.additions import with_rows, write
from orchestration.wave.guess import Column, Guess, guess

sys.path.append(str(ROOT / "benchmarks"))
sys.path.append(str(FIXTURES / "hand_worked"))
import guesses
import make_raw

Row = dict[str, str]
# What a respondent wrote: never in a seed or in a message.
WORDS = "please tell nobody of my sister"
MADE_UP = ("--provenance", "synthetic")


def read_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(survey: Warehouse, *arguments: str) -> Result:
    with survey.active():
        return CliRunner().invoke(main, ["wave", *arguments])


def without_wave(seeds: Path, wave: str) -> dict[str, list[Row]]:
    """Remove this wave and later ones from a crosswalk; the rows of this one."""
    removed = {}
    for path in seeds.glob("*.csv"):
        header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = read_rows(path)
        year = "to_year" if "to_year" in header else "survey_year"
        if year in header.strip().split(",") and path.stem != "published_figures":
            removed[path.stem] = [row for row in rows if row[year] == wave]
            kept = [line for line, row in zip(lines, rows, strict=True) if row[year] < wave]
            path.write_text(header + "".join(kept), encoding="utf-8")
    return removed


class Redrafted:
    """A real wave whose crosswalk was taken away and drafted again."""

    def __init__(self, folder: Path, wave: str) -> None:
        self.survey = Warehouse(folder, RAW, shutil.copytree(SEEDS, folder / "seeds"))
        self.experts = without_wave(self.survey.seeds_dir, wave)
        self.before = contents(self.survey.seeds_dir)
        ran = run(self.survey, "init", wave, "--json")
        assert ran.exit_code == 0, ran.output
        self.said = json.loads(ran.output)
        self.drafts = [row for row in read_rows(self.survey.seeds_dir / "drafts.csv") if row["survey_year"] == wave]
        self.rows: dict[str, list[Row]] = {}
        for seed in self.said["rows"]:
            year = "to_year" if seed == "comparability" else "survey_year"
            rows = read_rows(self.survey.seeds_dir / f"{seed}.csv")
            self.rows[seed] = [row for row in rows if row[year] == wave]

    def certainty(self, seed: str) -> list[str]:
        """Of the seed's drafted rows, in their order: drafts.csv lists the rows of a seed in the order of the seed."""
        return [draft["certainty"] for draft in self.drafts if draft["seed"] == seed]

    def wrong(self, certainty: str) -> list[Row]:
        """Drafted rows of this certainty that the crosswalk had otherwise or not at all; raw columns in any case."""
        return [
            row
            for seed, rows in self.rows.items()
            for row, drafted_as in zip(rows, self.certainty(seed), strict=True)
            if drafted_as == certainty and folded(row) not in [folded(other) for other in self.experts[seed]]
        ]


def folded(row: Row) -> Row:
    return row | {"raw_column": row.get("raw_column", "").lower()}


@pytest.fixture(scope="module")
def redrafted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Redrafted]:
    known: dict[str, Redrafted] = {}

    def of(wave: str) -> Redrafted:
        if wave not in known:
            known[wave] = Redrafted(tmp_path_factory.mktemp("redrafted"), wave)
        return known[wave]

    return of


# ---------------------------------------------------------------------------------------- drafting real waves again


@pytest.mark.parametrize("wave", ["2013", "2014", "2017"])
def test_no_row_of_a_wave_that_is_drafted_as_likely_is_wrong(redrafted: Callable[[str], Redrafted], wave: str) -> None:
    found = redrafted(wave)

    assert found.wrong("likely") == []
    assert sum(draft["certainty"] == "likely" for draft in found.drafts) > 80


def test_a_wave_like_the_one_before_is_drafted_as_it_was_written_by_hand(
    redrafted: Callable[[str], Redrafted],
) -> None:
    found = redrafted("2017")

    for seed in ("waves", "age_bands", "question_map", "routing", "expected_rows"):
        assert (found.survey.seeds_dir / f"{seed}.csv").read_bytes() == (SEEDS / f"{seed}.csv").read_bytes(), seed
    missing = [row for row in found.experts["response_map"] if row not in found.rows["response_map"]]
    # No label says what these codes are, and the wave before had others.
    assert {row["treatment"] for row in missing} == {"out_of_range"}
    assert len(found.rows["response_map"]) == len(found.experts["response_map"]) - len(missing) > 100
    assert [row["comparable"] for row in found.rows["comparability"]] == ["true"] * 17
    assert set(found.certainty("comparability")) == {"uncertain"}


def test_codes_that_mean_something_else_now_follow_their_labels(redrafted: Callable[[str], Redrafted]) -> None:
    codes = {
        (row["file_role"], row["variable"], row["code"]): row["value"] for row in redrafted("2017").rows["key_codes"]
    }

    # In 2016 code 1 was male in the frame and female in the questionnaire; in 2017 it is the other way round.
    assert codes["responses", "frame_gender", "1"] == "female"
    assert codes["responses", "questionnaire_gender", "1"] == "male"
    # The file of persons drawn has no labels: the codes are those of the respondents' file of the same wave.
    assert codes["sampled", "frame_gender", "1"] == "female"
    # Its age bands are numbered otherwise than before, and nothing says how.
    assert not [code for role, variable, code in codes if (role, variable) == ("sampled", "frame_age")]
    scores = {
        row["code"]: row["response"]
        for row in redrafted("2017").rows["response_map"]
        if row["question_id"] == "overall_experience"
    }
    assert scores["0"] == "0" and scores["10"] == "10"  # 2016 stored 1 to 11.


def test_a_new_questionnaire_is_not_taken_for_the_old_one(redrafted: Callable[[str], Redrafted]) -> None:
    found = redrafted("2014")
    verdicts = {row["question_id"]: row for row in found.rows["comparability"]}
    labels = {(row["question_id"], row["label"]) for row in found.rows["response_map"]}

    assert verdicts["contact_care_coordinator"]["comparable"] == "false"
    assert "no longer offered: Yes, always; Yes, sometimes" in verdicts["contact_care_coordinator"]["note"]
    assert verdicts["support_work"]["comparable"] == "false"
    assert ("support_work", "Yes, definitely") in labels
    assert ("support_work", "No, but I would have liked help") not in labels
    assert "in_charge_type" not in {row["question_id"] for row in found.rows["question_map"]}
    assert set(found.certainty("question_map")) == {"uncertain"}  # The wording changed, and the labels do not tell.
    assert "Q08" in found.said["undecided_columns"]["responses"]


def test_a_question_on_another_scale_is_another_question(redrafted: Callable[[str], Redrafted]) -> None:
    found = redrafted("2013")

    assert {"overall_experience", "overall_rating_verbal"} & {
        row["question_id"] for row in found.rows["question_map"]
    } == set()
    assert "q44" in found.said["undecided_columns"]["responses"]
    # Age bands of 2012 are no ages in years, nor are years of birth.
    assert {"sample_age", "q47"} <= set(found.said["undecided_columns"]["responses"])


@pytest.mark.parametrize("wave", ["2013", "2014", "2017"])
def test_only_rows_are_added_each_with_a_line_for_its_review(redrafted: Callable[[str], Redrafted], wave: str) -> None:
    found = redrafted(wave)
    after = contents(found.survey.seeds_dir)

    assert after.keys() == found.before.keys()
    added = 0
    for name, content in found.before.items():
        left = after[name].splitlines()
        for line in content.splitlines():
            assert line in left, name
            left = left[left.index(line) + 1 :]  # In the order in which they were.
        added += len(after[name].splitlines()) - len(content.splitlines())
    assert added == 2 * len(found.drafts)
    assert len({(draft["seed"], draft["row"]) for draft in found.drafts}) == len(found.drafts)
    assert {draft["reviewer"] + draft["reviewed_on"] for draft in found.drafts} == {""}
    assert all(draft["evidence"] for draft in found.drafts)
    said = {seed: sum(counts.values()) for seed, counts in found.said["rows"].items()}
    assert said == {seed: len(found.rows[seed]) for seed in said}


# ---------------------------------------------------------------------------------------- planted


SCORES = [str(score) for score in range(11)]


def renamed(columns: dict[str, Any], names: Row) -> dict[str, Any]:
    return {names.get(column, column): value for column, value in columns.items()}


def deliver(survey: Warehouse, rows: pd.DataFrame, labels: Row, values: dict[str, Row]) -> None:
    """Register an SPSS file of wave 2015 with these rows, whose codes are texts here and numbers in the file."""
    texts = ("trust", "trustname", "recno", "note")
    numbers = {
        column: pd.to_numeric(rows[column].replace("", None)).astype(float) for column in rows if column not in texts
    }
    path = survey.raw_dir / "2015" / "hand_2015.sav"
    path.parent.mkdir()
    pyreadstat.write_sav(
        rows.assign(**numbers),
        path,
        column_labels=labels,
        variable_value_labels={
            column: {float(code): label for code, label in codes.items()} for column, codes in values.items()
        },
        missing_ranges={column: [997, 998, 999] for column in rows if column.startswith("q") and column[1:].isdigit()},
    )
    ran = run(survey, "register", "2015", str(path), *MADE_UP)
    assert ran.exit_code == 0, ran.output


class Planted:
    """The hand-worked survey with a third wave, made of the second with what a new questionnaire does to it."""

    def __init__(self, folder: Path) -> None:
        fixture = FIXTURES / "hand_worked"
        raw = shutil.copytree(fixture / "raw", folder / "raw")
        self.survey = Warehouse(folder, raw, shutil.copytree(fixture / "seeds", folder / "seeds"))
        rows = pd.read_csv(fixture / "rows_2014.csv", dtype=str, keep_default_na=False)
        labels, values = dict(make_raw.LABELS), {column: dict(codes) for column, codes in make_raw.VALUES.items()}
        # Numbers that move, so that each name now means another question.
        moved = {"q1": "q2", "q2": "q3", "q3": "q1"}
        rows, labels, values = rows.rename(columns=moved), renamed(labels, moved), renamed(values, moved)
        # The whole list of codes one lower; the scale from 0 in place of 1.
        self.recode(rows, values, "q4", {str(code): str(code - 1) for code in range(1, 7)})
        self.recode(rows, values, "q5", {str(code): str(code - 1) for code in range(1, 13)})
        # Two codes exchanged.
        self.recode(rows, values, "framesex", {"1": "2", "2": "1"})
        labels["q5"] = "How was it overal, 0 to 10?"
        labels["q4"] = "Did anyone give you advice on keeping work?"
        values["q1"]["4"] = "I would rather not say"
        del values["q5"]["999"]
        rows["q6"], labels["q6"], values["q6"] = rows["q2"], "Would you come back?", {"1": "Yes", "2": "No"}
        rows["note"] = WORDS
        deliver(self.survey, rows, labels, values)
        self.before = contents(folder)
        self.ran = run(self.survey, "init", "2015")
        assert self.ran.exit_code == 0, self.ran.output

    @staticmethod
    def recode(rows: pd.DataFrame, values: dict[str, Row], column: str, codes: Row) -> None:
        rows[column] = rows[column].map(lambda code: codes.get(code, code))
        values[column] = {codes.get(code, code): label for code, label in values[column].items()}

    def rows(self, seed: str) -> list[Row]:
        year = "to_year" if seed == "comparability" else "survey_year"
        return [row for row in read_rows(self.survey.seeds_dir / f"{seed}.csv") if row[year] == "2015"]

    def draft(self, seed: str, row: str) -> Row:
        [found] = [d for d in self.rows("drafts") if (d["seed"], d["row"]) == (seed, row)]
        return found


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(tmp_path_factory.mktemp("planted"))


def test_a_question_is_found_by_its_label_whatever_its_number(planted: Planted) -> None:
    columns = {row["question_id"]: row["raw_column"] for row in planted.rows("question_map")}

    assert columns["in_charge_known"] == "q2"
    assert columns["in_charge_type"] == "q3"
    assert columns["contact_care_coordinator"] == "q1"
    likely = planted.draft("question_map", "in_charge_known")
    assert (likely["certainty"], likely["score"]) == ("likely", "100")
    assert likely["evidence"] == (
        'label "Have you been told who looks after your care?" of column q2; 3 of 3 answers are called the same; '
        "was q1 in 2014"
    )


def test_a_slip_in_a_label_is_forgiven_and_another_word_is_not(planted: Planted) -> None:
    slip = planted.draft("question_map", "overall_experience")
    verdicts = {row["question_id"]: row for row in planted.rows("comparability")}

    # The column is the same one, but how the question was put is not known from a label with a slip.
    assert 'was "How was it overall, 0 to 10?"' in slip["evidence"] and "words differ" not in slip["evidence"]
    assert "its words differ" in planted.draft("question_map", "support_work")["evidence"]
    assert planted.draft("question_map", "support_work")["certainty"] == "uncertain"
    assert verdicts["support_work"]["comparable"] == "false"
    assert 'reworded: was "Did anyone give you advice on finding work?"' in verdicts["support_work"]["note"]
    wording = {row["question_id"]: row for row in planted.rows("question_map")}["support_work"]
    assert (wording["wording_version"], wording["wording"]) == ("2015", "Did anyone give you advice on keeping work?")
    assert verdicts["in_charge_known"]["comparable"] == "true"
    assert verdicts["in_charge_known"]["note"] == "same wording and responses"
    # No file tells what stood before a question, or how it was asked.
    assert {draft["certainty"] for draft in planted.rows("drafts") if draft["seed"] == "comparability"} == {"uncertain"}


def test_shifted_and_exchanged_codes_follow_their_labels(planted: Planted) -> None:
    codes = {(row["question_id"], row["code"]): row for row in planted.rows("response_map")}
    genders = {row["code"]: row["value"] for row in planted.rows("key_codes") if row["variable"] == "frame_gender"}

    assert codes["support_work", "0"]["response"] == "yes_definitely"
    assert codes["support_work", "2"]["response"] == "no_would_have_liked"
    assert codes["support_work", "3"]["treatment"] == "not_applicable"
    assert [codes["overall_experience", score]["response"] for score in SCORES] == SCORES
    assert {"1": "female", "2": "male"}.items() <= genders.items()
    assert "there code 1" in planted.draft("response_map", "support_work, code 0")["evidence"]
    sent_past = {(row["question_id"], row["filter_question_id"], row["filter_code"]) for row in planted.rows("routing")}
    assert ("contact_care_coordinator", "in_charge_type", "6") in sent_past


def test_what_nothing_speaks_for_is_not_drafted(planted: Planted) -> None:
    codes = {(row["question_id"], row["code"]) for row in planted.rows("response_map")}
    columns = {row["raw_column"] for seed in ("question_map", "ignored_columns") for row in planted.rows(seed)}

    assert ("contact_care_coordinator", "4") not in codes  # An option that is new.
    assert "I would rather not say" in next(
        row["note"] for row in planted.rows("comparability") if row["question_id"] == "contact_care_coordinator"
    )
    assert "q6" not in columns  # A question that is new, though its answers are those of another.
    assert "q6" in planted.ran.output


def test_a_missing_code_without_a_label_is_treated_as_before_and_uncertain(planted: Planted) -> None:
    draft = planted.draft("response_map", "overall_experience, code 999")

    assert draft["certainty"] == "uncertain"
    assert draft["evidence"] == "no value label; the code as in 2014"


def test_what_respondents_wrote_is_nowhere(planted: Planted) -> None:
    written = b"".join(contents(planted.survey.seeds_dir).values()).decode()

    assert [row["raw_column"] for row in planted.rows("ignored_columns")] == ["note"]
    assert WORDS not in written and WORDS not in planted.ran.output


def test_a_second_draft_is_refused_and_loses_nothing(planted: Planted, tmp_path: Path) -> None:
    reviewed = planted.survey.seeds_dir / "drafts.csv"
    shutil.copytree(planted.survey.seeds_dir, tmp_path / "seeds")
    survey = replace(planted.survey, seeds_dir=tmp_path / "seeds")
    before = contents(survey.seeds_dir)

    again = run(survey, "init", "2015")
    earlier = run(survey, "init", "2014")

    assert again.exit_code == earlier.exit_code == 1
    assert "The crosswalk has rows of wave 2015 already; nothing was drafted." in again.output
    assert f"drafts.csv has {len(read_rows(reviewed))} rows of it." in again.output
    assert "question_map.csv has 5 rows of it." in earlier.output
    assert contents(survey.seeds_dir) == before
    # One row that a person wrote is work enough to be kept.
    for path in survey.seeds_dir.glob("*.csv"):
        shutil.copy(FIXTURES / "hand_worked" / "seeds" / path.name, path)
    with (survey.seeds_dir / "ignored_columns.csv").open("a", encoding="utf-8") as file:
        file.write("2015,responses,note,free text\n")
    before = contents(survey.seeds_dir)
    assert "ignored_columns.csv has 1 rows of it." in run(survey, "init", "2015").output
    assert contents(survey.seeds_dir) == before


def test_a_draft_that_cannot_be_written_whole_is_not_written(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = shutil.copytree(FIXTURES / "hand_worked" / "seeds", tmp_path / "seeds")
    survey = replace(planted.survey, seeds_dir=seeds)
    before, real, switched = contents(seeds), Path.replace, []

    def fail_at_the_fourth(self: Path, target: Path) -> Path:
        switched.append(target)
        if len(switched) == 4:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_fourth)
    ran = run(survey, "init", "2015")

    assert ran.exit_code == 1 and "No space left on device" in ran.output
    assert len(switched) == 4
    assert contents(seeds) == before


def test_a_wave_is_drafted_after_the_last_one_only(planted: Planted, tmp_path: Path) -> None:
    seeds = shutil.copytree(FIXTURES / "hand_worked" / "seeds", tmp_path / "seeds")
    survey = replace(planted.survey, seeds_dir=seeds)
    without_wave(seeds, "2013")
    nothing_before = contents(seeds)

    first = run(survey, "init", "2013")
    unregistered = run(survey, "init", "2016")

    assert "only one after the last wave of the crosswalk can, and it describes none" in first.output
    assert "No file of wave 2016 is registered; registered are 2013, 2014, 2015." in unregistered.output
    assert contents(seeds) == nothing_before


def test_a_wave_that_was_drafted_and_reviewed_is_published(small: Warehouse) -> None:
    rows = pd.read_csv(FIXTURES / "hand_worked" / "rows_2014.csv", dtype=str, keep_default_na=False)
    moved = {"q1": "q11", "q2": "q12", "q3": "q13", "q4": "q14", "q5": "q15", "qsex": "q16", "qage": "q17"}
    # One person fewer, or the file would be that of 2014.
    deliver(
        small, rows.iloc[:-1].rename(columns=moved), renamed(make_raw.LABELS, moved), renamed(make_raw.VALUES, moved)
    )
    assert run(small, "init", "2015").exit_code == 0
    drafts = read_rows(small.seeds_dir / "drafts.csv")
    with (small.seeds_dir / "drafts.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(drafts[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"reviewer": "A. Reviewer", "reviewed_on": "2016-01-31"} for row in drafts)

    small.refresh()

    asked = small.published("select survey_year, question_id, raw_column from marts.question_wording order by all")
    columns = {
        wave: dict(zip(of["question_id"], of["raw_column"], strict=True)) for wave, of in asked.groupby("survey_year")
    }
    assert columns[2015] == {question: moved[column] for question, column in columns[2014].items()}
    changes = small.published(
        "select question_id, comparable from marts.changes where from_year = 2014 and to_year = 2015 "
        "and geography_level = 'england'"
    )
    assert set(changes["question_id"]) == set(columns[2014])
    assert changes["comparable"].all()


def test_somebodys_answers_in_place_of_a_header_are_not_written_down(small_files: Warehouse) -> None:
    before = contents(small_files.seeds_dir)
    for name, header in {"answers": f"4711,1,2,3,{WORDS}", "unlike": "a1,a2,a3,a4,a5"}.items():
        path = small_files.raw_dir / "2015" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(header + "\n1,1,1,1,no\n", encoding="utf-8")
    registry = (small_files.raw_dir / "registry.csv").read_bytes()

    path = small_files.raw_dir / "2015" / "answers.csv"
    assert run(small_files, "register", "2015", str(path), "--role", "responses", *MADE_UP).exit_code == 0
    ran = run(small_files, "init", "2015")

    assert "Most columns of the responses file of wave 2015 have no letter in their names" in ran.output
    assert WORDS not in ran.output and contents(small_files.seeds_dir) == before
    # Names that are like none of before may be answers, too: only their places are told.
    (small_files.raw_dir / "registry.csv").write_bytes(registry)
    path = small_files.raw_dir / "2015" / "unlike.csv"
    assert run(small_files, "register", "2015", str(path), "--role", "responses", *MADE_UP).exit_code == 0
    ran = run(small_files, "init", "2015")
    assert ran.exit_code == 0 and "number 1, number 2" in ran.output and "a1" not in ran.output


def with_semicolons(text: str) -> str:
    return text.replace(",", ";")


def without_year(text: str) -> str:
    return text.replace("\n2014,", "\n,")


def cut_short(text: str) -> str:
    return text.rstrip("\n") + "\n2015,Hand-worked\n"


def a_wave_twice(text: str) -> str:
    return text.rstrip("\n") + "\n" + text.splitlines()[-1] + "\n"


@pytest.mark.parametrize(
    ("seed", "fault", "said"),
    [
        ("waves", with_semicolons, "waves.csv has the columns survey_year;wave_label"),
        ("question_map", with_semicolons, "question_map.csv has the columns survey_year;question_id"),
        ("drafts", lambda _: "", "drafts.csv has the columns ; expected survey_year, seed"),
        ("waves", without_year, "waves.csv line 3: survey_year is no year"),
        ("key_variables", without_year, ": survey_year is no year"),
        ("waves", cut_short, "waves.csv line 4 has not "),
        ("waves", a_wave_twice, "waves.csv has 2 rows of wave 2014"),
    ],
)
def test_a_seed_that_is_not_the_table_it_should_be_is_refused(
    small_files: Warehouse, seed: str, fault: Callable[[str], str], said: str
) -> None:
    registry = small_files.raw_dir / "registry.csv"
    registry.write_text(registry.read_text(encoding="utf-8").replace("\n2014,2014/", "\n2015,2014/"), encoding="utf-8")
    path = small_files.seeds_dir / f"{seed}.csv"
    path.write_text(fault(path.read_text(encoding="utf-8")), encoding="utf-8")
    before = contents(small_files.seeds_dir)

    ran = run(small_files, "init", "2015")

    assert ran.exit_code == 1
    assert said in ran.output and "Traceback" not in ran.output
    assert contents(small_files.seeds_dir) == before


def test_a_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept" / "genders.csv", tmp_path / "genders.csv"
    kept.parent.mkdir()
    kept.write_bytes(b"old")
    link.symlink_to(kept)

    write({link: b"new"})

    assert link.is_symlink() and kept.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["genders.csv", "genders.csv", "kept"]


def test_a_file_that_was_not_there_is_not_there_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def fail_at_the_second(self: Path, target: Path) -> Path:
        if target.name == "second.csv":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fail_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        write({tmp_path / "first.csv": b"1", tmp_path / "second.csv": b"2"})

    assert list(tmp_path.iterdir()) == []


def test_a_blank_line_in_a_seed_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "genders.csv"
    path.write_text("gender,label\n\na,A\n\nc,C\n\n", encoding="utf-8")

    assert with_rows(path, [{"gender": "b", "label": "B"}]) == b"gender,label\n\na,A\nb,B\n\nc,C\n\n"


@pytest.fixture
def small_files(tmp_path: Path) -> Warehouse:
    """Files and crosswalk of the hand-worked survey, to change; nothing is built."""
    raw, seeds = (shutil.copytree(FIXTURES / "hand_worked" / part, tmp_path / part) for part in ("raw", "seeds"))
    return Warehouse(tmp_path, raw, seeds)


# ---------------------------------------------------------------------------------------- guesses


YES_NO = {"1": "Yes", "2": "No"}


def column(key: str, label: str = "", options: Row | None = None, yes: float = 0.5, name: str = "") -> Column:
    return Column(
        key=key,
        name=name,
        texts=(label,) if label else (),
        options=YES_NO if options is None else options,
        shares={"1": yes, "2": 1 - yes},
        kind="codes",
    )


def test_a_name_that_stays_does_not_outweigh_a_label_that_moved() -> None:
    old = [column("q1", "Were you heard?", name="q1"), column("q2", "Were you helped?", name="q2")]
    new = [column("q1", "Were you helped?", name="q1"), column("q2", "Were you heard?", name="q2")]

    assert {(g.known, g.column, g.certainty) for g in guess(old, new)} == {
        ("q1", "q2", "likely"),
        ("q2", "q1", "likely"),
    }


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("Were you told about the plan?", "Were you not told about the plan?"),
        ("Is it likely that you return?", "Is it unlikely that you return?"),
        ("A typical day of treatment", "An atypical day of treatment"),
        ("Self-perceived mental health", "Self-perceived health"),
        ("Seen in the last 12 months", "Seen in the last 2 months"),
        ("Condition (box 1)", "Condition (box 2)"),
        ("Support with finding work", "Support with keeping work"),
    ],
)
def test_a_label_with_another_meaning_is_never_likely(was: str, now: str) -> None:
    assert [g.certainty for g in guess([column("q1", was, name="q1")], [column("q1", now, name="q1")])] in (
        ["uncertain"],
        [],
    )


def test_two_columns_of_one_label_are_a_tie() -> None:
    found = guess([column("old", "Were you heard?")], [column("a", "Were you heard?"), column("b", "Were you heard?")])

    assert [g.certainty for g in found] == ["uncertain"]
    assert "another column is as much like it" in found[0].evidence


def test_a_label_over_other_answers_is_not_likely() -> None:
    old = column("old", "Overall experience", {"1": "Good", "2": "Poor"})

    assert guess([old], [column("new", "Overall experience", {"1": "0", "2": "1"})]) == []
    [turned] = guess([old], [column("new", "Overall experience", {"1": "Good", "2": "Poor"}, yes=0.99)])
    assert turned.certainty == "likely"  # Answers may well change by half.
    [other] = guess([replace(old, shares={"1": 0.1, "2": 0.9})], [replace(old, key="new", shares={"1": 0.9, "2": 0.1})])
    assert other.certainty == "uncertain"


def test_without_labels_nothing_is_likely_and_what_is_alike_is_left_out() -> None:
    bare = [replace(column(key, yes=yes), options={}) for key, yes in (("a", 0.1), ("b", 0.5), ("c", 0.52))]

    found = guess(bare, [replace(other, key=other.key.upper()) for other in bare])

    assert [(g.known, g.column, g.certainty) for g in found] == [("a", "A", "uncertain")]


# ---------------------------------------------------------------------------------------- real cycles of another survey


@pytest.fixture(scope="module")
def cycles(cchs_files: list[str]) -> list[guesses.Step]:
    return guesses.steps()


def test_no_likely_guess_of_a_real_cycle_is_wrong(cycles: list[guesses.Step]) -> None:
    assert [(step.wave, g) for step in cycles for g, ok in step.judged() if g.certainty == "likely" and not ok] == []


def test_most_of_a_real_cycle_is_guessed_where_it_has_labels(cycles: list[guesses.Step]) -> None:
    likely = {step.wave: step.right("likely") / len(step.truth) for step in cycles}
    both = {step.wave: (step.right("likely") + step.right("uncertain")) / len(step.truth) for step in cycles}

    assert min(share for wave, share in likely.items() if wave in (2005, 2007, 2013, 2015, 2017)) >= 0.9
    assert likely[2009] == 0  # No labels, so that nothing may be likely.
    assert min(share for wave, share in both.items() if wave != 2009) >= 0.9


def test_without_any_label_a_real_cycle_is_guessed_in_part_and_never_likely(cchs_files: list[str]) -> None:
    hidden = guesses.steps(labels=False)
    judged = [(g, ok) for step in hidden for g, ok in step.judged()]

    assert {g.certainty for g, _ in judged} == {"uncertain"}
    assert sum(ok for _, ok in judged) >= 0.3 * sum(len(step.truth) for step in hidden)
    assert sum(ok for _, ok in judged) >= 0.9 * len(judged)


def test_a_wrong_guess_would_be_counted(cycles: list[guesses.Step]) -> None:
    renumbered = next(step for step in cycles if step.wave == 2015)
    swapped = [
        replace(g, column={"gen_020": "gen_025", "gen_025": "gen_020"}.get(g.column, g.column))
        for g in renumbered.guesses
    ]

    assert replace(renumbered, guesses=swapped).wrong("likely") == 2
    stolen = Guess("gen_02", renumbered.truth["gen_01"], "likely", 100, "")
    assert replace(renumbered, guesses=[stolen]).wrong("likely") == 1


def test_a_real_cycle_that_was_renumbered_is_drafted_as_its_crosswalk_was_written(
    cchs_files: list[str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in cchs_files:
        shutil.copy(CCHS_DATA / name, raw / name)
    shutil.copy(guesses.REGISTRY, raw)
    survey = Warehouse(tmp_path, raw, shutil.copytree(guesses.REGISTRY.parent / "seeds", tmp_path / "seeds"))
    experts = without_wave(survey.seeds_dir, "2015")

    ran = run(survey, "init", "2015")

    assert ran.exit_code == 0, ran.output
    for seed, key in {
        "question_map": ("question_id", "raw_column", "wording"),
        "key_variables": ("variable", "raw_column", "measured_as"),
        "key_codes": ("variable", "code", "value"),
    }.items():
        drafted = [row for row in read_rows(survey.seeds_dir / f"{seed}.csv") if row["survey_year"] == "2015"]
        assert {tuple(row[k] for k in key) for row in drafted} == {tuple(r[k] for k in key) for r in experts[seed]}, (
            seed
        )
    by_hand = {(r["question_id"], r["code"]): (r["treatment"], r["response"]) for r in experts["response_map"]}
    codes = [row for row in read_rows(survey.seeds_dir / "response_map.csv") if row["survey_year"] == "2015"]
    assert len(codes) == len(by_hand) - 1  # One "don't know" of a code without a label, which 2013 had not at it.
    assert {(r["question_id"], r["code"]): (r["treatment"], r["response"]) for r in codes}.items() <= by_hand.items()
    [wave] = [row for row in read_rows(survey.seeds_dir / "waves.csv") if row["survey_year"] == "2015"]
    assert wave["wave_label"] == "CCHS 2015-2016"  # 2013-2014 moved on.


# ---------------------------------------------------------------------------------------- registering


@pytest.fixture
def delivered(tmp_path: Path) -> Iterator[Warehouse]:
    """The hand-worked survey before the files of its first wave were registered; of 2014 there is a registry."""
    raw = shutil.copytree(FIXTURES / "hand_worked" / "raw", tmp_path / "raw")
    registry = raw / "registry.csv"
    header, *lines = registry.read_text(encoding="utf-8").splitlines(keepends=True)
    registry.write_text(header + "".join(line for line in lines if line.startswith("2014")), encoding="utf-8")
    yield Warehouse(tmp_path, raw, FIXTURES / "hand_worked" / "seeds")


def test_registering_the_files_of_a_wave_gives_the_rows_that_were_written_by_hand(delivered: Warehouse) -> None:
    files = sorted(str(path) for path in (delivered.raw_dir / "2013").iterdir())

    ran = run(delivered, "register", "2013", *files, *MADE_UP, "--json")

    assert ran.exit_code == 0, ran.output
    by_hand = read_rows(FIXTURES / "hand_worked" / "raw" / "registry.csv")
    rows = read_rows(delivered.raw_dir / "registry.csv")
    # Only the codebook is named otherwise: it has no letter beyond ASCII, so that it is UTF-8 as well.
    by_hand = [
        row | {"encoding": "utf-8"} if row["path"].endswith(("codebook.csv", "sampled.csv")) else row for row in by_hand
    ]
    assert sorted(rows, key=str) == sorted(by_hand, key=str)
    assert [row["wave"] for row in rows] == ["2013", "2013", "2013", "2014"]
    assert [file["role"] for file in json.loads(ran.output)] == ["responses", "codebook", "sampled"]


def refused(survey: Warehouse, *arguments: str) -> str:
    before = contents(survey.raw_dir)
    ran = run(survey, "register", *(() if "--provenance" in arguments else MADE_UP), *arguments)
    assert ran.exit_code == 1, ran.output
    assert contents(survey.raw_dir) == before
    return ran.output


def test_what_cannot_be_registered_is_refused_and_the_registry_stays(delivered: Warehouse, tmp_path: Path) -> None:
    responses, codebook = (
        str(delivered.raw_dir / "2013" / name) for name in ("hand_2013.csv", "hand_2013_codebook.csv")
    )
    outside = tmp_path / "elsewhere.csv"
    outside.write_text("a,b\n1,2\n")
    spss = delivered.raw_dir / "2014" / "hand_2014.sav"

    assert "is registered already, as responses of wave 2014" in refused(delivered, "2014", str(spss))
    assert f"{outside} is not below {delivered.raw_dir}" in refused(delivered, "2013", responses, str(outside))
    assert "none.csv is no file." in refused(delivered, "2013", str(delivered.raw_dir / "none.csv"))
    assert "wave 2013 has no file of role responses" in refused(delivered, "2013", codebook)
    said = refused(delivered, "2014", responses)
    assert "Wave 2014 has a file of role responses already: 2014/hand_2014.sav" in said
    assert "A new edition of a file" in said
    shutil.copy(spss, delivered.raw_dir / "2013" / "copy.sav")
    assert "one is a copy of the other" in refused(delivered, "2013", str(delivered.raw_dir / "2013" / "copy.sav"))
    (delivered.raw_dir / "2013" / "notes.docx").write_bytes(b"x")
    assert "has the suffix 'docx'" in refused(delivered, "2013", str(delivered.raw_dir / "2013" / "notes.docx"))
    assert "the registry mixes" in refused(delivered, "2013", responses, "--provenance", "deposit")


def test_a_file_that_cannot_be_read_is_not_registered(delivered: Warehouse) -> None:
    path = delivered.raw_dir / "2013" / "hand_2013.csv"
    path.write_bytes(path.read_bytes().replace(b"\nT01,", b"\nT01,,,", 1))

    assert "cells; the header has" in refused(delivered, "2013", str(path))
    path = delivered.raw_dir / "2013" / "unclosed.csv"
    path.write_text('a,"b,c\n' + "1,2,3\n" * 30_000, encoding="utf-8")
    assert "The header of unclosed.csv cannot be read: " in refused(delivered, "2013", str(path))


def test_the_first_files_of_all_need_licence_and_provenance(delivered: Warehouse) -> None:
    registry = delivered.raw_dir / "registry.csv"
    registry.unlink()
    spss = str(delivered.raw_dir / "2014" / "hand_2014.sav")

    assert "Say which with --licence" in refused(delivered, "2014", spss)
    ran = run(delivered, "register", "2014", spss, "--licence", "MIT (made up)", *MADE_UP)

    assert ran.exit_code == 0, ran.output
    text = io.StringIO(registry.read_text(encoding="utf-8"))
    assert [row["path"] for row in csv.DictReader(text)] == ["2014/hand_2014.sav"]


def test_no_file_is_taken_for_made_up_because_the_others_are(delivered: Warehouse) -> None:
    registry = delivered.raw_dir / "registry.csv"
    before = contents(delivered.raw_dir)
    files = [str(path) for path in (delivered.raw_dir / "2013").iterdir()]

    silent = run(delivered, "register", "2013", *files)

    assert silent.exit_code == 1
    assert "The provenance of the new files is not known: the registered files are synthetic" in silent.output
    assert "say --provenance synthetic" in silent.output and "docs/operations.md, Real deposits" in silent.output
    assert contents(delivered.raw_dir) == before
    # Files beside deposits are deposits, under the same licence. Made up, as everything here.
    deposit = registry.read_text(encoding="utf-8").replace(",synthetic", ",deposit")
    registry.write_text(deposit, encoding="utf-8")
    ran = run(delivered, "register", "2013", *files)
    assert ran.exit_code == 0, ran.output
    rows = read_rows(registry)
    assert [row["provenance"] for row in rows] == ["deposit"] * 4
    assert ran.output.count(f"deposit, licence {rows[-1]['licence']}") == 3


def test_a_registry_that_a_spreadsheet_saved_keeps_its_line_ends(delivered: Warehouse) -> None:
    registry = delivered.raw_dir / "registry.csv"
    saved = b"\xef\xbb\xbf" + registry.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    registry.write_bytes(saved)

    ran = run(delivered, "register", "2013", *MADE_UP, *(str(path) for path in (delivered.raw_dir / "2013").iterdir()))

    assert ran.exit_code == 0, ran.output
    header, *lines = registry.read_bytes().split(b"\r\n")
    assert header == saved.split(b"\r\n")[0]
    assert [line[:4] for line in lines] == [b"2013", b"2013", b"2013", b"2014", b""]
    assert saved.split(b"\r\n")[1] in lines
