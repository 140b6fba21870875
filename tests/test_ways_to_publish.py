"""However a release is started, the gate stands before it: command, button, backfill, job, sensor, left-out checks."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import LOOPBACK, UserInterface, Warehouse, run_command, serving
from dagster_dbt import DbtCliResource

from orchestration.build import build_definitions
from orchestration.errors import Refusal
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.warehouse import connect

RELEASE = dg.AssetKey(["published", "release"])
CHECK = "weights_sum_to_respondents"
MISSING = f"dbt check {CHECK} has no recorded result in this build."


@pytest.fixture
def unchecked(small: Warehouse) -> Warehouse:
    """A published survey of whose last build one check has left no result."""
    with connect(small.settings.warehouse) as connection:
        gone = connection.execute(f"delete from gate.evidence where check_id like 'test.cmhs.{CHECK}%'").fetchall()
    assert gone == [(1,)]
    return small


# ---------------------------------------------------------------------------------------- from the UI


LAUNCH = """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
BACKFILL = """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
HOW_IT_ENDED = """{
    runsOrError { ... on Runs { results { runId status tags { key value } } } }
    partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } } }"""
ENDED = {"SUCCESS", "FAILURE", "CANCELED", "COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED"}
ASSET = {"path": RELEASE.path}


def press_materialize(ui: UserInterface) -> str:
    """The button on the one asset: the id of the run it starts."""
    selector = {
        "repositoryLocationName": "cmhs",
        "repositoryName": "__repository__",
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [ASSET],
        "assetCheckSelection": [],
    }
    answer = ui.ask(LAUNCH, params={"selector": selector, "mode": "default", "runConfigData": "{}"})
    return str(answer["data"]["launchPipelineExecution"]["run"]["runId"])


def backfill(ui: UserInterface, **what: Any) -> str:
    """A backfill of what is asked for; its id. Dagster takes an asset without partitions for one of one part."""
    return str(ui.ask(BACKFILL, params=what)["data"]["launchPartitionBackfill"]["backfillId"])


def test_neither_the_button_nor_a_backfill_publishes_what_was_not_checked(unchecked: Warehouse) -> None:
    before = unchecked.published_bytes()
    with serving(unchecked) as ui:
        assert ui.addresses() == {LOOPBACK}
        run = press_materialize(ui)
        backfills = {backfill(ui, assetSelection=[ASSET], allPartitions=True)}
        backfills.add(backfill(ui, partitionsByAssets=[{"assetKey": ASSET}]))
        deadline = time.monotonic() + 300
        while True:
            ended = ui.ask(HOW_IT_ENDED)["data"]
            runs = ended["runsOrError"]["results"]
            filled = ended["partitionBackfillsOrError"]["results"]
            if {record["status"] for record in [*runs, *filled]} <= ENDED:
                break
            assert time.monotonic() < deadline, ended
            time.sleep(1)

    assert {record["id"]: record["status"] for record in filled} == dict.fromkeys(backfills, "COMPLETED_FAILED")
    started = {r["runId"]: {tag["value"] for tag in r["tags"] if tag["key"] == "dagster/backfill"} for r in runs[:3]}
    assert set().union(*started.values()) == backfills
    assert run in started
    with unchecked.active(), dg.DagsterInstance.get() as instance:
        for run_id in started:
            [failure] = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
            assert failure.dagster_event is not None
            assert MISSING in str(failure.dagster_event.step_failure_data.error)
    assert unchecked.published_bytes() == before


# ---------------------------------------------------------------------------------------- from Dagster's definitions


def with_jobs(settings: Settings) -> dg.Definitions:
    """The warehouse's own definitions with what somebody might add: a job without checks, and a sensor."""
    unchecked = dg.AssetSelection.all() - dg.AssetSelection.all_asset_checks()

    @dg.sensor(name="impatient", target=dg.AssetSelection.assets(RELEASE))
    def impatient(context: dg.SensorEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(asset_selection=[RELEASE])

    return dg.Definitions.merge(
        build_definitions(settings),
        dg.Definitions(jobs=[dg.define_asset_job("without_checks", selection=unchecked)], sensors=[impatient]),
    )


def refusal_in(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert failure.step_key == "published__release"
    return str(failure.step_failure_data.error)


def test_a_job_without_checks_builds_everything_and_publishes_nothing(small: Warehouse) -> None:
    before = small.published_bytes()
    with small.active() as settings, dg.DagsterInstance.ephemeral() as instance:
        job = with_jobs(settings).resolve_job_def("without_checks")
        assert job.asset_layer.asset_graph.asset_check_keys == set()

        result = job.execute_in_process(raise_on_error=False, instance=instance)

        assert result.asset_materializations_for_node("dbt_build")
        said = refusal_in(result)
    assert MISSING in said
    assert "Expectation expectation.estimates.expect_column_values_to_be_between.pct_of_question has no" in said
    assert small.published_bytes() == before


def test_the_request_of_a_sensor_publishes_nothing_that_was_not_checked(unchecked: Warehouse) -> None:
    before = unchecked.published_bytes()
    with unchecked.active() as settings, dg.DagsterInstance.ephemeral() as instance:
        definitions = with_jobs(settings)
        context = dg.build_sensor_context(instance=instance, definitions=definitions)
        [request] = definitions.resolve_sensor_def("impatient").evaluate_tick(context).run_requests or []

        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=request.asset_selection, tags=request.tags, raise_on_error=False, instance=instance
        )

        assert MISSING in refusal_in(result)
    assert unchecked.published_bytes() == before


# ---------------------------------------------------------------------------------------- from the command line


def with_options(*options: str) -> Callable[..., Any]:
    """dbt's command line with more options than the project gives it."""
    cli = DbtCliResource.cli
    return lambda self, args, **more: cli(self, [*args, *options], **more)


def test_a_refresh_lists_all_checks_that_were_weakened_or_left_out(
    small: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They all pass, as far as they run: nothing but the gate could keep them from being published."""
    before = small.published_bytes()
    project = shutil.copytree(DBT_PROJECT_DIR, tmp_path / "project")
    downgraded, disabled = CHECK, "trusts_weigh_the_same"
    for name, setting in ((downgraded, "severity='warn'"), (disabled, "enabled=false")):
        check = project / "tests" / f"{name}.sql"
        check.write_text("{{ config(" + setting + ") }}\n" + check.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr("orchestration.settings.DBT_PROJECT_DIR", project)
    monkeypatch.setattr(DbtCliResource, "cli", with_options("--exclude-resource-type", "unit_test"))

    with pytest.raises(Refusal) as refused:
        small.refresh()

    for words in (
        "may not be published",
        f"dbt test {downgraded} was downgraded to a warning.",
        f"dbt test {disabled} is disabled.",
        "has no recorded result in this build.",
    ):
        assert words in str(refused.value)
    assert small.published_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        # Dagster hears of no table, skips the release, and would call that a success.
        (["--quiet"], "dbt did not report all that it was to build"),
        (["--no-write-json"], "dbt left no results of its build"),
    ],
)
def test_a_run_in_which_nothing_was_published_is_refused_and_quotes_nobody(
    small: Warehouse, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    before = small.published_bytes()
    monkeypatch.setattr(DbtCliResource, "cli", with_options(*options))

    with pytest.raises(Refusal) as refused:
        small.refresh(force=True)

    assert words in str(refused.value)
    assert "Running with dbt" not in str(refused.value)
    assert small.published_bytes() == before


def test_dbt_takes_no_option_from_the_environment(small: Warehouse) -> None:
    """Some leave checks out, some keep Dagster from hearing of tables, some write answers into a log."""
    before = small.settings.current_release.readlink()
    ran = run_command(
        small,
        *("refresh", "--force"),
        DBT_QUIET="true",
        DBT_WRITE_JSON="false",
        DBT_EXCLUDE_RESOURCE_TYPES="unit_test",
        DBT_ENGINE_LOG_LEVEL_FILE="debug",
    )

    assert ran.returncode == 0, ran.stderr
    assert small.settings.current_release.readlink() != before
    assert not list(small.folder.rglob("dbt.log"))


def test_two_tests_of_one_name_are_not_enough(small: Warehouse, tmp_path: Path) -> None:
    """They all pass, but Dagster would show one of them alone."""
    before = small.published_bytes()
    project = shutil.copytree(DBT_PROJECT_DIR, tmp_path / "project")
    described = project / "models" / "crosswalk" / "crosswalk.yml"
    before_first, *between, after_last = described.read_text(encoding="utf-8").split("[not_null]")
    middle = "[not_null]".join(between)
    described.write_text("[not_null: {name: one_name}]".join([before_first, middle, after_last]), encoding="utf-8")

    ran = run_command(small, "refresh", project=project)

    assert ran.returncode == 1
    assert "Two dbt tests are named one_name; one would hide the other." in ran.stderr
    assert small.published_bytes() == before
