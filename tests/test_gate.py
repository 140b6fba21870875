"""Publishing asks for a recorded pass of every check, of this very build: whatever is missing, it refuses."""

import html
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import Warehouse, publish

import expectations
from orchestration import release
from orchestration.build import build_definitions
from orchestration.errors import Refusal
from orchestration.gate import PUBLISHED_TABLES, WITHOUT_SUITE
from orchestration.settings import ROOT
from orchestration.warehouse import connect

CHECK = "test.cmhs.weights_sum_to_respondents"
EXPECTATION = "expectation.estimates.expect_column_values_to_be_between.pct_of_question"
UNIT_TESTS = "check_id like 'unit_test.%'"


def change(warehouse: Warehouse, *statements: str) -> None:
    """Something done to the warehouse behind the gate's back; it must have an effect."""
    with connect(warehouse.settings.warehouse) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
            assert not statement.startswith(("update", "delete")) or rows[0][0] > 0


@contextmanager
def manifest_of(warehouse: Warehouse) -> Iterator[dict[str, Any]]:
    """dbt's manifest, written back as changed."""
    path = warehouse.settings.dbt_target_dir / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    yield manifest
    path.write_text(json.dumps(manifest), encoding="utf-8")


def id_of_check(warehouse: Warehouse) -> str:
    """The id under which dbt runs the check that some of these faults are planted in."""
    with manifest_of(warehouse) as manifest:
        [unique_id] = [i for i in manifest["nodes"] if i == CHECK or i.startswith(f"{CHECK}.")]
    return str(unique_id)


def refusal_of(warehouse: Warehouse) -> Refusal:
    """How publishing is refused; nothing published may have changed."""
    before = warehouse.published_bytes()
    assert before["current"]

    with pytest.raises(Refusal) as refused:
        publish(warehouse)

    assert warehouse.published_bytes() == before
    assert not list(warehouse.settings.published_dir.rglob(".building-*"))
    return refused.value


def test_a_build_with_all_its_evidence_passes(small: Warehouse) -> None:
    before = small.published_bytes()

    assert publish(small) == release.current(small.settings)

    assert small.published_bytes() == before


def test_every_check_that_dbt_and_the_suites_declare_has_its_pass_recorded(hand_worked: Warehouse) -> None:
    with manifest_of(hand_worked) as manifest:
        declared = {i for i, node in manifest["nodes"].items() if node["resource_type"] == "test"}
        declared |= set(manifest["unit_tests"])
    suites = expectations.suite_names()
    declared |= {check_id for name in suites for check_id in expectations.check_ids(name)}

    recorded = hand_worked.query(
        "select check_id, status from gate.evidence where build_id = (select max(build_id) from gate.builds)"
    )

    assert set(suites) == set(PUBLISHED_TABLES) - set(WITHOUT_SUITE)
    assert set(recorded["check_id"]) == declared
    assert set(recorded["status"]) == {"pass"}


def drop_check(warehouse: Warehouse) -> None:
    change(warehouse, f"delete from gate.evidence where check_id = '{id_of_check(warehouse)}'")


def drop_unit_tests(warehouse: Warehouse) -> None:
    change(warehouse, f"delete from gate.evidence where {UNIT_TESTS}")


def drop_expectation(warehouse: Warehouse) -> None:
    change(warehouse, f"delete from gate.evidence where check_id = '{EXPECTATION}'")


def end_check_as(status: str) -> Callable[[Warehouse], None]:
    def plant(warehouse: Warehouse) -> None:
        change(
            warehouse,
            f"update gate.evidence set status = '{status}', failures = 3 where check_id = '{id_of_check(warehouse)}'",
        )

    return plant


def end_expectation_as(status: str) -> Callable[[Warehouse], None]:
    return lambda warehouse: change(
        warehouse, f"update gate.evidence set status = '{status}', failures = 3 where check_id = '{EXPECTATION}'"
    )


def only_of_an_older_build(warehouse: Warehouse) -> None:
    change(warehouse, f"update gate.evidence set build_id = 'older' where check_id = '{EXPECTATION}'")


def a_later_failure_of(check_id: str) -> Callable[[Warehouse], None]:
    return lambda warehouse: change(
        warehouse,
        "insert into gate.evidence select * replace ('fail' as status, 2 as failures, "
        f"recorded_at + interval 1 second as recorded_at) from gate.evidence where check_id = '{check_id}'",
    )


def downgrade(warehouse: Warehouse) -> None:
    with manifest_of(warehouse) as manifest:
        manifest["nodes"][id_of_check(warehouse)]["config"]["severity"] = "WARN"


