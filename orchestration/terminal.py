"""What the command line looks like: progress while a refresh runs, and a refusal as advice.

Belongs here: layout. Does not: what is said (the steps, the refusals, docs/recovery.md).
"""

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from orchestration.errors import Refusal
from orchestration.progress import heard_by
from orchestration.recovery import Entry, entry_for

if TYPE_CHECKING:
    from collections.abc import Callable

# Of a long list a terminal shows so many; a file or a pipe gets all of it.
SHOWN = 5


def is_terminal(stream: object = None) -> bool:
    """Whether a stream, by default standard output, is a terminal that can write a line anew."""
    isatty = getattr(stream or sys.stdout, "isatty", lambda: False)
    return isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


@contextmanager
def progress(*, quiet: bool) -> "Iterator[Callable[[str], None]]":
    """Show progress inside the block; gives what takes a finished line.

    On a terminal one more line, written anew, shows what is being done and how much of it is done.
    """
    if quiet:
        yield lambda line: None
    elif not is_terminal():
        yield lambda line: click.echo(f"  {line}")
    else:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        # Dagster sends standard output through a pipe while a step runs, which could not be written to anew.
        terminal = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding)
        console = Console(file=terminal, highlight=False)
        spinner = Spinner("dots", Text("starting", no_wrap=True, overflow="ellipsis"))

        def told(doing: str, done: int, of: int) -> None:
            count = f": {done:,} of {of:,}" if of else ""
            spinner.update(text=Text(f"{doing}{count}", no_wrap=True, overflow="ellipsis"))

        with (
            terminal,
            Live(
                spinner,
                console=console,
                transient=True,
                refresh_per_second=4,
                redirect_stdout=False,
                redirect_stderr=False,
            ),
            heard_by(told),
        ):
            yield lambda line: console.print(f"  {line}", markup=False, soft_wrap=True)


def refusal_in_words(refusal: Refusal | OSError, footer: Sequence[str] = ()) -> str:
    """A refusal as it is printed: what is to be done, the most important first, and why; then the footer."""
    width = shutil.get_terminal_size().columns if is_terminal(sys.stderr) else 0
    if not isinstance(refusal, Refusal):
        refusal = Refusal(str(refusal))
    parts = [_wrapped(f"REFUSED: {refusal.headline}", 0, width)]
    sections: list[str] = []
    for cause in refusal.causes or [refusal]:
        if refusal.causes:
            parts.append(_wrapped(cause.headline, 0, width))
        for entry, problems in _by_what_to_do(cause):
            lines = []
            # Outside a run a refusal says itself what to do.
            if entry and refusal.causes:
                lines.append(_wrapped(f"{_capital(entry.happened)}. What to do: {entry.to_do}.", 2, width))
            shown = problems[:SHOWN] if width else problems
            lines += [_wrapped(f"- {problem}", 4 if lines else 2, width) for problem in shown]
            if left := len(problems) - len(shown):
                more = f"- and {left} more; all of them: cmhs refresh --json, or the run in cmhs ui"
                lines.append(_wrapped(more, 4, width))
            parts.append("\n".join(lines))
            if entry and entry.section not in sections:
                sections.append(entry.section)
    footer = [*(f"More: docs/recovery.md, {section}." for section in sections), *footer]
    parts.append("\n".join(_wrapped(line, 0, width) for line in footer))
    return "\n\n".join(part for part in parts if part)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _by_what_to_do(refusal: Refusal) -> list[tuple[Entry | None, list[str]]]:
    """The problems of a refusal by what is to be done about them, in the order of the recovery page."""
    groups: dict[Entry | None, list[str]] = {}
    for problem in refusal.problems:
        groups.setdefault(entry_for(problem, refusal.headline), []).append(problem)
    if not groups:
        groups[entry_for(refusal.headline)] = []
    return sorted(groups.items(), key=lambda group: group[0].position if group[0] else 0)


def _wrapped(text: str, indent: int, width: int) -> str:
    """A text as wide as the terminal, its lines after the first set in; as it is where there is no terminal."""
    if not width:
        return " " * indent + text
    # What was found begins a line of its own.
    lines = re.sub(r"; (?=\d+ of \d+ rows differ)", "\n", text).splitlines()
    return "\n".join(
        textwrap.fill(
            line.strip(),
            max(width, 40),
            initial_indent=" " * (indent if number == 0 else indent + 4),
            subsequent_indent=" " * (indent + 2 if number == 0 else indent + 6),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for number, line in enumerate(lines)
    )
