"""Readers of several versions of DuckDB, in loops, while releases are published: no error, and never a mixture.

    python -m tests.torture.readers --releases 50 [--folder DIRECTORY]

Each release carries its own number in texts of seven tables. Readers open `current` again and again, each in a process
of its own with its own DuckDB (installed below DIRECTORY); now and then one keeps its connection for some seconds. At
the end every connection must have seen one release, with the number of that release in all tables and with the same
content as every other connection. A client that opened the file read-write, keeps it open and writes is there for
the last release: it must not reach it. Prints a table of counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration import release
from tests.torture.lane import PATIENCE, Lane, stop_when_asked
from tests.torture.survey import make_survey, read_rows, review_deliveries, write_rows

VERSIONS = ("1.2.2", "1.4.4", "1.5.6", "2.0.0")
# Seconds between two reads, so that four readers leave something of the machine to the refresh.
PAUSE = 0.2
READER = Path(__file__).with_name("read_again_and_again.py")
WRITER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("create table marts.written_by_a_client as select range as n from range(100000)")
connection.execute("update marts.waves set wave_label = 'written by a client'")
print("written", flush=True)
sys.stdin.readline()
connection.execute("insert into marts.written_by_a_client values (1)")
connection.close()
"""


@dataclass(frozen=True)
class Reader:
    """A reader at work."""

    name: str
    process: "subprocess.Popen[str]"