def disable(warehouse: Warehouse) -> None:
    with manifest_of(warehouse) as manifest:
        unique_id = id_of_check(warehouse)
        node = manifest["nodes"].pop(unique_id)
        manifest["disabled"][unique_id] = [node]


def name_two_alike(warehouse: Warehouse) -> None:
    with manifest_of(warehouse) as manifest:
        unique_id = id_of_check(warehouse)
        manifest["nodes"][f"{unique_id}.again"] = manifest["nodes"][unique_id]


def alter_a_row(warehouse: Warehouse) -> None:
    change(warehouse, "update marts.estimates set pct = pct + 1e-9 where survey_year = 2013 and response = '8'")


def alter_the_dictionary(warehouse: Warehouse) -> None:
    change(warehouse, "update marts.column_dictionary set description = 'x' where position = 1")


def drop_a_table(warehouse: Warehouse) -> None:
    change(warehouse, "drop table marts.weight_cells")


def land_another_file(warehouse: Warehouse) -> None:
    change(warehouse, "update raw.files set sha256 = repeat('0', 64) where survey_year = 2014")


def change_the_crosswalk(warehouse: Warehouse) -> None:
    path = warehouse.seeds_dir / "waves.csv"
    path.write_text(path.read_text().replace("Hand-worked wave 2013", "Wave 2013"))


def begin_another_build(warehouse: Warehouse) -> None:
    change(
        warehouse,
        "insert into gate.builds select * replace ('newer' as build_id, built_at + interval 1 hour as built_at) "
        "from gate.builds",
    )


