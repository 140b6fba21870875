"""Tables of a page, and figures as a reader sees them.

Belongs here: what a table is, how a number is written. Does not: which figures stand in one.
"""

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.release import defused

Row = Mapping[str, Any]
HIDDEN = "hidden"
MINUS, NO_BREAK = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def decimal(value: float, digits: int = 1) -> str:
    """A number with so many decimals; zero has no sign."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS) if any(digit in "123456789" for digit in text) else text.lstrip("-")


def percent(value: float) -> str:
    """A share in percent, in words."""
    return f"{decimal(value)}{NO_BREAK}%"


def signed(value: float, digits: int = 1) -> str:
    """A change with its sign; zero has none."""
    text = decimal(value, digits)
    return f"+{text}" if value > 0 and any(digit in "123456789" for digit in text) else text


def interval(row: Row, digits: int = 1) -> str:
    """The 95 % interval of a row; empty where there is none."""
    if row["ci_low"] is None or row["ci_high"] is None:
        return ""
    return f"{decimal(row['ci_low'], digits)} to {decimal(row['ci_high'], digits)}"


def told(row: Row) -> str:
    """A share with its interval and its base, in words."""
    between = interval(row)
    return f"{percent(row['pct'])}{f' (95{NO_BREAK}% interval {between})' if between else ''}, base {row['base']:,}"


def slug(*identifiers: str) -> str:
    """A name for a file and a link: the ids where they are plain, otherwise with a digest of what is not."""
    text = "_".join(identifiers)
    safe = re.sub(r"[^A-Za-z0-9_]+", "-", text)
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Cell:
    """What one cell shows: the lines of `notes` stand below `text`, `order` is what the cell is sorted by."""

    text: str
    notes: Sequence[str] = ()
    number: bool = False
    order: float | str | None = None


def words(value: object) -> Cell:
    """A cell of text; nothing is an empty one."""
    return Cell("" if value is None else str(value))


def count(value: float | None) -> Cell:
    """A cell with a whole number; nothing is hidden."""
    return Cell(HIDDEN, number=True) if value is None else Cell(f"{value:,.0f}", number=True, order=value)


def figure(value: float | None, digits: int = 1, absent: str = "") -> Cell:
    """A cell with a number, or with what is said where there is none."""
    return Cell(absent, number=True) if value is None else Cell(decimal(value, digits), number=True, order=value)


def share(row: Row | None, key: str = "pct", digits: int = 1, notes: Sequence[str] = ()) -> Cell:
    """A cell with an estimate over its interval and other notes; hidden where the estimate is, a dash without a row."""
    if row is None:
        return Cell("\N{EN DASH}", number=True)
    if row[key] is None:
        return Cell(HIDDEN, number=True)
    return Cell(decimal(row[key], digits), [interval(row, digits), *notes], number=True, order=row[key])


def based(row: Row | None) -> Cell:
    """A cell with a share, its interval and its base, and whether it may be compared with the wave before."""
    if row is None or row["pct"] is None:
        return share(row)
    broken = ["break before"] if row.get("series_break_before") else []
    return share(row, notes=[f"base {row['base']:,}", *broken])


@dataclass(frozen=True)
class Table:
    """A table with its caption, and the rows of data that its download holds.

    The first cell of a row is its header. `name` is unique in the page and names the download, where there is `data`.
    """

    name: str
    caption: str
    head: Sequence[str]
    body: Sequence[Sequence[Cell]]
    data: Sequence[Row] = ()
    notes: Sequence[str] = ()
    sortable: bool = False
    # Label of a <details> that the table is in; empty for one that is open.
    folded: str = ""

    @property
    def numbers(self) -> set[int]:
        """Positions of the columns with numbers."""
        columns = zip(*self.body, strict=True)
        return {position for position, column in enumerate(columns) if any(cell.number for cell in column)}

    @property
    def named(self) -> bool:
        """Whether its rows have long names."""
        return any(len(row[0].text) > 20 for row in self.body)

    def write(self, folder: Path) -> None:
        """Write the data as a CSV file of this name."""
        with (folder / f"{self.name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(self.data[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: defused(value) for name, value in row.items()} for row in self.data)


def why_hidden(rows: Iterable[Row]) -> list[str]:
    """One note for each reason why rows are hidden."""
    reasons = sorted({str(row["suppression_reason"]) for row in rows if row["suppressed"]})
    return [f"{HIDDEN}: {reason}." for reason in reasons]
