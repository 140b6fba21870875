"""The deployment of docs/deployment.md: records in PostgreSQL; code server, daemon and webserver as own processes.

The server is a private one that deployment/postgres.sh starts; the survey is the hand-worked one, made up.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import UserInterface, Warehouse, folder_of, run_command

from orchestration.errors import Refusal
from orchestration.lock import writer_lock
from orchestration.records import in_postgresql, open_records, set_aside_damaged_records
from orchestration.release import notes_of
from orchestration.settings import DAGSTER_YAML, ROOT
from tests.torture.survey import review_deliveries

DEPLOYMENT = ROOT / "deployment"
BIN = Path(sys.executable).parent
# As the unit files name them.
CHECKOUT, UI_PORT = "/srv/cmhs/checkout", "3000"
HERE = {"repositoryName": "__repository__", "repositoryLocationName": "cmhs", "jobName": "refresh"}
PASSWORD = "correct-horse"


@dataclass
class Server:
    """A private PostgreSQL in a folder, and the variables by which it is reached."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        ran = subprocess.run(
            [DEPLOYMENT / "postgres.sh", "start", self.folder], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        words = [shlex.split(line)[1] for line in ran.stdout.splitlines()]
        self.environment = dict(word.split("=", 1) for word in words)

    def stop(self) -> None:
        subprocess.run([DEPLOYMENT / "postgres.sh", "stop", self.folder], check=True)

    def run(self, *command: str | Path, **environment: str) -> str:
        """What a client of PostgreSQL prints."""
        ran = subprocess.run(
            command, env=os.environ | self.environment | environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    def ask(self, sql: str, database: str = "cmhs") -> str:
        return self.run("psql", "-qtA", "-c", sql, PGDATABASE=database)


@contextmanager
def server_in(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Deployed(Warehouse):
    """A warehouse whose Dagster keeps its records in PostgreSQL."""

    server: Server = field(default_factory=lambda: Server(Path()))
    database: str = "cmhs"

    @property
    def environment(self) -> dict[str, str]:
        code_server = str(self.server.folder.parent / "code.sock")
        return (
            super().environment
            | self.server.environment
            | {"PGDATABASE": self.database, "CMHS_CODE_SERVER": code_server}
        )

    @classmethod
    def of(cls, warehouse: Warehouse, folder: Path, server: Server, database: str = "cmhs") -> "Deployed":
        """A copy of a warehouse with a DAGSTER_HOME as the documentation has it made."""
        copy = warehouse.copy(folder)
        home = copy.settings.dagster_home
        shutil.rmtree(home)
        home.mkdir(mode=0o700)
        parts = (DAGSTER_YAML, DEPLOYMENT / "postgresql.yaml")
        (home / "dagster.yaml").write_text("".join(part.read_text() for part in parts))
        return cls(copy.folder, copy.raw_dir, copy.seeds_dir, server=server, database=database)

    def history(self) -> dict[str, Any]:
        """What Dagster remembers: runs, evaluations of checks and the last materialisation of each asset."""
        with self.active(), dg.DagsterInstance.get() as instance:
            latest = instance.get_latest_materialization_events(instance.get_asset_keys())
            return {
                "runs": [(run.run_id, run.status) for run in instance.get_runs()],
                "materialised": {key.to_user_string(): event.run_id for key, event in latest.items() if event},
                "checks": self.server.ask(
                    "select asset_key, check_name, execution_status, run_id from asset_check_executions order by 1, 2",
                    self.database,
                ).splitlines(),
            }


@pytest.fixture(scope="module")
def private_folder() -> Iterator[Path]:
    """Short, for the names of sockets, and within reach of the user as whom PostgreSQL runs where we are root."""
    if not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed; a run with CI set has to have it")
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="cmhs-", dir=Path("/dev/shm") if Path("/dev/shm").is_dir() else None))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(private_folder: Path) -> Iterator[Server]:
    with server_in(private_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="module")
