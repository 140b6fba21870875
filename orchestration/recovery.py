"""What to do about a refusal, as docs/recovery.md says it: the page is looked up by the words of the message.

Belongs here: reading that page. Does not: any advice of its own.
"""

import re
from dataclasses import dataclass
from functools import cache

from orchestration.settings import ROOT

PAGE = ROOT / "docs" / "recovery.md"


@dataclass(frozen=True)
class Entry:
    """A row of a table of the page: in which section, what happened, what to do. Rows that come first matter more."""

    position: int
    section: str
    happened: str
    to_do: str


@cache
def _entries() -> list[tuple[re.Pattern[str], Entry]]:
    """Each message that the page knows, with its row; in the page `...` stands for a name or a number."""
    entries = []
    section = ""
    for position, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines()):
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| ") and len(cells := line.strip("| ").split(" | ")) == 3:
            happened, to_do = (_plain(cell) for cell in cells[1:])
            entry = Entry(position, section, happened, to_do)
            for words in re.findall(r"`([^`]+)`", cells[0]):
                pattern = ".*?".join(re.escape(part) for part in words.split("..."))
                entries.append((re.compile(pattern, re.DOTALL), entry))
    return entries


def _plain(markdown: str) -> str:
    """The words of a cell: code as it is typed, a link by its text and where it leads."""
    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"\1 (docs/\2)", markdown).replace("`", "")


def entry_for(*messages: str) -> Entry | None:
    """The row of the page for the first of these messages that it knows."""
    for message in messages:
        for pattern, entry in _entries():
            if pattern.match(message):
                return entry
    return None
