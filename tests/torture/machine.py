"""Faults of the machine: no space, a limit to files, no right to write, a clock that goes back, sudden death.

Each strikes before a refresh starts or at a moment of it, and is taken away afterwards.
"""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from tests.torture.lane import CMHS, Lane, Refresh
from tests.torture.trial import (
    MOMENTS,
    REFRESH,
    RELEASE,
    START,
    Fault,
    Missing,
    Moment,
    Planted,
    Strike,
    driven,
    start_release,
)

KIB, MIB = 2**10, 2**20
LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
NOBODY = 65534


# ---------------------------------------------------------------------------------------- no space


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"{command[0]}: {done.stderr.strip() or done.returncode}")


@contextmanager
def in_memory(folder: Path, size: int = 1024 * MIB) -> Iterator[None]:
    """A file system of its own, of limited size, for a folder with its content; back on the disk afterwards."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "torture", folder)
    except Missing:
        folder.rmdir()
        aside.rename(folder)
        raise
    try:
        shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
        yield
    finally:
        shutil.rmtree(aside)
        shutil.copytree(folder, aside, symlinks=True)
        _run("umount", "-l", folder)
        folder.rmdir()
        aside.rename(folder)


def used(folder: Path) -> int:
    """Bytes in use on the file system of a folder."""
    room = os.statvfs(folder)
    return (room.f_blocks - room.f_bfree) * room.f_frsize


FOLDERS: dict[str, Callable[[Lane], list[Path]]] = {
    "the warehouse": lambda lane: [lane.settings.warehouse.parent],
    "the releases": lambda lane: [lane.settings.published_dir],
    "Dagster": lambda lane: [lane.settings.dagster_home],
    "everything": lambda lane: [
        *FOLDERS["the warehouse"](lane),
        *FOLDERS["the releases"](lane),
        *FOLDERS["Dagster"](lane),
    ],
}


def no_space(of: str, moment: Moment, left: int = 0, *, alone: bool = False) -> Fault:
    """From a moment on no more than `left` bytes can be written to some folders."""

    @contextmanager
    def plant(lane: Lane) -> Iterator[Strike]:
        folders = FOLDERS[of](lane)

        def strike(run: Refresh) -> None:
            if run.wait_until(lambda: moment.reached(lane, run)):
                for folder in folders:
                    _run("mount", "-o", f"remount,size={max(used(folder) + left, 4 * KIB)}", folder)

        with ExitStack() as mounted:
            for folder in folders:
                mounted.enter_context(in_memory(folder))
            yield strike

    room = f", {left // KIB} KiB left" if left else ""
    of_what = "release alone: no space" if alone else "no space"
    return Fault(of_what, f"for {of} {moment.name}{room}", plant, alone=alone)


# ---------------------------------------------------------------------------------------- a limit to the size of files


def file_limit(size: int, *, alone: bool = False) -> Fault:
    """No file may grow beyond a size, from the start on."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return Fault(
        "release alone: file-size limit" if alone else "file-size limit",
        f"of {size // KIB} KiB from the start",
        lambda lane: nullcontext(),
        start=lambda lane: start_release(lane, before_start=limit) if alone else lane.start(before_start=limit),
        alone=alone,
    )


def file_limit_from(moment: Moment) -> Fault:
    """From a moment on no file may grow at all, neither of the refresh nor of its dbt."""

    @contextmanager
    def plant(lane: Lane) -> Iterator[Strike]:
        def strike(run: Refresh) -> None:
            if run.wait_until(lambda: moment.reached(lane, run)):
                for pid in [run.pid, *descendants(run.pid)]:
                    try:
                        resource.prlimit(pid, resource.RLIMIT_FSIZE, (KIB, KIB))
                    except ProcessLookupError:
                        continue

        yield strike

    return Fault("file-size limit", moment.name, plant)


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they did."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [*children, *(below for child in children for below in descendants(child))]


# ---------------------------------------------------------------------------------------- no right to write


def write_protected(of: str, moment: Moment = START, *, alone: bool = False) -> Fault:
    """A folder on a file system that is mounted read-only."""

    @contextmanager
    def plant(lane: Lane) -> Iterator[Strike]:
        folder = FOLDERS[of](lane)[0]
        with ExitStack() as mounted:

            def protect() -> None:
                # A mount of its own: what files are open below it for writing does not keep it from being read-only.
                _run("mount", "--bind", folder, folder)
                mounted.callback(_run, "umount", "-l", folder)
                _run("mount", "-o", "remount,bind,ro", folder)

            def strike(run: Refresh) -> None:
                if run.wait_until(lambda: moment.reached(lane, run)):
                    protect()

            if moment is START:
                protect()
                yield lambda run: None
            else:
                yield strike

    kind = "release alone: read-only" if alone else "read-only"
    return Fault(kind, f"the folder of {of}, {moment.name}", plant, alone=alone)


