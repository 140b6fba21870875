"""How good the guesses of `cmhs wave init` are, on nine real cycles of another survey with a crosswalk by experts.

    .venv/bin/python benchmarks/guesses.py [FOLDER]

Each cycle of the Canadian Community Health Survey is drafted from the one before by labels, wording and answers
alone: the names of columns are kept from the guesser, since in this survey most of them stay. The truth is the
crosswalk that comes with the files; no threshold was set by it. Writes guesses.md; the test suite holds the result.

Belongs here: truth, counting and the table. Does not: any guessing (orchestration/wave/guess.py).
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import duckdb

from orchestration.ingest import land_wave
from orchestration.registry import RawFile, read_registry
from orchestration.wave.guess import Column, Guess, guess
from orchestration.wave.received import columns_of

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data" / "cchs"
REGISTRY = ROOT / "tests" / "cchs" / "registry.csv"
HEAD = """\
# How good are the guesses?

`cmhs wave init` drafts a wave from the one before. Here it drafts eight cycles of a survey of **real respondents**,
each from the cycle before, and is held to a crosswalk that experts made of it: the Canadian Community Health Survey,
extracts of 200 respondents and 24 to 44 columns a cycle. **Names of columns are kept from it**: it has labels, value
labels and how answers are distributed, and of the cycle before the experts' name of a variable, in the place of the
wording that a crosswalk of ours holds.

    python benchmarks/guesses.py

- **likely** is what the labels say without contradiction; **uncertain** is for a closer look.
- A guess is wrong where the experts put either of its columns together with another one, or with none.
- Columns that the experts' crosswalk leaves out are there, too, and can be taken for others; what is guessed of them
  alone is not judged.
- In 2015 the whole questionnaire was renumbered. The file of 2009 is plain text **without any labels**: it rests on
  answers alone, and so does 2011 as far as the names that the experts gave do not help.
- The thresholds were chosen by what they mean, before the first run (`orchestration/wave/guess.py` says what). After it
  columns without labels were made to count for less, which cost a right guess of 2009.
- 93 pairs whose labels are as steady as these say that the rules hold, not how often the labels of another survey
  would mislead them.
"""


@dataclass(frozen=True)
class Step:
    """A cycle drafted from the one before; columns of `wave` by their columns in `before`."""

    before: int
    wave: int
    truth: dict[str, str]
    guesses: list[Guess]

    def judged(self) -> Iterator[tuple[Guess, bool]]:
        """Each guess that the experts have a word on, and whether it is theirs."""
        back = {new: old for old, new in self.truth.items()}
        for guessed in self.guesses:
            if guessed.known in self.truth or guessed.column in back:
                yield guessed, self.truth.get(guessed.known) == guessed.column

    def right(self, certainty: str) -> int:
        """Right guesses of this certainty."""
        return sum(ok for guessed, ok in self.judged() if guessed.certainty == certainty)

    def wrong(self, certainty: str) -> int:
        """Wrong guesses of this certainty."""
        return sum(not ok for guessed, ok in self.judged() if guessed.certainty == certainty)


def experts(folder: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """By file and canonical variable: the column, and what the experts call it."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    with (folder / "crosswalk.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["dataset"], {})[row["canonical"]] = (row["source_variable"].lower(), row["label"])
    return found


def steps(folder: Path = DATA, registry: Path = REGISTRY, *, labels: bool = True) -> list[Step]:
    """Every cycle but the first, drafted from the one before; without labels as if no file had any."""
    files = [file for file in read_registry(registry) if file.role == "responses"]
    crosswalk = experts(folder)
    with duckdb.connect() as connection:
        for file in files:
            land_wave(connection, folder, [file])
        return [_step(connection, crosswalk, before, file, labels) for before, file in pairwise(files)]


def _step(
    connection: duckdb.DuckDBPyConnection,
    crosswalk: dict[str, dict[str, tuple[str, str]]],
    before: RawFile,
    file: RawFile,
    labels: bool,
) -> Step:
    theirs, ours = crosswalk[Path(before.path).stem], crosswalk[Path(file.path).stem]
    wording = {column: (label,) for column, label in theirs.values()}

    def nameless(wave: int) -> list[Column]:
        columns = columns_of(connection, wave, "responses")
        if not labels:
            columns = [replace(column, texts=(), options={}) for column in columns]
        return [replace(column, key=column.key.lower(), name="") for column in columns]

    known = nameless(before.wave)
    if labels:
        known = [replace(column, texts=column.texts + wording.get(column.key, ())) for column in known]
    truth = {theirs[canonical][0]: ours[canonical][0] for canonical in theirs.keys() & ours.keys()}
    return Step(before.wave, file.wave, truth, guess(known, nameless(file.wave)))


def table(found: Sequence[Step]) -> list[str]:
    """Lines of the table: one a cycle, and all together."""
    lines = [
        "| cycle | from | in both, by the experts | likely: right | likely: wrong | uncertain: right | "
        "uncertain: wrong | precision of likely | recall of likely | recall of both |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for step in found:
        counts = Counter(
            {
                "pairs": len(step.truth),
                **{f"{c} {s}": getattr(step, s)(c) for c in ("likely", "uncertain") for s in ("right", "wrong")},
            }
        )
        total += counts
        lines.append(_line(str(step.wave), str(step.before), counts))
    return [*lines, _line("all", "", total)]


def _line(cycle: str, before: str, counts: Counter[str]) -> str:
    likely, uncertain = counts["likely right"], counts["uncertain right"]
    cells = [
        cycle,
        before,
        counts["pairs"],
        likely,
        counts["likely wrong"],
        uncertain,
        counts["uncertain wrong"],
        _percent(likely, likely + counts["likely wrong"]),
        _percent(likely, counts["pairs"]),
        _percent(likely + uncertain, counts["pairs"]),
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def report(with_labels: Sequence[Step], without: Sequence[Step]) -> str:
    """The document: the tables, and what went wrong or was missed."""
    lines = [HEAD, *table(with_labels), "", *_failures(with_labels), "", "## Labels hidden", ""]
    lines.append("The same cycles as if no file had a label and nobody had named a variable: answers alone.")
    return "\n".join([*lines, "", *table(without), "", *_failures(without), ""])


def _failures(found: Sequence[Step]) -> list[str]:
    wrong = [
        f"{guessed.column} for {guessed.known} in {step.wave} ({guessed.certainty}, {guessed.score})"
        for step in found
        for guessed, ok in step.judged()
        if not ok
    ]
    missed = [
        f"{step.wave}: {', '.join(left)}"
        for step in found
        if (left := sorted(set(step.truth) - {guessed.known for guessed in step.guesses}))
    ]
    return [f"Wrong: {'; '.join(wrong) or 'none'}.", "", f"Not guessed at all: {'; '.join(missed) or 'none'}."]


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    document = report(steps(folder), steps(folder, labels=False))
    (ROOT / "benchmarks" / "guesses.md").write_text(document, encoding="utf-8")
    print(document)