def deployed(hand_worked: Warehouse, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """The hand-worked survey, refreshed once with its records in PostgreSQL."""
    deployed = Deployed.of(hand_worked, tmp_path_factory.mktemp("deployed") / "survey", server)
    # As a process of its own, so that no connection is left open.
    ran = run_command(deployed, "refresh", "--force")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return deployed


def test_records_are_in_postgresql_and_nowhere_else(deployed: Deployed) -> None:
    history = deployed.history()
    [(run_id, status)] = history["runs"]
    assert status == dg.DagsterRunStatus.SUCCESS
    assert notes_of(folder_of(deployed))["dagster_run_id"] == run_id
    assert history["materialised"]["published/release"] == run_id
    checks = [line.split("|")[2] for line in history["checks"]]
    assert set(checks) == {"SUCCEEDED"}
    assert len(checks) > 300
    assert [path.name for path in deployed.settings.dagster_home.iterdir()] == ["dagster.yaml"]


def test_the_configuration_is_the_one_of_the_checkout_but_for_the_records(deployed: Deployed) -> None:
    assert in_postgresql(deployed.settings.dagster_home)
    with deployed.active(), dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 1
        assert type(instance.event_log_storage).__name__ == "PostgresEventLogStorage"


def test_a_commented_word_does_not_put_records_into_postgresql(tmp_path: Path) -> None:
    assert not in_postgresql(tmp_path)
    (tmp_path / "dagster.yaml").write_text("# storage: postgres\ntelemetry:\n  enabled: false  # no postgres\n")
    assert not in_postgresql(tmp_path)


def test_sqlite_files_from_before_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "runs.db").write_bytes(b"no database" * 100)
    default = DAGSTER_YAML.read_text()
    (tmp_path / "dagster.yaml").write_text(default + (DEPLOYMENT / "postgresql.yaml").read_text())
    assert set_aside_damaged_records(tmp_path) == []
    (tmp_path / "dagster.yaml").write_text(default)
    assert set_aside_damaged_records(tmp_path) == [tmp_path / "history.damaged"]


def test_a_refresh_with_nothing_to_do_records_no_run(deployed: Deployed) -> None:
    before = deployed.history()
    assert not deployed.refresh().changed
    assert deployed.history() == before


def test_a_backup_restored_into_another_server_has_the_whole_history(
    deployed: Deployed, private_folder: Path, tmp_path: Path
) -> None:
    deployed.server.run("pg_dump", "--format=custom", f"--file={tmp_path / 'records.dump'}")
    with server_in(private_folder / "another") as another:
        another.run("pg_restore", "--exit-on-error", "--no-owner", "--dbname=cmhs", tmp_path / "records.dump")
        restored = Deployed.of(deployed, tmp_path / "restored", another)

        assert restored.history() == deployed.history()
        assert not restored.refresh().changed
        assert folder_of(restored).name == folder_of(deployed).name


def test_a_server_that_is_down_is_said_in_words_and_nothing_is_published(deployed: Deployed) -> None:
    before = deployed.published_bytes()
    deployed.server.stop()
    try:
        ran = run_command(deployed, "refresh", "--force", PGPASSWORD=PASSWORD)
        purged = run_command(deployed, "purge", "--yes")
    finally:
        deployed.server.start()
    for refused in (ran, purged):
        assert refused.returncode == 1
        assert "REFUSED: Dagster's records in PostgreSQL cannot be used (OperationalError)." in refused.stderr
        assert "connection to server on socket" in refused.stderr
        assert "Traceback" not in refused.stdout + refused.stderr
        assert "Retrying" not in refused.stdout + refused.stderr
    assert PASSWORD not in ran.stdout + ran.stderr
    assert "docs/recovery.md, The machine" in ran.stderr
    assert f"The last release stays: {folder_of(deployed).name}." in ran.stderr
    assert deployed.settings.warehouse.exists()
    assert deployed.published_bytes() == before