def install(version: str, folder: Path) -> str | None:
    """Install a version of DuckDB in a folder of its own; the reason where that cannot be done."""
    target = folder / f"duckdb-{version}"
    if (target / "duckdb").is_dir():
        return None
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*pip, "--only-binary", ":all:", "--target", str(target), f"duckdb=={version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def start_reader(name: str, database: Path, stop: Path, packages: Path | None = None, pause: float = 0) -> Reader:
    """A reader with the DuckDB of a folder, or with the project's own."""
    process = subprocess.Popen(
        # Without the environment's own packages, so that no other DuckDB is found.
        [sys.executable, *(["-S"] if packages else []), str(READER), str(database), str(stop), str(pause)],
        env=os.environ | ({"PYTHONPATH": str(packages)} if packages else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Reader(name, process)


def findings_of(reader: Reader) -> dict[str, Any]:
    """What a reader that was told to stop has to say."""
    try:
        said, complaints = reader.process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        reader.process.kill()
        said, complaints = reader.process.communicate()
    if reader.process.returncode != 0:
        return {"version": reader.name, "reads": 0, "errors": [complaints.strip()[-1000:]], "seen": {}}
    findings: dict[str, Any] = json.loads(said)
    return findings


def mark(lane: Lane, number: int) -> None:
    """Write a number into the texts that the next release will carry."""

    def with_number(text: str) -> str:
        return f"{text.split(', edition ')[0]}, edition {number}"

    for seed, columns in {"waves": ["wave_label"], "question_map": ["wording"], "questions": ["label"]}.items():
        path = lane.seeds_dir / f"{seed}.csv"
        rows = read_rows(path)
        write_rows(path, [row | {column: with_number(row[column]) for column in columns} for row in rows])
    registry = lane.raw_dir / "registry.csv"
    write_rows(registry, [file | {"edition": str(number)} for file in read_rows(registry)])
    review_deliveries(lane.settings)


def publish(lane: Lane, number: int) -> str:
    """Publish a release with a number; its id."""
    mark(lane, number)
    code, words = lane.refresh()
    if code != 0:
        raise SystemExit(f"release {number} was not published:\n{words[-3000:]}")
    folder = release.current(lane.settings)
    assert folder is not None
    return folder.name


def problems_of(findings: Mapping[str, Any], published: Mapping[str, int], unmarked: Sequence[str] = ()) -> list[str]:
    """Everything a reader saw that it should not have seen; `unmarked` releases have no numbers in their texts."""
    name = f"DuckDB {findings['version']}"
    problems = [f"{name}: {error}" for error in findings["errors"]]
    if not findings["reads"]:
        problems.append(f"{name} read nothing")
    for release_id, observations in findings["seen"].items():
        if release_id not in published:
            problems.append(f"{name}: release {release_id} was never published")
            continue
        for observed in observations:
            for table, numbers in observed["editions"].items():
                if numbers != [str(published[release_id])] and (numbers or release_id not in unmarked):
                    problems.append(
                        f"{name}: {release_id} is release {published[release_id]}, but {table} is of {numbers}"
                    )
        if len(observations) > 1:
            problems.append(f"{name}: {release_id} had {len(observations)} contents")
    return problems


@contextmanager
def writing_client(database: Path) -> Iterator["subprocess.Popen[str]"]:
    """A program that opened a release read-write, wrote to it and keeps it open; it writes more at the end."""
    client = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    try:
        if client.stdout.readline().strip() != "written":
            raise SystemExit("the client could not open the release read-write")
        yield client
    finally:
        client.communicate("go on\n")


def torture_by_writing(lane: Lane, number: int) -> list[str]:
    """A release is published while a client has the one before open read-write; what was wrong."""
    problems = []
    before = release.current(lane.settings)
    assert before is not None
    # Through the link, as a client would.
    with writing_client(lane.settings.current_release / release.DATABASE):
        code, words = refresh_marked(lane, number)
        now = release.current(lane.settings)
        if code != 0 or now is None or now == before:
            return [f"while a client wrote to the last release, none was published:\n{words[-2000:]}"]
        problems += release.verify(now)
        if not list(before.glob("*.wal")):
            problems.append("the client's write-ahead log is not where it opened the file")
        problems += [f"{path} lies in the new release" for path in now.glob("*.wal")]
    problems += release.verify(now)
    if not release.verify(before):
        problems.append("what the client wrote into the old release is not seen by verify")
    code, words = refresh_marked(lane, number + 1)
    if code != 0:
        problems.append(f"after a client wrote to an old release, none was published:\n{words[-2000:]}")
    elif (folder := release.current(lane.settings)) is not None:
        problems += release.verify(folder)
    return problems


def refresh_marked(lane: Lane, number: int) -> tuple[int, str]:
    """A refresh that has a release with a number to publish."""
    mark(lane, number)
    return lane.refresh()


def torture(folder: Path, cache: Path, count: int) -> tuple[list[dict[str, Any]], dict[str, int], list[str], list[str]]:
    """Publish under readers: what they saw, the releases, what was wrong, and which versions are missing."""
    raw_dir, seeds_dir = make_survey(folder / "survey")
    lane = Lane(folder / "lane", raw_dir, seeds_dir)
    published = {publish(lane, 1): 1}
    stop, missing, readers = folder / "stop", [], []
    database = lane.settings.current_release / release.DATABASE
    for version in VERSIONS:
        if reason := install(version, cache):
            missing.append(f"DuckDB {version} could not be installed: {reason}")
        else:
            readers.append(start_reader(version, database, stop, cache / f"duckdb-{version}", PAUSE))
    problems = []
    try:
        for number in range(2, count + 1):
            release_id = publish(lane, number)
            published[release_id] = number
            print(f"{number} of {count}: {release_id}", file=sys.stderr, flush=True)
        time.sleep(3)
    finally:
        stop.touch()
        findings = [findings_of(reader) for reader in readers]
    problems = [problem for found in findings for problem in problems_of(found, published)]
    problems += torture_by_writing(lane, count + 1)
    return findings, published, problems, missing


def main() -> None:
    """Print the table; exit with 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=Path("data/benchmark"), help="takes the versions of DuckDB")
    arguments = parser.parse_args()
    stop_when_asked()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        findings, published, problems, missing = torture(Path(folder), arguments.folder.resolve(), arguments.releases)
    print(f"# What readers see during publications\n\n`python -m tests.torture.readers {' '.join(sys.argv[1:])}`\n")
    print("| reader | reads | releases seen | errors | mixtures |\n|---|---|---|---|---|")
    for found in findings:
        mixed = len(problems_of(found | {"errors": []}, published))
        print(
            f"| DuckDB {found['version']} | {found['reads']:,} | {len(found['seen'])} of {len(published)} "
            f"| {len(found['errors'])} | {mixed} |"
        )
    for reason in missing:
        print(f"\nnot tried: {reason}")
    print(f"\n{len(published)} releases, {(time.monotonic() - started) / 60:.0f} minutes")
    print(f"problems: {len(problems)}")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
