"""A fault, the moment of a refresh at which it strikes, and what comes of it: one trial."""

import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from orchestration import release
from tests.torture.lane import TRACEBACK, Lane, Refresh


class Missing(Exception):
    """This machine cannot make a fault; the reason."""


# ---------------------------------------------------------------------------------------- moments of a refresh


@dataclass(frozen=True)
class Moment:
    """A moment of a refresh, and how it is seen from outside."""

    name: str
    reached: Callable[[Lane, Refresh], bool]


def _said(words: str) -> Callable[[Lane, Refresh], bool]:
    return lambda lane, run: words in run.words


def _dbt_is_busy(lane: Lane, run: Refresh) -> bool:
    # A table in the middle of the project was asked for in this run.
    asked = lane.settings.dbt_target_dir / "run" / "cmhs" / "models" / "intermediate" / "int_cube.sql"
    return asked.exists() and asked.stat().st_mtime > run.started_at


def _release_is_begun(lane: Lane, run: Refresh) -> bool:
    return any((lane.settings.published_dir / "releases").glob(".building-*"))


START = Moment("at the start", lambda lane, run: True)
_ALL = [
    START,
    Moment("before landing", _said("registry:")),
    Moment("between two waves", _said("wave 2013:")),
    Moment("before dbt", _said("wave 2014:")),
    Moment("while dbt builds", _dbt_is_busy),
    Moment("after dbt", _said("dbt:")),
    Moment("before the release", _said("Great Expectations:")),
    Moment("while the release is made", _release_is_begun),
    Moment("after the switch", _said("published ")),
]
MOMENTS = {moment.name: moment for moment in _ALL}


# ---------------------------------------------------------------------------------------- a fault and what came of it

# What a fault does: planted when entered, gone when left. It gives what is to be done to the running refresh.
Strike = Callable[[Refresh], None]
Planted = AbstractContextManager[Strike | None]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, how it is done, and whether a refresh must get over it by itself."""

    kind: str
    name: str
    plant: Callable[[Lane], Planted]
    mends_itself: bool = False
    start: Callable[[Lane], Refresh] | None = None
    killed: bool = False
    # Tried on the release alone, of a warehouse that is built and checked: all that it can meet.
    alone: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a fault."""

    fault: Fault
    ended: str
    words: str
    problems: list[str]


def reason_in(words: str) -> str:
    """The first reason of a refusal, without what is other each time."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    refused = next((i for i, line in enumerate(lines) if line.startswith("REFUSED")), None)
    if refused is None:
        return lines[-1][:200] if lines else ""
    reason = " ".join(lines[refused : refused + 2])
    reason = re.sub(r"/\S*/", "", reason)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{8}T\d{6}Z-[0-9a-f]{8}", "...", reason)[:200]


# The release alone, as the UI's button starts it, without Dagster around it.
RELEASE = """
import sys
from orchestration.errors import Refusal
from orchestration.publish import publish
from orchestration.settings import Settings
settings = Settings.from_environment()
settings.export()
settings.prepare()
try:
    publish(settings)
except Exception as error:
    # A step of Dagster catches everything.
    sys.exit(f"REFUSED: {error}" if isinstance(error, (Refusal, OSError)) else f"REFUSED: {type(error).__name__}")
"""
REFRESH = """
import sys
from orchestration.cli import program
sys.argv[1:] = ['refresh']
program()
"""


def start_release(lane: Lane, **options: Any) -> Refresh:
    """Start the release alone on what was built."""
    return lane.start(command=(sys.executable, "-c", RELEASE), **options)


def try_out(lane: Lane, fault: Fault) -> Outcome:
    """One refresh, or release, with a fault, then one without a hand being lent."""
    problems_before = len(lane.problems)
    what = f"{fault.kind}, {fault.name}"
    before = release.current(lane.settings)
    if not fault.alone:
        lane.new_edition()
    with fault.plant(lane) as strike:
        edition = lane.registered_edition()
        run = (fault.start or (start_release if fault.alone else Lane.start))(lane)
        try:
            if strike is not None:
                strike(run)
        except Missing:
            run.kill()
            raise
        code, words = run.end()
    lane.check(before and before.name, what)
    now = release.current(lane.settings)
    published = now != before and lane.published_edition() == edition
    if code == 0:
        ended = "published" if published else "said it published, but did not"
    elif code < 0:
        ended = "killed, " + ("new" if published else "old") + " release"
    else:
        ended = "failed after the switch" if published else "refused"
    if code == 0 and not published:
        lane.problems.append(f"{what}: exit 0, but edition {edition} is not published")
    if published and "Nothing was published" in words:
        lane.problems.append(
            f"{what}: it says that nothing was published, but the release was switched:\n{words[-1000:]}"
        )
    if TRACEBACK in words:
        lane.problems.append(f"{what}: a traceback:\n{words[-1000:]}")
    if code < 0 and not fault.killed:
        lane.problems.append(f"{what}: ended by signal {-code}:\n{words[-1000:]}")
    if code > 0 and "REFUSED" not in words:
        lane.problems.append(f"{what}: failed without a refusal:\n{words[-1000:]}")
    if fault.mends_itself and code != 0:
        lane.problems.append(f"{what}: did not mend itself:\n{words[-1000:]}")
    if fault.alone:
        code_afterwards, again = start_release(lane).end()
        if code_afterwards != 0 or release.current(lane.settings) == before:
            lane.problems.append(f"{what}: the release cannot be made afterwards:\n{again[-1000:]}")
        elif found := lane.left_over():
            lane.problems.append(f"{what}: left over after the next release: {', '.join(found)}")
        lane.check(before and before.name, f"{what}, after the next release")
    else:
        lane.recover(what)
    return Outcome(fault, ended, "" if code == 0 else reason_in(words), lane.problems[problems_before:])


def driven(code: str, then: str) -> Callable[[Lane], Refresh]:
    """A refresh, or a release, by a program that replaces something in it."""
    driver = (
        "import os, shutil, signal\n"
        "from datetime import UTC, datetime, timedelta\n"
        "from pathlib import Path\n"
        "from orchestration import gate, publish, release, transform\n"
        "def die(*arguments, **options):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{code}\n{then}"
    )
    return lambda lane: lane.start(command=(sys.executable, "-c", driver))