def somebody_elses_warehouse() -> Fault:
    """The refresh is run by a user who may read the warehouse file and not write to it."""

    @contextmanager
    def plant(lane: Lane) -> Iterator[None]:
        if os.getuid() != 0:
            raise Missing("only root can run a refresh as another user")
        owned = [*FOLDERS["everything"](lane), lane.temporary]
        lane.folder.parent.chmod(0o755)
        lane.temporary.mkdir(exist_ok=True)
        before = lane.settings.warehouse.stat()
        for folder in owned:
            _run("chown", "-R", f"{NOBODY}:{NOBODY}", folder)
        os.chown(lane.settings.warehouse, 0, 0)
        lane.settings.warehouse.chmod(0o444)
        try:
            yield None
        finally:
            for folder in owned:
                _run("chown", "-R", "0:0", folder)
            lane.settings.warehouse.chmod(before.st_mode)

    def start(lane: Lane) -> Refresh:
        as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", CMHS, "refresh")
        return lane.start(command=as_nobody)

    return Fault("read-only", "the warehouse belongs to somebody else", plant, start=start)


# ---------------------------------------------------------------------------------------- dying at a certain line

AFTER_SWITCH = """
whole = publish.switch
def switch_and_die(*arguments):
    whole(*arguments)
    die()
publish.switch = switch_and_die
"""
BETWEEN_LINK_AND_SWITCH = """
whole = Path.replace
def replace(self, target):
    if Path(target).name == 'current':
        die()
    return whole(self, target)
Path.replace = replace
"""
BETWEEN_SEAL_AND_RENAME = """
whole = Path.rename
def rename(self, target):
    if self.name.startswith('.building-'):
        die()
    return whole(self, target)
Path.rename = rename
"""
WHILE_REMOVING = """
whole = shutil.rmtree
def rmtree(path, *arguments, **options):
    if Path(path).name.startswith('.removing-'):
        next(iter(sorted(Path(path).rglob('*.csv')))).unlink()
        die()
    return whole(path, *arguments, **options)
shutil.rmtree = rmtree
"""
DYING = {
    "before the release is renamed into its place": BETWEEN_SEAL_AND_RENAME,
    "between the two renames, before the journal": "publish.record = die",
    "between the two renames, after the journal": "publish.switch = die",
    "between making the link and switching to it": BETWEEN_LINK_AND_SWITCH,
    "between the switch and the mark in the warehouse": AFTER_SWITCH,
    "between the mark and removing old releases": "publish.remove_superseded = die",
    "while an old release is removed": WHILE_REMOVING,
}


def dying(name: str, *, alone: bool) -> Fault:
    """The process dies at a certain line of the publication."""
    return Fault(
        "release alone: dying" if alone else "dying",
        name,
        lambda lane: nullcontext(),
        start=driven(DYING[name], RELEASE if alone else REFRESH),
        killed=True,
        alone=alone,
    )


# ---------------------------------------------------------------------------------------- the clock

SHIFTED = """
class Shifted(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(days={days})
transform.datetime = Shifted
"""
STANDING = """
class Standing(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime(2024, 2, 29, 12, tzinfo=tz)
transform.datetime = Standing
"""


def clock_faults(folder: Path) -> list[Fault]:
    """A clock that went back: since the last release, within a run, and to the very second of another release."""

    def by_a_future_release(lane: Lane, how: Callable[[Lane], Refresh]) -> Planted:
        # The last release is made on a clock that is ahead; the one that is tried, on the right one.
        code, words = how(lane).end()
        if code != 0:
            lane.problems.append(f"clock: a refresh on a clock that is ahead failed:\n{words[-1000:]}")
        lane.new_edition()
        return nullcontext()

    def with_library(stamp: str) -> Callable[[Lane], Refresh]:
        def start(lane: Lane) -> Refresh:
            if not LIBFAKETIME.exists():
                raise Missing("libfaketime is not installed")
            lane.temporary.mkdir(exist_ok=True)
            (folder / "clock").write_text(stamp)
            return lane.start(
                LD_PRELOAD=str(LIBFAKETIME), FAKETIME_TIMESTAMP_FILE=str(folder / "clock"), FAKETIME_NO_CACHE="1",
                # As the library mends monotonic waits, threads of Python would not wait for each other at all.
                FAKETIME_DONT_FAKE_MONOTONIC="1", FAKETIME_FORCE_MONOTONIC_FIX="0",
            )  # fmt: skip

        return start

    def back_within_the_run(lane: Lane) -> Planted:
        @contextmanager
        def plant() -> Iterator[Strike]:
            def strike(run: Refresh) -> None:
                if run.wait_until(lambda: MOMENTS["before dbt"].reached(lane, run)):
                    (folder / "clock").write_text("-400d")

            yield strike

        return plant()

    return [
        Fault("clock", "back by 400 days since the last release (the release's own clock)",
              lambda lane: by_a_future_release(lane, driven(SHIFTED.format(days=400), REFRESH)), mends_itself=True),
        Fault("clock", "back by 400 days since the last release (libfaketime)",
              lambda lane: by_a_future_release(lane, with_library("+400d")), mends_itself=True),
        Fault("clock", "back by 400 days within the run (libfaketime)", back_within_the_run, mends_itself=True,
              start=with_library("+0d")),
        Fault("clock", "a year behind (libfaketime)", lambda lane: nullcontext(), mends_itself=True,
              start=with_library("-400d")),
        Fault("clock", "at the very second of another release",
              lambda lane: by_a_future_release(lane, driven(STANDING, REFRESH)), start=driven(STANDING, REFRESH),
              mends_itself=True),
    ]  # fmt: skip
