"""`cmhs explain`: what it says of a number is what the marts say, from the release alone; it can do nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Warehouse, folder_of, run_command

from orchestration.errors import Refusal
from orchestration.explain import explain, in_words
from orchestration.report.lineage import FOLDER
from orchestration.settings import ROOT

CONTACT = ("contact_care_coordinator.pct", ["survey_year = 2014"])


@pytest.fixture(scope="module")
def release(hand_worked: Warehouse) -> Path:
    return folder_of(hand_worked)


def told(release: Path, number: str, *conditions: str) -> dict[str, Any]:
    return explain(release, number, conditions)


def test_the_numbers_are_those_of_the_marts(hand_worked: Warehouse, release: Path) -> None:
    found = explain(release, *CONTACT)

    mart = hand_worked.published("select * from marts.contact_care_coordinator where survey_year = 2014").iloc[0]
    assert found["value"] == mart["pct"]
    assert found["unit"] == "percent"
    assert found["precision"] == {key: mart[key] for key in ("se", "ci_low", "ci_high", "base")}
    assert found["row"] == {"survey_year": 2014}
    [wave] = found["waves"]
    statuses = hand_worked.published(
        "select status, n from marts.exclusions where survey_year = 2014 and question_id = 'contact_care_coordinator'"
    )
    assert {s["status"]: s["n"] for s in wave["statuses"]} == dict(statuses.itertuples(index=False))
    [answered] = [s["n"] for s in wave["statuses"] if s["status"] == "answered"]
    assert answered == found["precision"]["base"]
    assert all(s["meaning"] for s in wave["statuses"])
    weights = hand_worked.published("select * from marts.weight_cells where survey_year = 2014")
    shown = weights[weights["weight"].notna()]
    assert wave["weights"]["scheme"] == "trust_population"
    assert (wave["weights"]["smallest"], wave["weights"]["largest"]) == (shown["weight"].min(), shown["weight"].max())
    assert wave["weights"]["mean"] == pytest.approx(
        (shown["weight"] * shown["responded"]).sum() / shown["responded"].sum()
    )
    assert wave["weights"]["cells"] + wave["weights"]["hidden_cells"] == len(weights)
    effect = hand_worked.published(
        "select design_effect from marts.weighting_effect where survey_year = 2014 and is_published_scheme "
        "and question_id = 'contact_care_coordinator' and response = 'no'"
    )
    assert wave["weights"]["design_effect"] == effect["design_effect"][0]
    files = hand_worked.published(
        "select path, sha256, edition, licence from marts.source_files where survey_year = 2014"
    )
    assert [(f["path"], f["sha256"], f["edition"], f["licence"]) for f in wave["files"]] == [
        *files.itertuples(index=False, name=None)
    ]
    assert wave["wording"][0]["wording"] == "Have you been told how to reach this person?"
    assert wave["raw_columns"]["staging.stg_responses.answer_contact_care_coordinator"] == ["q3"]
    assert wave["raw_columns"]["staging.stg_responses.past_contact_care_coordinator"] == ["q1", "q2"]
    path = [step["table"] for step in found["lineage"]]
    assert path[0] == "marts.contact_care_coordinator"
    assert path.index("marts.estimates") < path.index("intermediate.int_cube") < path.index("staging.stg_responses")


def test_every_number_of_the_marts_is_told_as_it_is(hand_worked: Warehouse, release: Path) -> None:
    rows = hand_worked.published(
        "select * from marts.estimates where survey_year = 2013 and question_id = 'support_work'"
    )
    assert rows["suppressed"].any() and not rows["suppressed"].all()
    for row in rows.to_dict("records"):
        key = ("geography_code", "breakdown", "category", "response")
        found = told(
            release,
            "estimates.pct",
            "survey_year = 2013 and question_id = 'support_work'",
            *(f"{column} = '{row[column]}'" for column in key),
        )
        words = in_words(found)
        assert found["suppressed"] == row["suppressed"]
        if row["suppressed"]:
            assert found["value"] is None
            assert f"hidden: {row['suppression_reason']}" in words
        else:
            assert found["value"] == row["pct"]
            assert f"value  {row['pct']:,.4g} percent" in words


def test_a_change_is_told_of_both_its_waves(release: Path) -> None:
    found = told(
        release,
        "changes.change",
        "question_id = overall_experience and response = 10 and geography_level = england",
    )

    assert [wave["survey_year"] for wave in found["waves"]] == [2013, 2014]
    assert [wave["wording"][0]["raw_column"] for wave in found["waves"]] == ["Q5", "q5"]


@pytest.mark.parametrize(
    ("number", "conditions", "words"),
    [
        ("nowhere.pct", [], "There is no table nowhere.\n  - There are: changes, column_dictionary, contact_care"),
        ("estimates", [], "estimates has no column ''.\n  - It has: survey_year, geography_level"),
        ("estimates.nothing", [], "estimates has no column 'nothing'.\n  - It has: survey_year"),
        ("marts.contact_care_coordinator.pct", [], "2 rows of contact_care_coordinator are so; one is needed.\n"
         "  - Narrow it down by survey_year: 2013, 2014."),
        ("estimates.pct", ["survey_year = 2013", "breakdown = 'gender'"], "rows of estimates are so; one is needed.\n"
         "  - Narrow it down by category: female, male"),
        ("contact_care_coordinator.pct", ["survey_year = 2011"], "No row of contact_care_coordinator is so.\n"
         "  - The table has survey_year: 2013, 2014."),
        ("contact_care_coordinator.pct", ["year = 2013"], "contact_care_coordinator has no column 'year'.\n"
         "  - It has: survey_year,"),
        ("contact_care_coordinator.pct", ["survey_year ="], "'survey_year =' is no condition.\n  - Expected"),
        ("contact_care_coordinator.pct", ["survey_year = 'x'"], "The condition cannot be used on contact_care"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_what_there_is(release: Path, number: str, conditions: list[str], words: str) -> None:
    with pytest.raises(Refusal) as refused:
        explain(release, number, conditions)

    assert words in str(refused.value)


@pytest.mark.parametrize(
    "condition",
    [
        "survey_year = 2014; drop table marts.estimates",
        "survey_year = 2014) union select 1 from (select 1",
        "survey_year = 2014 or exists (select 1 from read_csv('{secret}'))",
        "question_label = (select content from read_text('{secret}'))",
        "read_text('{secret}') = 'x'",
        "survey_year in (select survey_year from '{secret}')",
        "attach '{secret}' as other",
        "copy marts.estimates to '{secret}'",
        "install httpfs",
        "set enable_external_access = true",
        "getenv('HOME') = 'x'",
        "question_label = current_setting('allowed_directories')",
        "survey_year = 2014 -- ' or true\n; select 1",
        "",
    ],
)
def test_a_condition_is_a_comparison_and_can_do_nothing_else(release: Path, tmp_path: Path, condition: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("survey_year\nhidden away\n")
    before = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}

    with pytest.raises(Refusal) as refused:
        told(release, "contact_care_coordinator.pct", condition.format(secret=secret))

    assert "Expected comparisons of columns with constants" in str(refused.value)
    assert "hidden away" not in str(refused.value)
    assert secret.read_text() == "survey_year\nhidden away\n"
    assert {path: path.read_bytes() for path in release.rglob("*") if path.is_file()} == before


def test_a_release_is_enough_to_explain_it(release: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(release, tmp_path / release.name)

    assert explain(alone, *CONTACT) == explain(release, *CONTACT)


def test_a_release_from_before_there_was_lineage_says_so(release: Path, tmp_path: Path) -> None:
    older = shutil.copytree(release, tmp_path / release.name)
    shutil.rmtree(older / FOLDER)

    with pytest.raises(Refusal, match="tells no lineage"):
        explain(older, *CONTACT)


def test_the_command_prints_words_or_json_and_shows_no_traceback(hand_worked: Warehouse, release: Path) -> None:
    said = run_command(hand_worked, "explain", CONTACT[0], "--where", "survey_year=2014")
    assert said.returncode == 0, said.stderr
    expected = explain(release, *CONTACT)
    assert said.stdout == in_words(expected) + "\n"
    assert "THE DATA ARE SYNTHETIC" in said.stdout
    assert str(ROOT) not in said.stdout

    printed = run_command(hand_worked, "explain", CONTACT[0], "--where", "survey_year=2014", "--json")
    assert json.loads(printed.stdout) == json.loads(json.dumps(expected))

    refused = run_command(hand_worked, "explain", "nowhere.pct")
    assert refused.returncode == 1
    assert "REFUSED: There is no table nowhere." in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_example_of_the_audit_page_is_what_the_command_says(six_waves: Warehouse) -> None:
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    [_, *shown, dots] = page.split("```text\n")[1].split("\n```")[0].splitlines()
    assert dots == "  ..."
    assert len(shown) > 50

    said = in_words(explain(folder_of(six_waves), "contact_care_coordinator.pct", ["survey_year=2017"]))

    assert said.splitlines()[1 : len(shown) + 1] == shown