def test_a_server_that_goes_away_during_a_run_is_said_in_words(deployed: Deployed) -> None:
    """Whatever a run was doing: here it does nothing but stop the server."""

    @dg.asset
    def last_words() -> None:
        deployed.server.stop()

    job = dg.Definitions(assets=[last_words], jobs=[dg.define_asset_job("stops")]).resolve_job_def("stops")
    deployed.server.run("createdb", "short")
    try:
        with deployed.active() as settings, pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGDATABASE", "short")
            with pytest.raises(Refusal) as refused, open_records(settings.dagster_home) as instance:
                job.execute_in_process(instance=instance, raise_on_error=False)
    finally:
        deployed.server.start()
    assert refused.value.headline == "Dagster's records in PostgreSQL cannot be used (OperationalError)."
    assert refused.value.problems[0] == "server closed the connection unexpectedly"
    assert deployed.server.ask("select status from runs", "short") == "STARTED"


@pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid:1", "horse@127.0.0.1:1"])
def test_a_password_in_the_address_is_never_printed(
    deployed: Deployed, tmp_path: Path, host: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is told to write it there; an @ in it that was not encoded makes its end part of the host's name."""
    configuration = (deployed.settings.dagster_home / "dagster.yaml").read_text()
    empty = "postgresql+psycopg2://"
    assert empty in configuration
    (tmp_path / "dagster.yaml").write_text(configuration.replace(empty, f"{empty}cmhs:correct@{host}/cmhs"))
    with deployed.active(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(tmp_path))
        with pytest.raises(Refusal) as refused, open_records(tmp_path):
            pass
    said = str(refused.value) + "".join(capfd.readouterr()) + caplog.text
    assert "cannot be used" in said
    assert "correct" not in said
    assert "horse" not in said


def test_purge_forgets_the_records_and_keeps_the_configuration(deployed: Deployed, tmp_path: Path) -> None:
    deployed.server.run("createdb", "--template=cmhs", "forgotten")
    doomed = Deployed.of(deployed, tmp_path / "doomed", deployed.server, "forgotten")
    (doomed.settings.dagster_home / "history").mkdir()
    assert len(doomed.history()["runs"]) == 1

    ran = run_command(doomed, "purge", "--yes")

    assert ran.returncode == 0, ran.stderr
    assert "Dagster's records in PostgreSQL: 1 runs with their checks" in ran.stdout
    assert doomed.history() == {"runs": [], "materialised": {}, "checks": []}
    tables = doomed.server.ask(
        "select string_agg(format('select count(*) as n from %I', tablename), ' union all ') from pg_tables"
        " where schemaname = 'public' and tablename not in ('alembic_version', 'secondary_indexes', 'instance_info')",
        "forgotten",
    )
    assert doomed.server.ask(f"select sum(n) from ({tables}) t", "forgotten") == "0"
    assert [path.name for path in doomed.settings.dagster_home.iterdir()] == ["dagster.yaml"]
    assert in_postgresql(doomed.settings.dagster_home)
    assert not doomed.settings.warehouse.exists()
    # Of the others nothing is gone.
    assert len(deployed.history()["runs"]) >= 1


# ------------------------------------------------------------------------------------------------ processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_of(unit: str, port: int, environment: dict[str, str]) -> list[str]:
    """What a unit file starts, of this checkout and on this port."""
    [line] = [line for line in (DEPLOYMENT / unit).read_text().splitlines() if line.startswith("ExecStart=")]
    command = line.removeprefix("ExecStart=").replace(f"{CHECKOUT}/.venv/bin", str(BIN)).replace(CHECKOUT, str(ROOT))
    return shlex.split(string.Template(command.replace(UI_PORT, str(port))).substitute(environment))


def wait_for(reached: Callable[[], Any], seconds: int = 900) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := reached():
            return found
        time.sleep(1)
    raise AssertionError("what was waited for did not come")


@contextmanager
def services(warehouse: Deployed, log: Path) -> Iterator[UserInterface]:
    """Code server, daemon and webserver as their unit files start them, from when the UI answers until the end."""
    port = free_port()
    environment = warehouse.environment
    code_server = Path(environment["CMHS_CODE_SERVER"])
    started = []

    def start(unit: str) -> subprocess.Popen[bytes]:
        with (log / f"{unit}.log").open("w") as output:
            process = subprocess.Popen(
                command_of(unit, port, environment),
                cwd=ROOT,
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process

    try:
        start("cmhs-code.service")
        wait_for(code_server.exists)
        webserver = start("cmhs-webserver.service")
        start("cmhs-daemon.service")
        ui = UserInterface(webserver.pid, port)

        def answers() -> bool:
            try:
                return bool(ui.ask("{ version }")["data"])
            except OSError:
                assert webserver.poll() is None, (log / "cmhs-webserver.service.log").read_text()
                return False

        wait_for(answers)
        yield ui
    finally:
        # As systemd stops them: all are asked, and the code server, which does not go, is killed after a while.
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        code_server.unlink(missing_ok=True)


def launch(ui: UserInterface, **selector: Any) -> str:
    """Have a run started as a user of the UI does; its id."""
    answer = ui.ask(
        "mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {"
        " __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
        params={"selector": HERE | selector, "mode": "default", "runConfigData": "{}"},
    )
    assert answer["data"]["launchRun"]["__typename"] == "LaunchRunSuccess", answer
    return str(answer["data"]["launchRun"]["run"]["runId"])


def statuses(ui: UserInterface) -> dict[str, str]:
    runs = ui.ask("{ runsOrError { ... on Runs { results { runId status } } } }")["data"]["runsOrError"]["results"]
    return {run["runId"]: run["status"] for run in runs}


def test_runs_of_the_ui_wait_for_each_other_and_the_command_is_told_who_writes(
    deployed: Deployed, tmp_path: Path
) -> None:
    deployed.server.run("createdb", "--template=cmhs", "served")
    served = Deployed.of(deployed, tmp_path / "served", deployed.server, "served")
    before = folder_of(served).name
    registry = served.raw_dir / "registry.csv"
    registry.write_text(registry.read_text().replace(",,1,", ",,2,"))
    review_deliveries(served.settings)
    with services(served, tmp_path) as ui:
        first = launch(ui)
        wait_for(lambda: statuses(ui)[first] in ("STARTING", "STARTED"))
        second = launch(ui, assetSelection=[{"path": ["published", "release"]}], assetCheckSelection=[])
        holder = wait_for(lambda: (served.settings.state_dir / "writer.lock").read_text())
        with pytest.raises(Refusal) as refused:
            served.refresh(force=True)
        seen = set()

        def over() -> bool:
            now = statuses(ui)
            seen.add((now[first], now[second]))
            return now[second] in ("SUCCESS", "FAILURE", "CANCELED")

        wait_for(over)
    assert json.loads(holder)["purpose"] == f"Dagster run {first}"
    assert f"Another run is writing to this warehouse: {holder}" in str(refused.value)
    assert ("SUCCESS", "SUCCESS") in seen
    assert not {pair for pair in seen if pair[0] != "SUCCESS" and pair[1] != "QUEUED"}
    assert notes_of(folder_of(served))["dagster_run_id"] == first
    assert folder_of(served).name != before
    with writer_lock(served.settings.state_dir, "nobody holds it any more"):
        pass


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit_files(tmp_path: Path) -> None:
    units = sorted(DEPLOYMENT.glob("*.service"))
    assert len(units) == 4
    for unit in units:
        here = unit.read_text().replace(f"{CHECKOUT}/.venv/bin", str(BIN)).replace(CHECKOUT, str(ROOT))
        (tmp_path / unit.name).write_text(here)
    ran = subprocess.run(
        ["systemd-analyze", "verify", *(tmp_path / unit.name for unit in units)], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
