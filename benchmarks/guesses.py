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


def steps(folder: Path = DATA, registry: Path = REGISTRY) -> list[Step]:
    """Every cycle but the first, drafted from the one before."""
    files = [file for file in read_registry(registry) if file.role == "responses"]
    crosswalk = experts(folder)
    with duckdb.connect() as connection:
        for file in files:
            land_wave(connection, folder, [file])
        return [_step(connection, crosswalk, before, file) for before, file in pairwise(files)]


def _step(
    connection: duckdb.DuckDBPyConnection,
    crosswalk: dict[str, dict[str, tuple[str, str]]],
    before: RawFile,
    file: RawFile,
) -> Step:
    theirs, ours = crosswalk[Path(before.path).stem], crosswalk[Path(file.path).stem]
    wording = dict(theirs.values())
    known = [
        replace(column, name="", texts=column.texts + ((wording[column.key],) if column.key in wording else ()))
        for column in map(_nameless, columns_of(connection, before.wave, "responses"))
    ]
    columns = [_nameless(column) for column in columns_of(connection, file.wave, "responses")]
    truth = {theirs[canonical][0]: ours[canonical][0] for canonical in theirs.keys() & ours.keys()}
    return Step(before.wave, file.wave, truth, guess(known, columns))


def _nameless(column: Column) -> Column:
    return replace(column, key=column.key.lower(), name="")


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


if __name__ == "__main__":
    found = steps(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
    for step in found:
        for guessed, ok in step.judged():
            if not ok or "-v" in sys.argv:
                print(step.wave, guessed.certainty, guessed.score, guessed.known, guessed.column, guessed.evidence)
        print(step.wave, "missed", set(step.truth) - {g.known for g, ok in step.judged() if ok})
    print("\n".join(table(found)))
