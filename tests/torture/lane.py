"""A warehouse of its own to be tortured: starting refreshes on it, and what must hold whatever was done to them."""

import atexit
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestration import release
from orchestration.settings import Settings
from tests.torture.survey import read_rows, review_deliveries, write_rows

CMHS = Path(sys.executable).parent / "cmhs"
# A run that takes longer than this hangs; a refresh of the survey takes half a minute on a machine that is free.
PATIENCE = 600
TRACEBACK = "Traceback (most recent call last)"


_RUNNING: set["Refresh"] = set()


@atexit.register
def _end_all() -> None:
    """Nothing that was started lives on, however this process is asked to stop."""
    for run in _RUNNING:
        run.kill()


def stop_when_asked() -> None:
    """Have this process clean up after itself also where it is ended by a signal."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


class Refresh:
    """A `cmhs refresh` in a process group of its own, whose words are read as they come."""

    def __init__(
        self,
        command: Sequence[str | Path],
        environment: dict[str, str],
        before_start: Callable[[], None] | None = None,
    ) -> None:
        self.started_at = time.time()
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=before_start,
        )
        _RUNNING.add(self)
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self._lines.append(line)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def words(self) -> str:
        """What it said so far, on both streams."""
        return "".join(self._lines)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait_until(self, reached: Callable[[], bool]) -> bool:
        """Wait for something to be true; False where the process ended before."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if reached():
                return True
            if not self.running:
                self._reader.join(PATIENCE)
                return reached()
            time.sleep(0.01)
        self.kill()
        raise TimeoutError("what was waited for did not come")

    def wait_for_lock(self, state_dir: Path) -> bool:
        """Wait until its Dagster run has the lock; False where the process ended before."""

        def held() -> bool:
            holder = (state_dir / "writer.lock").read_text()
            return f'"pid": {self.pid}' in holder and "Dagster run" in holder

        return self.wait_until(held)

    def kill(self, *, alone: bool = False) -> bool:
        """SIGKILL for the whole group, or for the process without its dbt; False where it had ended before."""
        if not self.running:
            return False
        if alone:
            self.process.kill()
        else:
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        return True

    def end(self) -> tuple[int, str]:
        """Exit code and all words, once it has ended by itself."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            return -1, self.words + f"\nit hung: killed after {PATIENCE} s"
        self._reader.join(PATIENCE)
        return code, self.words


@dataclass
class Lane:
    """One warehouse, and what happened to it."""

    folder: Path
    raw_dir: Path
    seeds_dir: Path
    keep_releases: int = 4
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return Settings(
            raw_dir=self.raw_dir,
            seeds_dir=self.seeds_dir,
            warehouse=self.folder / "warehouse" / "warehouse.duckdb",
            published_dir=self.folder / "published",
            dagster_home=self.folder / "dagster",
            target="duckdb",
            keep_releases=self.keep_releases,
        )

    @property
    def temporary(self) -> Path:
        """Where its processes put what the system calls temporary."""
        return self.folder / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        settings = self.settings
        return os.environ | {
            "CMHS_RAW_DIR": str(settings.raw_dir),
            "CMHS_SEEDS_DIR": str(settings.seeds_dir),
            "CMHS_WAREHOUSE": str(settings.warehouse),
            "CMHS_PUBLISHED_DIR": str(settings.published_dir),
            "DAGSTER_HOME": str(settings.dagster_home),
            "CMHS_KEEP_RELEASES": str(settings.keep_releases),
            "TMPDIR": str(self.temporary),
            "PYTHONUNBUFFERED": "1",
        }

    def start(
        self,
        *options: str,
        command: Sequence[str | Path] = (CMHS, "refresh"),
        before_start: Callable[[], None] | None = None,
        **environment: str,
    ) -> Refresh:
        """Start a refresh, or another command on this warehouse."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        return Refresh([*command, *options], self.environment | environment, before_start)

    def refresh(self, *options: str) -> tuple[int, str]:
        """A refresh that is left in peace; its exit code and words."""
        return self.start(*options).end()

    def copy(self, folder: Path) -> "Lane":
        """A second lane, as far as this one is, with raw files and crosswalk of its own."""
        shutil.copytree(self.folder, folder, symlinks=True)
        raw = shutil.copytree(self.raw_dir, folder / "raw", dirs_exist_ok=True)
        seeds = shutil.copytree(self.seeds_dir, folder / "seeds", dirs_exist_ok=True)
        return Lane(folder, Path(raw), Path(seeds), self.keep_releases)

    # ---- what it is filled from, and what of it is published ----
    def new_edition(self) -> str:
        """Register a new edition of every raw file, reviewed, so that the next refresh has something to do; it."""
        registry = self.raw_dir / "registry.csv"
        files = read_rows(registry)
        edition = str(int(self.registered_edition()) + 1)
        write_rows(registry, [file | {"edition": edition} for file in files])
        review_deliveries(self.settings)
        return edition

    def registered_edition(self) -> str:
        """The edition of the raw files as registered."""
        return read_rows(self.raw_dir / "registry.csv")[0]["edition"]

    def published_edition(self) -> str | None:
        """The edition of the raw files that the current release is made of."""
        folder = release.current(self.settings)
        if folder is None:
            return None
        [edition] = {source["edition"] for source in release.notes_of(folder)["inputs"]}
        return str(edition)

    # ---- what must hold ----
    def left_over(self) -> list[str]:
        """Unfinished work that nobody will take away."""
        settings = self.settings
        found = [
            *settings.published_dir.glob(".*"),
            *(settings.published_dir / "releases").glob(".*"),
            *(path for path in (settings.state_dir / "tmp").glob("*") if path.name != "dbt.pid"),
            *settings.warehouse.parent.glob("*.tmp"),
            *(path for path in settings.warehouse.parent.glob("*.wal") if ".damaged" not in path.name),
            *settings.dagster_home.glob("dagster.yaml.*"),
            *self.temporary.glob("*"),
        ]
        return [str(path.relative_to(self.folder)) for path in found]

    def open_runs(self) -> list[str]:
        """Dagster's runs that say they are going on."""
        storage = self.settings.dagster_home / "history" / "runs.db"
        if not storage.exists():
            return []
        with sqlite3.connect(f"file:{storage}?mode=ro", uri=True) as connection:
            rows = connection.execute(
                "select run_id, status from runs where status not in ('SUCCESS', 'FAILURE', 'CANCELED')"
            ).fetchall()
        connection.close()
        return [f"{run_id} {status}" for run_id, status in rows]

    def check(self, before: str | None, what: str) -> None:
        """Readers see a whole release, the old or a new one; every other release is whole, too."""
        now = release.current(self.settings)
        if now is None and before is None:
            self.counts["nothing published yet"] += 1
        elif now is None:
            self.problems.append(f"{what}: the current release is gone")
        else:
            if problems := release.verify(now):
                self.problems.append(f"{what}: current release {now.name}: {problems}")
            self.counts["old release" if now.name == before else "new release"] += 1
        for folder in release.releases(self.settings):
            if folder != now and (problems := release.verify(folder)):
                self.problems.append(f"{what}: release {folder.name}: {problems}")

    def recover(self, what: str, *options: str) -> bool:
        """The next refresh needs no help, publishes what is registered and leaves nothing behind."""
        before = len(self.problems)
        registered = self.registered_edition()
        code, words = self.refresh(*options)
        self.counts["recoveries"] += 1
        if code != 0:
            self.problems.append(f"{what}: the next refresh failed:\n{words[-2000:]}")
        elif (edition := self.published_edition()) != registered:
            self.problems.append(f"{what}: edition {registered} is registered, {edition} is published")
        elif found := [*self.left_over(), *self.open_runs()]:
            self.problems.append(f"{what}: left over after the next refresh: {', '.join(found)}")
        now = release.current(self.settings)
        self.check(now and now.name, f"{what}, after the next refresh")
        return len(self.problems) == before
