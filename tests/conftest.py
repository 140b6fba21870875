"""What tests share: warehouses in temporary folders, and one build of the six synthetic waves for all of them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from filelock import FileLock

from orchestration.settings import DBT_PROJECT_DIR, ROOT, Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RAW = ROOT / "data" / "raw"
SEEDS = ROOT / "dbt_project" / "seeds"
FIXTURES = Path(__file__).parent / "fixtures"
NEW_WAVES = FIXTURES / "new_waves"
CCHS_DATA = ROOT.parent / "shared" / "data" / "cchs"


@dataclass
class Warehouse:
    """A warehouse of its own in `folder`, filled from `raw_dir` by the crosswalk in `seeds_dir`."""

    folder: Path
    raw_dir: Path
    seeds_dir: Path
    said: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CMHS_RAW_DIR": str(self.raw_dir),
            "CMHS_SEEDS_DIR": str(self.seeds_dir),
            "CMHS_WAREHOUSE": str(self.folder / "warehouse" / "warehouse.duckdb"),
            "CMHS_PUBLISHED_DIR": str(self.folder / "published"),
            "DAGSTER_HOME": str(self.folder / "dagster"),
        }

    @contextmanager
    def active(self) -> Iterator[Settings]:
        """The settings of this warehouse, with the environment set to match."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            yield Settings.from_environment()
        finally:
            os.environ.clear()
            os.environ.update(before)

    @property
    def settings(self) -> Settings:
        with self.active() as settings:
            return settings

    def refresh(self, *, force: bool = False) -> Any:
        """Run the whole job in this process; what it says goes to `said`. Raises Refusal where it is blocked."""
        from orchestration.refresh import refresh

        self.said.clear()
        with self.active() as settings:
            return refresh(settings, self.said.append, force=force)

    def query(self, sql: str) -> pd.DataFrame:
        """A query on the warehouse itself."""
        from orchestration.warehouse import connect

        with connect(self.settings.warehouse, read_only=True) as connection:
            return connection.execute(sql).df()

    def published(self, sql: str) -> pd.DataFrame:
        """A query on the current release."""
        from orchestration.release import open_release

        with open_release(folder_of(self)) as connection:
            return connection.execute(sql).df()

    def published_bytes(self) -> dict[str, bytes]:
        """Every published file with its content, and where `current` leads."""
        files = {
            str(path.relative_to(self.settings.published_dir)): path.read_bytes()
            for path in sorted(self.settings.published_dir.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        link = self.settings.current_release
        return files | {"current": str(link.readlink()).encode() if link.is_symlink() else b""}

    def copy(self, folder: Path) -> "Warehouse":
        """A second warehouse, as far as this one is, with raw files and crosswalk of its own to change."""
        shutil.copytree(self.folder, folder, symlinks=True)
        raw = shutil.copytree(self.raw_dir, folder / "raw", dirs_exist_ok=True)
        seeds = shutil.copytree(self.seeds_dir, folder / "seeds", dirs_exist_ok=True)
        return Warehouse(folder, raw, seeds)


def folder_of(warehouse: Warehouse) -> Path:
    """The folder of the current release."""
    from orchestration.release import current

    folder = current(warehouse.settings)
    assert folder is not None
    return folder


def publish(warehouse: Warehouse) -> Path:
    """Publish what the last build left; the release's folder."""
    from orchestration.publish import publish

    with warehouse.active() as settings:
        settings.prepare()
        return publish(settings)


def run_command(
    warehouse: Warehouse, *arguments: str, project: Path = DBT_PROJECT_DIR, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`cmhs` with these arguments as a user runs it, in a process of its own, on this project of dbt."""
    command = (
        "import pathlib, sys, orchestration.settings as settings; "
        "settings.DBT_PROJECT_DIR = pathlib.Path(sys.argv.pop(1)); "
        "from orchestration.cli import program; program()"
    )
    return subprocess.run(
        [sys.executable, "-c", command, str(project), *arguments],
        cwd=ROOT,
        env=os.environ | warehouse.environment | environment,
        capture_output=True,
        text=True,
    )


# 127.0.0.1 as the kernel lists it.
LOOPBACK = "0100007F"


@dataclass
class UserInterface:
    """Dagster's UI as `cmhs ui` serves it."""

    pid: int
    port: int

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer to a query or mutation of GraphQL, with its errors where there are any."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            return {"errors": error.read().decode("utf-8", "replace"), "data": None}

    def processes(self) -> set[int]:
        """The ids of all processes that serve it."""
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # It has just ended.
        found = {self.pid}
        while more := {child for child, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def addresses(self) -> set[str]:
        """The addresses that its processes listen on, in hexadecimal as the kernel lists them."""
        sockets = set()
        for process in self.processes():
            with suppress(OSError):  # It has just ended, or closed the file.
                sockets |= {str(path.readlink()) for path in Path(f"/proc/{process}/fd").iterdir()}
        listening = "0A"
        rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
        return {row[1].split(":")[0] for row in rows if row[3] == listening and f"socket:[{row[9]}]" in sockets}


@contextmanager
def serving(warehouse: Warehouse, *arguments: str) -> Iterator[UserInterface]:
    """`cmhs ui` with these arguments, from when it answers until the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (warehouse.folder / "ui.log").open("w") as log:
        server = subprocess.Popen(
            [Path(sys.executable).parent / "cmhs", "ui", "--port", str(port), *arguments],
            env=os.environ | warehouse.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    interface = UserInterface(server.pid, port)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                interface.ask("{ version }")
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, "the UI did not start"
                time.sleep(0.5)
        yield interface
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=60)


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where test processes keep what they share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder


def build_once(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    raw_dir: Path,
    seeds_dir: Path,
    before: Callable[[], object] = lambda: None,
) -> Warehouse:
    """A refreshed warehouse that all test processes share; nobody may change it. `before` prepares what it is of."""
    folder = shared_folder(tmp_path_factory)
    warehouse = Warehouse(folder / name, raw_dir, seeds_dir)
    with FileLock(folder / f"{name}.lock"):
        done = folder / f"{name}.done"
        if not done.exists():
            before()
            warehouse.refresh()
            done.touch()
    return warehouse


@pytest.fixture(scope="session")
def six_waves(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The committed synthetic files of 2012-2017, refreshed and published."""
    return build_once(tmp_path_factory, "six_waves", RAW, SEEDS)


def add_rows(path: Path, more: Path) -> None:
    """The rows of a CSV added to the end of another one, which must have the same columns."""
    header, *rows = more.read_text(encoding="utf-8").splitlines(keepends=True)
    assert path.read_text(encoding="utf-8").startswith(header), more
    with path.open("a", encoding="utf-8", newline="") as file:
        file.writelines(rows)


def add_new_waves(warehouse: Warehouse) -> None:
    """The three made-up waves put into a survey as a user does it: raw files, rows of registry and crosswalk."""
    shutil.copytree(NEW_WAVES / "raw", warehouse.raw_dir, dirs_exist_ok=True)
    add_rows(warehouse.raw_dir / "registry.csv", NEW_WAVES / "registry_rows.csv")
    for seed in sorted((NEW_WAVES / "seeds").glob("*.csv")):
        add_rows(warehouse.seeds_dir / seed.name, seed)


@pytest.fixture(scope="session")
def nine_waves(tmp_path_factory: pytest.TempPathFactory, six_waves: Warehouse) -> Warehouse:
    """The six waves, published, and then refreshed again with three more: two before them and one after."""
    folder = shared_folder(tmp_path_factory) / "nine_waves"
    return build_once(
        tmp_path_factory,
        "nine_waves",
        folder / "raw",
        folder / "seeds",
        before=lambda: add_new_waves(six_waves.copy(folder)),
    )


@pytest.fixture(scope="session")
def hand_worked(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A survey of two waves and a few dozen persons whose answers were worked out by hand, refreshed."""
    fixture = FIXTURES / "hand_worked"
    return build_once(tmp_path_factory, "hand_worked", fixture / "raw", fixture / "seeds")


@pytest.fixture(scope="session")
def cchs_files() -> list[str]:
    """Names of the files of nine cycles of another survey in CCHS_DATA; skipped where they are missing."""
    names = list(pd.read_csv(Path(__file__).parent / "cchs" / "registry.csv")["path"])
    needed = [CCHS_DATA / name for name in [*names, "reference_weighted_results.csv", "crosswalk.csv"]]
    if missing := [path.name for path in needed if not path.is_file()]:
        message = f"the CCHS extracts are not in {CCHS_DATA} (missing: {', '.join(missing)})"
        if os.environ.get("CI"):
            pytest.fail(f"{message}; a run with CI set has to have them")
        pytest.skip(message)
    return names


@pytest.fixture(scope="session")
def cchs(cchs_files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """Nine cycles of another survey, whose deposit supplies weights, refreshed; skipped where the files are missing."""
    here = Path(__file__).parent / "cchs"
    raw = tmp_path_factory.mktemp("cchs_raw")
    for name in cchs_files:
        shutil.copy(CCHS_DATA / name, raw / name)
    shutil.copy(here / "registry.csv", raw / "registry.csv")
    return build_once(tmp_path_factory, "cchs", raw, here / "seeds")


# No longer than a module: while it is there no other test of the process can run an event loop of its own.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium without a screen; skipped where it is missing."""
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed; a run with CI set has to have it")
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        with playwright.chromium.launch(executable_path=chromium, args=options) as launched:
            yield launched


@pytest.fixture
def small(hand_worked: Warehouse, tmp_path: Path) -> Warehouse:
    """A copy of the hand-worked survey, published once, for a test to break."""
    return hand_worked.copy(tmp_path / "small")


# The id of the current release of a warehouse that is `superseded`.
OLDER = "20000101T000000Z-00000000"


@pytest.fixture
def superseded(small: Warehouse) -> Warehouse:
    """A survey whose current release is older than its last build."""
    from orchestration.release import JOURNAL

    folder = folder_of(small)
    folder.rename(folder.with_name(OLDER))
    small.settings.current_release.unlink()
    small.settings.current_release.symlink_to(f"releases/{OLDER}")
    (small.settings.published_dir / JOURNAL).unlink()
    return small
