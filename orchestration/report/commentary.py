"""What is said of a series, made from the marts alone.

A difference across a break in a series is never called a change. Belongs here: sentences about changes. Does not:
which series are spoken of, or how figures are written (tables).
"""

from collections.abc import Sequence
from itertools import pairwise

from orchestration.report.tables import NO_BREAK, Row, decimal, percent, signed

Changes = dict[tuple[int, int], Row]


def blocks(series: Sequence[Row]) -> list[list[Row]]:
    """A series cut at its breaks: waves of one block can be compared, waves of two cannot."""
    found: list[list[Row]] = []
    for row in series:
        if not found or row["series_break_before"]:
            found.append([])
        found[-1].append(row)
    return found


def _size(change: Row) -> str:
    size = f"{signed(change['change'])} percentage points"
    if change["ci_low"] is None:
        return size
    return f"{size} (95{NO_BREAK}% interval {decimal(change['ci_low'])} to {decimal(change['ci_high'])})"


def of_change(before: Row, after: Row, change: Row) -> str:
    """How a share moved from one wave to another, as a sentence without its subject."""
    first, last = before["survey_year"], after["survey_year"]
    if not change["comparable"]:
        return f"cannot be compared between {first} and {last}: {change['comparability_note']}."
    if None in (change["change"], before["pct"], after["pct"]):
        return f"is hidden in {first} or {last}: {change['suppression_reason']}."
    shares = f"{percent(before['pct'])} in {first}", f"{percent(after['pct'])} in {last}"
    if not change["significant"]:
        verdict = "no test was possible" if change["p_value"] is None else "no significant change"
        return f"was {shares[0]} and {shares[1]}: {verdict}, {_size(change)}."
    return f"{'rose' if change['change'] > 0 else 'fell'} from {shares[0]} to {shares[1]}, a change of {_size(change)}."


def of_series(series: Sequence[Row], changes: Changes) -> list[str]:
    """How a share moved within each block of comparable waves, the latest first; then its last step, where that is
    another one. The first sentence lacks its subject.
    """  # fmt: skip
    said: list[str] = []
    for block in reversed(blocks(series)):
        before, after = block[0], block[-1]
        if change := changes.get((before["survey_year"], after["survey_year"])):
            sentence = of_change(before, after, change)
            said.append(f"Before the break it {sentence}" if after is not series[-1] and said else sentence)
        if after is series[-1] and len(block) > 2:
            before = block[-2]
            if change := changes.get((before["survey_year"], after["survey_year"])):
                said.append(f"In the last step it {of_change(before, after, change)}")
    return said


def of_breaks(series: Sequence[Row], changes: Changes) -> list[tuple[int, int, str]]:
    """The steps across a break, each as its two waves and why they cannot be compared."""
    found = []
    cut = blocks(series)
    for before, after in pairwise(cut):
        years = before[-1]["survey_year"], after[0]["survey_year"]
        change = changes.get(years)
        found.append((*years, str(change["comparability_note"]) if change else "the question was changed"))
    return found
