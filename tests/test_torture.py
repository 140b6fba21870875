"""A short version of what `make torture` does: faults of the machine, tried on real processes.

What is published stays whole, and the next run needs no help. The long version has hundreds of kills and faults.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Warehouse

from orchestration import release
from orchestration.gate import mark_changed
from orchestration.warehouse import connect
from tests.torture.at_once import refused_by_the_lock
from tests.torture.damage import flipped
from tests.torture.lane import Lane
from tests.torture.machine import KIB, dying, file_limit, no_space
from tests.torture.readers import findings_of, mark, problems_of, start_reader, writing_client
from tests.torture.trial import MOMENTS, START, Missing, start_release, try_out

OLDEST, OLDER = "20190101T000000Z-00000000", "20200101T000000Z-00000000"


@pytest.fixture
def lane(small: Warehouse) -> Lane:
    """A survey that is published, with raw files and crosswalk of its own."""
    return Lane(small.folder, small.raw_dir, small.seeds_dir, keep_releases=2)


@pytest.fixture
def built(lane: Lane) -> Lane:
    """A survey that is built and checked; what readers see are older releases."""
    releases = lane.settings.published_dir / "releases"
    [published] = releases.iterdir()
    published.rename(releases / OLDER)
    # One more than are kept, once there is a new one.
    shutil.copytree(releases / OLDER, releases / OLDEST)
    (lane.settings.published_dir / "journal.jsonl").unlink()
    lane.settings.current_release.unlink()
    lane.settings.current_release.symlink_to(f"releases/{OLDER}")
    with connect(lane.settings.warehouse) as warehouse:
        mark_changed(warehouse)
    return lane


@pytest.fixture
def stop(tmp_path: Path) -> Iterator[Path]:
    """The file at which readers end, whatever becomes of the test."""
    yield tmp_path / "stop"
    (tmp_path / "stop").touch()


def test_a_refresh_mends_what_a_killed_one_and_a_damaged_disk_left_while_readers_see_whole_releases(
    lane: Lane, stop: Path
) -> None:
    settings = lane.settings
    before = release.current(settings)
    assert before is not None
    reader = start_reader("own", settings.current_release / release.DATABASE, stop, pause=0.2)
    mark(lane, 2)
    first = lane.start()
    assert first.wait_for_lock(settings.state_dir), first.words

    code, words = lane.refresh()

    assert code == 1, first.words
    assert refused_by_the_lock(words, [first.pid]), words
    assert first.wait_until(lambda: MOMENTS["while dbt builds"].reached(lane, first))
    assert first.kill()
    lane.check(before.name, "killed")
    assert release.current(settings) == before

    settings.warehouse.write_bytes(b"not a database" + settings.warehouse.read_bytes()[14:100_000])
    for parsed in settings.state_dir.glob("parsed-*/*"):
        parsed.write_bytes(parsed.read_bytes()[:10_000])
    shutil.rmtree(settings.dagster_home)

    lane.recover("killed and damaged")

    after = release.current(settings)
    # A reader may keep its connection for three seconds.
    time.sleep(4)
    stop.touch()
    found = findings_of(reader)
    assert lane.problems == []
    assert after is not None
    assert problems_of(found, {after.name: 2, before.name: 1}, unmarked=[before.name]) == []
    assert before.name in found["seen"]
    assert after.name in found["seen"]


@pytest.mark.parametrize(
    ("name", "ended"),
    [
        ("between the two renames, after the journal", "killed, old release"),
        ("between the switch and the mark in the warehouse", "killed, new release"),
        ("while an old release is removed", "killed, new release"),
    ],
)
def test_a_process_that_dies_while_it_publishes_leaves_a_whole_release(built: Lane, name: str, ended: str) -> None:
    outcome = try_out(built, dying(name, alone=True))

    assert outcome.problems == []
    assert outcome.ended == ended


def test_a_release_that_does_not_fit_on_the_disk_is_not_published(built: Lane) -> None:
    try:
        outcome = try_out(built, no_space("the releases", START, left=1024 * KIB, alone=True))
    except Missing as reason:
        pytest.skip(f"a file system of limited size cannot be mounted here: {reason}")

    assert outcome.problems == []
    assert outcome.ended == "refused"


def test_a_release_whose_files_may_not_grow_is_not_published(built: Lane) -> None:
    outcome = try_out(built, file_limit(64 * KIB, alone=True))

    assert outcome.problems == []
    assert outcome.ended == "refused"


def test_a_client_that_writes_to_a_release_cannot_reach_the_next_one(built: Lane) -> None:
    before = release.current(built.settings)
    assert before is not None

    with writing_client(built.settings.current_release / release.DATABASE):
        code, words = start_release(built).end()
        after = release.current(built.settings)
        assert code == 0, words
        assert after is not None
        assert after != before
        assert [path.name for path in before.glob("*.wal")] == [f"{release.DATABASE}.wal"]

    assert release.verify(after) == []
    assert list(after.glob("*.wal")) == []
    assert release.verify(before) != []


def test_bits_that_flip_in_the_warehouse_are_noticed(lane: Lane) -> None:
    counts, problems = flipped(lane.settings.warehouse, seed=7, times=4)

    assert problems == []
    assert counts["set aside"] > 0
