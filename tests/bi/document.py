"""docs/bi.md as tests read it: its code, which they run, and its questions with their answers.

    python -m tests.bi.document [RELEASE]

writes the answers of a release (the current one) into the document.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestration import release
from orchestration.settings import ROOT, Settings

DOCUMENT = ROOT / "docs" / "bi.md"
# Where the document takes the checkout to be, in connections that need an absolute path.
CHECKOUT = "/srv/cmhs"
# A query and, below it, the table that answers it.
ANSWERED = re.compile(r"```sql\n(?P<sql>[\s\S]*?)```\n\n*(?P<answer>(?:\|.*\n)*)\n*")


def section(title: str) -> str:
    """What stands below a heading of the second level, up to the next one."""
    parts = re.split(r"^## (.+)$", DOCUMENT.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


def code(title: str, language: str) -> str:
    """The code of one language below a heading, as one text."""
    found = re.findall(rf"```{language}\n(.*?)```", section(title), re.S)
    assert found, f"{DOCUMENT.name} has no {language} below {title}"
    return "\n".join(found)


def questions() -> list[tuple[str, str]]:
    """The queries of the document with the answers that it shows."""
    return [(match["sql"], match["answer"]) for match in ANSWERED.finditer(section("Questions"))]


def answer(folder: Path, sql: str) -> str:
    """What a query gives on a release, as a table of markdown."""
    with release.open_release(folder) as connection:
        cursor = connection.execute(sql)
        names = [column[0] for column in cursor.description or []]
        return _table([names, ["---"] * len(names), *cursor.fetchall()])


def _table(rows: Sequence[Sequence[Any]]) -> str:
    shown = [["" if value is None else str(value).replace("|", "\\|") for value in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in shown)


def main() -> None:
    """Write the answers of a release into the document."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else Settings.from_environment().current_release
    answered = ANSWERED.sub(
        lambda match: f"```sql\n{match['sql']}```\n\n{answer(folder, match['sql'])}\n",
        DOCUMENT.read_text(encoding="utf-8"),
    )
    DOCUMENT.write_text(answered.rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
