"""SIGKILL at random moments of a refresh: whatever is killed, readers see a whole release, old or new.

    python -m tests.torture.kills --kills 200 --lanes 2 --seed 2017

A lane is a warehouse of its own. Half of the kills fall anywhere within a refresh, the other half between the end of
the checks and the end of the run, where the release is built and switched. Every third kill takes only the parent,
so that its dbt lives on. After each kill the current release must verify, and so must every other one; after every
tenth a refresh must succeed without a hand being lent and leave nothing temporary. Prints a table of counts.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from orchestration import release
from orchestration.settings import Settings
from tests.torture.survey import make_survey

CMHS = Path(sys.executable).parent / "cmhs"
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

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [CMHS, "refresh", "--force"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def refresh(self) -> tuple[int, str]:
        """A refresh that is left in peace; its exit code and words."""
        process = self.start()
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

    def kill_once(self, number: int, chance: random.Random, seconds: float, last_seconds: float) -> None:
        """Start a refresh, kill it, look at what readers see."""
        now = release.current(self.settings)
        if number % 5 == 3:
            shutil.rmtree(self.folder / "warehouse", ignore_errors=True)
            self.counts["without a warehouse"] += 1
        elif number % 5 == 1:
            shutil.rmtree(self.settings.dbt_target_dir, ignore_errors=True)
            self.counts["without dbt's folder"] += 1
        late, alone = number % 2 == 1, number % 3 == 2
        process = self.start()
        assert process.stdout is not None
        if late:
            for line in process.stdout:
                if LAST_STEP in line:
                    break
            time.sleep(chance.uniform(0, last_seconds))
        else:
            time.sleep(chance.uniform(0, seconds))
        ended = process.poll() is not None
        if not ended:
            if alone:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        self.counts["had ended before" if ended else "killed" + (" without its dbt" if alone else "")] += 1
        self.counts["in the last step" if late else "anywhere"] += 1
        self.check(now and now.name, f"kill {number}")

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


def torture(folder: Path, kills: int, lanes: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Kill refreshes in `lanes` warehouses below a folder; what was counted, and everything that was wrong."""
    raw_dir, seeds_dir = make_survey(folder / "survey")
    all_lanes = [Lane(folder / f"lane_{i}", raw_dir, seeds_dir) for i in range(lanes)]
    first = all_lanes[0]
    code, words = first.refresh()
    if code != 0:
        raise SystemExit(f"The survey cannot be refreshed at all:\n{words}")
    started = time.monotonic()
    process = first.start()
    assert process.stdout is not None
    last_step = started
    for line in process.stdout:
        if LAST_STEP in line:
            last_step = time.monotonic()
    process.wait()
    seconds, last_seconds = time.monotonic() - started, time.monotonic() - last_step
    for lane in all_lanes[1:]:
        shutil.copytree(first.folder, lane.folder, symlinks=True)

    def run(index: int) -> None:
        lane, chance = all_lanes[index], random.Random(seed * 1000 + index)
        for number in range(index, kills, lanes):
            lane.kill_once(number // lanes, chance, seconds, last_seconds)
            if number // lanes % 10 == 9:
                lane.recover(number)
            print(f"{number + 1} of {kills}", dict(lane.counts), lane.problems, file=sys.stderr, flush=True)
        lane.recover(kills)

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(run, range(lanes)))
    counts = sum((lane.counts for lane in all_lanes), Counter())
    return counts, [problem for lane in all_lanes for problem in lane.problems]


def main() -> None:
    """Print the table; exit with 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2017)
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        counts, problems = torture(Path(folder), arguments.kills, arguments.lanes, arguments.seed)
    print("| what | times |\n|---|---|")
    for what, times in sorted(counts.items()):
        print(f"| {what} | {times} |")
    print(f"| problems | {len(problems)} |\n\n{(time.monotonic() - started) / 60:.0f} minutes")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
