"""Faults of the machine, tried for real: whatever happens, readers see a whole release, and the next refresh works.

    python -m tests.torture.faults --seed 2017 [--only WORDS] [--folder DIRECTORY] [--log FILE]

Each fault meets a refresh that has something new to publish: a new edition of the raw files. A fault of the machine
(no space, a limit, no right to write) strikes before the start or at a moment of the run and is taken away afterwards;
the refresh may fail, but in words, and the next one must publish. Damage (to the warehouse, to dbt's or Dagster's
files, to the clock) stays: the refresh itself must mend it. After each, every release must verify, the current one be
the old or the new, and nothing temporary or unfinished be left. Prints a table of counts.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestration import release
from tests.torture.at_once import again_and_again, several_at_once
from tests.torture.damage import dagster_faults, dbt_faults, flipped, warehouse_faults
from tests.torture.lane import Lane, stop_when_asked
from tests.torture.machine import (
    DYING,
    KIB,
    MIB,
    clock_faults,
    dying,
    file_limit,
    file_limit_from,
    no_space,
    somebody_elses_warehouse,
    write_protected,
)
from tests.torture.survey import make_survey
from tests.torture.trial import (
    MOMENTS,
    START,
    Fault,
    Missing,
    try_out,
)

# ---------------------------------------------------------------------------------------- all of them


def all_faults(folder: Path, seed: int) -> list[Fault]:
    """Every fault but those of several refreshes, in the order they are tried."""
    moments = {
        "the warehouse": [name for name in MOMENTS if name != "while the release is made"],
        "the releases": ["before the release"],
        "Dagster": ["at the start", "between two waves", "while dbt builds", "before the release", "after the switch"],
        "everything": ["at the start", "while dbt builds", "before the release"],
    }
    # A refresh needs some MiB more of each; somewhere below, each of its writing steps is the first to fail.
    sizes = {"the warehouse": [KIB * 256, 2 * MIB, 8 * MIB], "Dagster": [KIB * 64, MIB], "the releases": [2 * MIB]}
    return [
        *(no_space("the releases", START, left=left, alone=True)
          for left in (0, 16 * KIB, 256 * KIB, MIB, 2 * MIB, 4 * MIB, 5 * MIB, 6 * MIB, 7 * MIB)),
        *(no_space("the releases", MOMENTS["while the release is made"], left=left, alone=True) for left in (0, MIB)),
        *(no_space("the warehouse", START, left=left, alone=True) for left in (0, 64 * KIB)),
        *(file_limit(2**n * KIB, alone=True) for n in range(0, 16, 2)),
        write_protected("the releases", alone=True),
        write_protected("the releases", MOMENTS["while the release is made"], alone=True),
        *(dying(name, alone=True) for name in DYING),
        dying("between the two renames, after the journal", alone=False),
        dying("between the switch and the mark in the warehouse", alone=False),
        *(no_space(of, MOMENTS[name]) for of, names in moments.items() for name in names),
        *(no_space(of, START, left=left) for of, several in sizes.items() for left in several),
        *(file_limit_from(moment) for moment in MOMENTS.values()),
        *(file_limit(4**n * KIB) for n in range(0, 9, 2)),
        *(write_protected(of) for of in ("the warehouse", "the releases", "Dagster")),
        write_protected("the warehouse", MOMENTS["while dbt builds"]),
        somebody_elses_warehouse(),
        *warehouse_faults(seed),
        *dbt_faults(),
        *dagster_faults(),
        *clock_faults(folder),
    ]  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """A fault and what came of it, as the log keeps it."""

    kind: str
    name: str
    ended: str
    words: str
    problems: list[str]


def torture(
    folder: Path, seed: int, flips: int, only: str, done: set[tuple[str, str]], log: Callable[[Tried], None]
) -> list[str]:
    """Try everything that is not done yet, in a lane below a folder, and log each; what could not be tried."""
    raw_dir, seeds_dir = make_survey(folder / "survey")
    lane = Lane(folder / "lane", raw_dir, seeds_dir)
    code, words = lane.refresh()
    if code != 0:
        raise SystemExit(f"The survey cannot be refreshed at all:\n{words}")
    lane = lane.copy(folder / "own")

    def wanted(kind: str, name: str) -> bool:
        return f"{kind}, {name}".startswith(only) and (kind, name) not in done

    sound = lane.copy(folder / "sound")
    faults = [fault for fault in all_faults(folder, seed) if wanted(fault.kind, fault.name)]
    built = None
    if any(fault.alone for fault in faults):
        for _ in range(lane.keep_releases):
            copy_release(lane)
        lane.new_edition()
        run = lane.start()
        run.wait_until(lambda: MOMENTS["before the release"].reached(lane, run))
        run.kill()
        built = lane.copy(folder / "built")
    missing = []
    for number, fault in enumerate(faults):
        if fault.alone:
            assert built is not None
            shutil.rmtree(lane.folder)
            lane = built.copy(lane.folder)
        try:
            outcome = try_out(lane, fault)
        except Missing as reason:
            missing.append(f"{fault.kind}, {fault.name}: {reason}")
            shutil.rmtree(lane.folder)
            lane = sound.copy(lane.folder)
            continue
        problems = list(outcome.problems)
        if fault.alone and (number + 1 == len(faults) or not faults[number + 1].alone):
            lane.recover("after the last release alone", "--force")
            problems += lane.problems[len(problems) :]
        log(Tried(fault.kind, fault.name, outcome.ended, outcome.words, problems))
        if problems:
            # The next fault meets a warehouse that is sound.
            shutil.rmtree(lane.folder)
            lane = sound.copy(lane.folder)
    if wanted("bits flipped", "16 bits of the warehouse, again and again"):
        counts, problems = flipped(sound.settings.warehouse, seed, flips)
        ended = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
        log(Tried("bits flipped", "16 bits of the warehouse, again and again", ended, "", problems))
    for name, attempt in {
        "two": lambda: several_at_once(lane, 2, without_dbt=False),
        "two, nothing parsed yet": lambda: several_at_once(lane, 2, without_dbt=True),
        "four, nothing parsed yet": lambda: several_at_once(lane, 4, without_dbt=True),
        "another one every few seconds": lambda: again_and_again(lane, 2),
    }.items():
        if wanted("refreshes at once", name):
            endings, problems = attempt()
            ended = ", ".join(f"{count} {how}" for how, count in sorted(Counter(endings).items()))
            log(Tried("refreshes at once", name, ended, "", problems))
    return missing


def copy_release(lane: Lane) -> None:
    """Another release of the same content, older than the current one, so that there is one to remove."""
    now = release.current(lane.settings)
    assert now is not None
    taken = len(release.releases(lane.settings))
    shutil.copytree(now, now.with_name(f"20200101T0000{taken:02}Z-00000000"))


def main() -> None:
    """Print the tables; exit with 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--flips", type=int, default=20, help="warehouses with flipped bits")
    parser.add_argument("--only", default="", help="only faults whose name begins so")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    parser.add_argument(
        "--log", type=Path, help="write every fault here, one JSON a line; what is there is not repeated"
    )
    arguments = parser.parse_args()
    stop_when_asked()
    lines = arguments.log.read_text().splitlines() if arguments.log and arguments.log.exists() else []
    tried = [Tried(**json.loads(line)) for line in lines]

    def log(new: Tried) -> None:
        tried.append(new)
        if arguments.log:
            with arguments.log.open("a") as file:
                file.write(json.dumps(asdict(new)) + "\n")
        said = f"{new.kind}, {new.name}: {new.ended}; {new.words}"
        print(said, *new.problems, sep="\n    ", file=sys.stderr, flush=True)

    done = {(fault.kind, fault.name) for fault in tried}
    with tempfile.TemporaryDirectory(dir=arguments.folder, ignore_cleanup_errors=True) as folder:
        missing = torture(Path(folder), arguments.seed, arguments.flips, arguments.only, done, log)
    kinds: dict[str, list[Tried]] = defaultdict(list)
    for fault in tried:
        kinds[fault.kind].append(fault)
    print(f"# What refreshes make of faults\n\n`python -m tests.torture.faults {' '.join(sys.argv[1:])}`\n")
    print("| fault | tried | refused | published | killed | failed after the switch | problems |")
    print("|---|---|---|---|---|---|---|")
    for kind, of_kind in kinds.items():
        ended = [fault.ended for fault in of_kind]
        counts = [
            sum(each == "refused" for each in ended),
            sum(each == "published" for each in ended),
            sum(each.startswith("killed") for each in ended),
            sum(each == "failed after the switch" for each in ended),
            sum(len(fault.problems) for fault in of_kind),
        ]
        print(f"| {kind} | {len(of_kind)} | " + " | ".join(map(str, counts)) + " |")
    print("\n| fault | how the refresh ended | what it said |\n|---|---|---|")
    for fault in tried:
        print(f"| {fault.kind}, {fault.name} | {fault.ended} | {fault.words.replace('|', '/')} |")
    for reason in missing:
        print(f"\nnot tried: {reason}")
    problems = [problem for fault in tried for problem in fault.problems]
    print(f"\n{len(tried)} faults, {len(problems)} problems")
    for problem in problems:
        print(f"\n{problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
