"""Refreshes at once: one of them publishes, the others are told who holds the lock and what to do."""

import time

from orchestration import release
from tests.torture.damage import forget_parsed
from tests.torture.lane import TRACEBACK, Lane


def several_at_once(lane: Lane, number: int, *, without_dbt: bool) -> tuple[list[str], list[str]]:
    """Refreshes started together: how each ended, and what was wrong."""
    problems_before = len(lane.problems)
    what = f"{number} refreshes at once" + (", nothing parsed yet" if without_dbt else "")
    before = release.current(lane.settings)
    edition = lane.new_edition()
    if without_dbt:
        forget_parsed(lane)
    runs = [lane.start() for _ in range(number)]
    ended = [(run.pid, *run.end()) for run in runs]
    lane.check(before and before.name, what)
    published = [pid for pid, code, _ in ended if code == 0]
    # The second may have started so late that there was nothing left to do.
    if not published:
        lane.problems.append(f"{what}: nobody published:\n" + "\n".join(words[-1000:] for _, _, words in ended))
    if lane.published_edition() != edition:
        lane.problems.append(f"{what}: edition {edition} is not published")
    for pid, code, words in ended:
        if code != 0 and not refused_by_the_lock(words, [other for other, _, _ in ended if other != pid]):
            lane.problems.append(f"{what}: exit {code}, not for the lock:\n{words[-1000:]}")
    lane.recover(what)
    return ["published" if code == 0 else "refused" for _, code, _ in ended], lane.problems[problems_before:]


def again_and_again(lane: Lane, seconds: float) -> tuple[list[str], list[str]]:
    """While one refresh runs, another is started every few seconds: how they ended, and what was wrong."""
    problems_before = len(lane.problems)
    what = "a refresh every few seconds while one runs"
    before = release.current(lane.settings)
    edition = lane.new_edition()
    forget_parsed(lane)
    first = lane.start()
    first.wait_for_lock(lane.settings.state_dir)
    others = []
    while first.running:
        other = lane.start("--force")
        code, words = other.end()
        others.append("published" if code == 0 else "refused")
        if code != 0 and not refused_by_the_lock(words, [first.pid]):
            lane.problems.append(f"{what}: another one, exit {code}, not for the lock:\n{words[-1000:]}")
        time.sleep(seconds)
    code, words = first.end()
    if code != 0:
        lane.problems.append(f"{what}: the first was disturbed, exit {code}:\n{words[-1000:]}")
    lane.check(before and before.name, what)
    if lane.published_edition() != edition:
        lane.problems.append(f"{what}: edition {edition} is not published")
    lane.recover(what)
    return ["published" if code == 0 else "refused", *others], lane.problems[problems_before:]


def refused_by_the_lock(words: str, holders: list[int]) -> bool:
    """Whether a refusal names the process that holds the lock and what to do."""
    return (
        TRACEBACK not in words
        and "Another run is writing to" in words
        and any(f'"pid": {holder}' in words for holder in holders)
        and "Wait until it ends, or stop that process" in words
    )