NAME = CHECK.split(".")[2]
FAULTS: dict[str, tuple[Callable[[Warehouse], None], list[str]]] = {
    "a check was left out of the build": (
        drop_check,
        [f"dbt check {NAME} has no recorded result in this build."],
    ),
    "the unit tests were left out": (drop_unit_tests, ["has no recorded result in this build."]),
    "an expectation was not run": (
        drop_expectation,
        [f"Expectation {EXPECTATION} has no recorded result in this build."],
    ),
    "a check only warned": (end_check_as("warn"), [f"dbt check {NAME} ended as warn (3 found)"]),
    "a check failed": (end_check_as("fail"), [f"dbt check {NAME} ended as fail (3 found)"]),
    "a check was skipped": (end_check_as("skipped"), [f"dbt check {NAME} ended as skipped"]),
    "an expectation failed": (
        end_expectation_as("fail"),
        [f"Expectation {EXPECTATION} ended as fail (3 found)."],
    ),
    "an expectation is broken": (end_expectation_as("error"), [f"Expectation {EXPECTATION} ended as error"]),
    "a check failed after it had passed": (
        a_later_failure_of(EXPECTATION),
        [f"Expectation {EXPECTATION} ended as fail (2 found)."],
    ),
    "an expectation passed only in an older build": (
        only_of_an_older_build,
        [f"Expectation {EXPECTATION} has no recorded result in this build."],
    ),
    "a check was downgraded": (downgrade, [f"dbt test {NAME} was downgraded to a warning."]),
    "a check was disabled": (disable, [f"dbt test {NAME} is disabled."]),
    "one check could hide another": (name_two_alike, [f"Two dbt tests are named {NAME}"]),
    "a mart was altered after the checks": (
        alter_a_row,
        [
            "marts.estimates is not as the build left it.",
            f"Expectation {EXPECTATION} passed, but marts.estimates changed since.",
        ],
    ),
    "a table without suite was altered": (
        alter_the_dictionary,
        ["marts.column_dictionary is not as the build left it."],
    ),
    "a table is missing": (drop_a_table, ["marts.weight_cells was not made by this build."]),
    "another file was landed since": (land_another_file, ["The landed files are not the registered ones"]),
    "the crosswalk changed since": (change_the_crosswalk, ["changed since this build: refresh again."]),
    "the checks are of an older build": (
        begin_another_build,
        [
            "marts.overall_experience was not made by this build.",
            f"dbt check {NAME} has no recorded result in this build.",
            f"Expectation {EXPECTATION} has no recorded result in this build.",
        ],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_publishing_is_refused_where(small: Warehouse, fault: str) -> None:
    plant, words = FAULTS[fault]
    plant(small)

    said = str(refusal_of(small))

    assert "may not be published" in said
    assert [word for word in words if word not in said] == []


def test_everything_that_is_missing_is_listed_at_once(small: Warehouse) -> None:
    together = (drop_expectation, downgrade, drop_unit_tests, alter_the_dictionary, land_another_file)
    for plant in together:
        plant(small)

    problems = refusal_of(small).problems

    assert len(problems) == len(set(problems))
    for plant in together:
        for words in next(words for planted, words in FAULTS.values() if planted is plant):
            assert any(words in problem for problem in problems)


def test_a_mart_whose_suite_is_gone_is_not_published(
    small: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(expectations.FOLDER, tmp_path / "expectations")
    (folder / "response_rates.json").unlink()
    monkeypatch.setattr(expectations, "FOLDER", folder)

    assert "Table response_rates has no suite of expectations." in refusal_of(small).problems


def test_an_expectation_added_since_the_build_needs_its_own_pass(
    small: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(expectations.FOLDER, tmp_path / "expectations")
    suite = json.loads((folder / "response_rates.json").read_text(encoding="utf-8"))
    suite["expectations"].append(
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "survey_year"}, "meta": {"notes": "new"}}
    )
    (folder / "response_rates.json").write_text(json.dumps(suite), encoding="utf-8")
    monkeypatch.setattr(expectations, "FOLDER", folder)

    assert refusal_of(small).problems == [
        "Expectation expectation.response_rates.expect_column_values_to_be_unique.survey_year has no recorded "
        "result in this build."
    ]


def test_a_warehouse_without_a_build_publishes_nothing(small: Warehouse) -> None:
    change(small, "drop schema gate cascade")

    assert "holds no build" in str(refusal_of(small))


def test_a_build_whose_list_of_checks_is_lost_is_not_published(small: Warehouse) -> None:
    (small.settings.dbt_target_dir / "manifest.json").unlink()

    assert "manifest" in str(refusal_of(small))


# ---------------------------------------------------------------------------------------- through Dagster


def materialize_release_alone(warehouse: Warehouse) -> dg.ExecuteInProcessResult:
    with warehouse.active() as settings, dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(settings).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            asset_selection=[dg.AssetKey(["published", "release"])], raise_on_error=False, instance=instance
        )


def test_dagster_may_materialize_the_release_alone_where_the_evidence_is_there(small: Warehouse) -> None:
    before = small.published_bytes()

    result = materialize_release_alone(small)

    assert result.success
    assert len(result.asset_materializations_for_node("published__release")) == 1
    assert small.published_bytes() == before


def test_dagster_cannot_get_past_the_gate_by_materializing_the_release_alone(small: Warehouse) -> None:
    before = small.published_bytes()
    drop_check(small)

    result = materialize_release_alone(small)

    assert not result.success
    assert result.asset_materializations_for_node("published__release") == []
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert f"dbt check {NAME} has no recorded result in this build." in str(failure.step_failure_data.error)
    assert small.published_bytes() == before


def test_a_list_of_checks_that_another_run_of_dbt_left_is_no_evidence(small: Warehouse) -> None:
    path = small.settings.dbt_target_dir / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metadata"]["invocation_id"] = "another run"
    path.write_text(json.dumps(manifest))

    assert "manifest is not the one of this build" in str(refusal_of(small))


def test_what_an_expectation_found_is_shown_as_text_and_nothing_else() -> None:
    where = "label <script>alert('x')</script> | [a](javascript:alert(1)) `b` *c*\nand \\ more"
    found = expectations.Outcome("estimates", "an id", "a share <= 100 | more", "fail", 3, 1, where)

    *_, row = expectations.as_markdown([found]).splitlines()

    assert row.count("|") == 5
    assert not set("<>[]`*\\") & set(row)
    assert html.unescape(row.split(" | ")[3]).removesuffix(" |") == " ".join(where.split())


def test_an_expectation_that_found_nothing_shows_a_dash() -> None:
    found = expectations.Outcome("estimates", "an id", "a share", "pass", 3, 0, "")

    assert expectations.as_markdown([found]).splitlines()[-1] == "| a share | pass | 0 of 3 rows | - |"


def test_an_installed_spark_is_not_imported_with_the_expectations(tmp_path: Path) -> None:
    sql = tmp_path / "pyspark" / "sql"
    sql.mkdir(parents=True)
    (tmp_path / "pyspark" / "__init__.py").write_text("from pyspark.sql import DataFrame\n")
    # What Spark's own does in a program that is no file.
    (sql / "__init__.py").write_text("import sys\nsys.exit(0)\n")
    program = "from expectations import great_expectations; print(great_expectations().__name__)"

    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert (ran.returncode, ran.stdout) == (0, "great_expectations\n")
