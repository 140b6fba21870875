"""SIGKILL at random moments: whatever is killed, readers see a whole release, old or new.

    python -m tests.torture.kills --refreshes 200 --releases 40 --lanes 2 --seed 2017

A lane is a warehouse of its own. A refresh with something new to publish is killed at a moment that is uniform over
the length of the last one that was left in peace; every third time only the parent, so that its dbt lives on; some
start without warehouse or without dbt's folder. Since the release is built and switched in a small part of that time,
the release alone is killed as well, on a warehouse that is built and checked. After each kill every release must
verify; after every tenth a refresh must succeed without a hand being lent and leave nothing temporary or unfinished.
Prints a table of counts.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestration import release
from tests.torture.lane import Lane, Refresh, stop_when_asked
from tests.torture.survey import make_survey
from tests.torture.trial import MOMENTS, start_release

BETWEEN_RECOVERIES = 10


def kill(lane: Lane, run: Refresh, after: float, what: str, *, alone: bool = False) -> None:
    """Kill a run after some seconds, with its children unless `alone`; look at what readers see then."""
    now = release.current(lane.settings)
    deadline = time.monotonic() + after
    while run.running and time.monotonic() < deadline:
        time.sleep(0.01)
    killed = run.kill(alone=alone)
    kind = what.split()[0]
    lane.counts[f"{kind}: " + ("had ended before" if not killed else "killed, its dbt not" if alone else "killed")] += 1
    lane.check(now and now.name, what)


def kill_refreshes(lane: Lane, times: int, chance: random.Random, seconds: float) -> None:
    """Kill refreshes at random moments of their `seconds`; every tenth time the next one has to mend it all."""
    for number in range(1, times + 1):
        lane.new_edition()
        if number % 5 == 3:
            shutil.rmtree(lane.settings.warehouse.parent)
            lane.counts["refresh: begun without a warehouse"] += 1
        elif number % 5 == 1:
            shutil.rmtree(lane.settings.dbt_target_dir, ignore_errors=True)
            lane.counts["refresh: begun without dbt's folder"] += 1
        kill(lane, lane.start(), chance.uniform(0, seconds), f"refresh {number}", alone=number % 3 == 2)
        if number % BETWEEN_RECOVERIES == 0 or number == times:
            started = time.monotonic()
            lane.recover(f"kill {number}")
            seconds = time.monotonic() - started
        print(lane.folder.name, number, dict(lane.counts), lane.problems, file=sys.stderr, flush=True)


def kill_releases(lane: Lane, times: int, chance: random.Random) -> None:
    """Kill the release alone at random moments, each time on what a refresh had built and checked."""
    lane.new_edition()
    run = lane.start()
    run.wait_until(lambda: MOMENTS["before the release"].reached(lane, run))
    run.kill()
    built = lane.copy(lane.folder.with_name(f"{lane.folder.name}_built"))
    started = time.monotonic()
    code, words = start_release(lane).end()
    seconds = time.monotonic() - started
    if code != 0:
        lane.problems.append(f"the release alone publishes nothing:\n{words}")
    for number in range(1, times + 1):
        shutil.rmtree(lane.folder)
        shutil.copytree(built.folder, lane.folder, symlinks=True)
        kill(lane, start_release(lane), chance.uniform(0, seconds), f"release {number}")
    lane.recover("the last kill of a release", "--force")


def torture(folder: Path, refreshes: int, releases: int, lanes: int, seed: int) -> tuple["Counter[str]", list[str]]:
    """Kill refreshes and releases in lanes below a folder; what was counted, and everything that was wrong."""
    raw_dir, seeds_dir = make_survey(folder / "survey")
    first = Lane(folder / "first", raw_dir, seeds_dir)
    code, words = first.refresh()
    if code != 0:
        raise SystemExit(f"The survey cannot be refreshed at all:\n{words}")
    all_lanes = [first.copy(folder / f"lane_{i}") for i in range(lanes)]

    def run(index: int) -> None:
        lane, chance = all_lanes[index], random.Random(seed * 1000 + index)
        started = time.monotonic()
        lane.refresh("--force")
        kill_refreshes(lane, refreshes // lanes, chance, time.monotonic() - started)
        kill_releases(lane, releases // lanes, chance)

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(run, range(lanes)))
    counts = sum((lane.counts for lane in all_lanes), Counter())
    return counts, [problem for lane in all_lanes for problem in lane.problems]


def main() -> None:
    """Print the table; exit with 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refreshes", type=int, default=200)
    parser.add_argument("--releases", type=int, default=40)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2017)
    arguments = parser.parse_args()
    stop_when_asked()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(
        dir="/dev/shm" if Path("/dev/shm").is_dir() else None, ignore_cleanup_errors=True
    ) as folder:
        counts, problems = torture(
            Path(folder), arguments.refreshes, arguments.releases, arguments.lanes, arguments.seed
        )
    print(f"# What killed refreshes leave behind\n\n`python -m tests.torture.kills {' '.join(sys.argv[1:])}`\n")
    print("| what | times |\n|---|---|")
    for what, times in sorted(counts.items()):
        print(f"| {what} | {times} |")
    print(f"| problems | {len(problems)} |\n\n{(time.monotonic() - started) / 60:.0f} minutes")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
