"""What a section of the page is made of.

Belongs here: the shapes that the template knows. Does not: what stands in them (findings, context).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.report import charts
from orchestration.report.tables import Table

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Chart:
    """A chart with its title. `wide` is shown where there is room, `narrow` where there is none; one without `wide`
    is the same everywhere.
    """  # fmt: skip

    title: str
    note: str
    narrow: "Markup"
    wide: "Markup | None" = None


@dataclass(frozen=True)
class Part:
    """A part of a section, with a heading of its own where it has one: what it is about, its charts, what they show
    (`points`: of what, and what of it), its tables. One that is `beside` has its chart at the side.
    """  # fmt: skip

    heading: str = ""
    lead: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    points: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    beside: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    name: str
    title: str
    parts: Sequence[Part]

    @property
    def searchable(self) -> bool:
        """Whether it has tables that one looks for a name in."""
        return any(table.sortable for part in self.parts for table in part.tables)


def chart(title: str, note: str, alternative: str, narrow: charts.Spec, wide: charts.Spec | None = None) -> Chart:
    """A chart, drawn for one width or for two."""
    return Chart(
        title, note, charts.drawn(narrow, alternative), charts.drawn(wide, alternative) if wide is not None else None
    )
