"""SIGKILL at random moments: whatever is killed, readers see a whole release, old or new.

    python -m tests.torture.kills --refreshes 200 --releases 100 --lanes 2 --seed 2017

A lane is a warehouse of its own. A refresh is killed at a moment that is uniform over its length; every third time
only the parent, so that its dbt lives on; some refreshes start without warehouse or without dbt's folder. Since the
release is built and switched in a small part of that time, the release alone is killed as well, on a warehouse that
is built and checked, as the UI's button starts it. After each kill the current release must verify, and so must every
other one; after every tenth a refresh must succeed without a hand being lent and leave nothing temporary. Prints a
table of counts.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestration import release
from orchestration.settings import ROOT, Settings
from tests.torture.survey import make_survey

BIN = Path(sys.executable).parent
REFRESH = [str(BIN / "cmhs"), "refresh", "--force"]
RELEASE = [
    *(str(BIN / "dagster"), "asset", "materialize"),
    *("--select", "published/release", "-m", "orchestration.definitions"),
]
LAST_STEP = "Great Expectations:"
KEPT = 4


@dataclass
class Lane:
    """One warehouse, and what happened to it."""

    folder: Path
    raw_dir: Path
    seeds_dir: Path
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "CMHS_RAW_DIR": str(self.raw_dir),
            "CMHS_SEEDS_DIR": str(self.seeds_dir),
            "CMHS_WAREHOUSE": str(self.folder / "warehouse" / "warehouse.duckdb"),
            "CMHS_PUBLISHED_DIR": str(self.folder / "published"),
            "DAGSTER_HOME": str(self.folder / "dagster"),
            "CMHS_KEEP_RELEASES": str(KEPT),
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def settings(self) -> Settings:
        return Settings(
            raw_dir=self.raw_dir,
            seeds_dir=self.seeds_dir,
            warehouse=self.folder / "warehouse" / "warehouse.duckdb",
            published_dir=self.folder / "published",
            dagster_home=self.folder / "dagster",
            target="duckdb",
            keep_releases=KEPT,
        )

    def start(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        """A process of this lane, in a group of its own."""
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def refresh(self) -> tuple[int, str]:
        """A refresh that is left in peace; its exit code and words."""
        process = self.start(REFRESH)
        words, _ = process.communicate()
        return process.returncode, words

    def left_over(self) -> list[str]:
        """Unfinished work that nobody will take away."""
        published, warehouse = self.settings.published_dir, self.settings.warehouse
        found = [
            *published.glob(".*"),
            *(published / "releases").glob(".*"),
            *(self.settings.state_dir / "tmp").glob("*.txt"),
            *warehouse.parent.glob("*.tmp"),
            *warehouse.parent.glob("*.wal"),
            *self.settings.dagster_home.glob("dagster.yaml.*"),
        ]
        return [str(path.relative_to(self.folder)) for path in found]

    def check(self, before: str | None, what: str) -> None:
        """Readers see a whole release, the old or a new one; every other release is whole, too."""
        now = release.current(self.settings)
        if now is None and before is None:
            self.counts["refresh: nothing published yet"] += 1
        elif now is None:
            self.problems.append(f"{what}: the current release is gone")
        else:
            if problems := release.verify(now):
                self.problems.append(f"{what}: current release {now.name}: {problems}")
            kind = what.split()[0]
            self.counts[f"{kind}: then the " + ("old release" if now.name == before else "new release")] += 1
        for folder in release.releases(self.settings):
            if folder != now and (problems := release.verify(folder)):
                self.problems.append(f"{what}: release {folder.name}: {problems}")

    def kill_refresh(self, number: int, chance: random.Random, seconds: float) -> None:
        """Start a refresh, kill it, look at what readers see."""
        now = release.current(self.settings)
        if number % 5 == 3:
            shutil.rmtree(self.folder / "warehouse", ignore_errors=True)
            self.counts["refresh: begun without a warehouse"] += 1
        elif number % 5 == 1:
            shutil.rmtree(self.settings.dbt_target_dir, ignore_errors=True)
            self.counts["refresh: begun without dbt's folder"] += 1
        self.kill(self.start(REFRESH), chance.uniform(0, seconds), alone=number % 3 == 2, what="refresh")
        self.check(now and now.name, f"refresh {number}")

    def kill_release(self, number: int, chance: random.Random, built: Path, seconds: float) -> None:
        """Start the release alone on what a refresh had built and checked, kill it, look at what readers see."""
        shutil.rmtree(self.folder)
        shutil.copytree(built, self.folder, symlinks=True)
        now = release.current(self.settings)
        self.kill(self.start(RELEASE), chance.uniform(seconds / 2, seconds), alone=False, what="release")
        self.check(now and now.name, f"release {number}")

    def kill(self, process: "subprocess.Popen[str]", after: float, *, alone: bool, what: str) -> None:
        """Kill a process after some seconds, with its children unless `alone`."""
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=after)
        ended = process.poll() is not None
        if not ended and alone:
            process.kill()
        elif not ended:
            os.killpg(process.pid, signal.SIGKILL)
        # A dbt that lives on may hold the other end of the pipe.
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        self.counts[f"{what}: " + ("had ended before" if ended else "killed, its dbt not" if alone else "killed")] += 1

    def recover(self, number: int) -> None:
        """The next refresh needs no help and leaves nothing behind."""
        code, words = self.refresh()
        self.counts["recoveries"] += 1
        if code != 0:
            self.problems.append(f"recovery after kill {number} failed:\n{words[-2000:]}")
        if found := self.left_over():
            self.problems.append(f"left over after recovery {number}: {found}")
        if problems := release.verify(self.settings.current_release.resolve()):
            self.problems.append(f"recovery after kill {number}: {problems}")


def torture(folder: Path, refreshes: int, releases: int, lanes: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Kill refreshes and releases in lanes below a folder; what was counted, and everything that was wrong."""
    raw_dir, seeds_dir = make_survey(folder / "survey")
    all_lanes = [Lane(folder / f"lane_{i}", raw_dir, seeds_dir) for i in range(lanes)]
    first = all_lanes[0]
    code, words = first.refresh()
    if code != 0:
        raise SystemExit(f"The survey cannot be refreshed at all:\n{words}")
    started = time.monotonic()
    first.refresh()
    refresh_seconds = time.monotonic() - started
    built = folder / "built"
    shutil.copytree(first.folder, built, symlinks=True)
    first_again = Lane(built, raw_dir, seeds_dir)
    process = first_again.start(REFRESH)
    assert process.stdout is not None
    for line in process.stdout:
        if LAST_STEP in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.communicate()
    trial = Lane(folder / "trial", raw_dir, seeds_dir)
    shutil.copytree(built, trial.folder, symlinks=True)
    before = release.current(trial.settings)
    started = time.monotonic()
    words, _ = trial.start(RELEASE).communicate()
    release_seconds = time.monotonic() - started
    if release.current(trial.settings) == before:
        raise SystemExit(f"The release alone publishes nothing:\n{words}")
    for lane in all_lanes[1:]:
        shutil.copytree(first.folder, lane.folder, symlinks=True)

    def run(index: int) -> None:
        lane, chance = all_lanes[index], random.Random(seed * 1000 + index)
        kinds = [*(["refresh"] * (refreshes // lanes)), *(["release"] * (releases // lanes))]
        for number, kind in enumerate(kinds):
            if kind == "refresh":
                lane.kill_refresh(number, chance, refresh_seconds)
            else:
                lane.kill_release(number, chance, built, release_seconds)
            if number % 10 == 9 or number == len(kinds) - 1:
                lane.recover(number)
            print(f"lane {index}: {number + 1}", dict(lane.counts), lane.problems, file=sys.stderr, flush=True)

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(run, range(lanes)))
    counts = sum((lane.counts for lane in all_lanes), Counter())
    return counts, [problem for lane in all_lanes for problem in lane.problems]


def main() -> None:
    """Print the table; exit with 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refreshes", type=int, default=200)
    parser.add_argument("--releases", type=int, default=100)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2017)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        counts, problems = torture(
            Path(folder), arguments.refreshes, arguments.releases, arguments.lanes, arguments.seed
        )
    print(f"# What killed refreshes left behind\n\n`python -m tests.torture.kills {' '.join(sys.argv[1:])}`\n")
    print("| what | times |\n|---|---|")
    for what, times in sorted(counts.items()):
        print(f"| {what} | {times} |")
    print(f"| problems | {len(problems)} |\n\n{(time.monotonic() - started) / 60:.0f} minutes")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
