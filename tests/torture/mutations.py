"""Hostile and broken input: thousands of small changes of what a refresh reads, and what becomes of each.

    python -m tests.torture.mutations --count 2000 --seed 2017 --through-refresh 50 --out FILE.md

Each mutation begins from a survey that is published. A changed raw file is first met by the registry as it was, which
has to refuse it; then it is registered as a new edition. What a refresh makes of it is told by `in_process`; some are
also put through the real command. `--only N` repeats one mutation and shows what it said.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any

import duckdb
import pyreadstat

from orchestration import release
from orchestration.errors import Refusal
from orchestration.registry import read_registry, verify_files
from orchestration.settings import ROOT, Settings

from .changes import KINDS, Change, Kind, Survey
from .in_process import InProcess, base_settings, restore
from .survey import make_survey, review_deliveries

LONGEST_MESSAGE = 20_000
LONGEST_RUN = 120  # seconds
ATTEMPTS = 20
# What is raised where a format cannot hold a text or number.
CANNOT_HOLD = (UnicodeEncodeError, OverflowError, pyreadstat.PyreadstatError, pyreadstat.ReadstatError)
UNDETECTABLE = "figures moved, nothing blocked"
CRASH = "CRASH"
OUTCOMES = (
    "blocked at reading",
    "blocked by a check",
    "blocked: a model could not be built",
    "blocked by an expectation",
    "accounted for in exclusions",
    "only texts moved",
    "no effect",
    UNDETECTABLE,
    CRASH,
)
BLOCKED = {
    "reading": OUTCOMES[0],
    "a check": OUTCOMES[1],
    "a model": OUTCOMES[2],
    "an expectation": OUTCOMES[3],
}
# What the release step may still refuse where every check passed: it compares with the releases before.
BY_THE_RELEASE = "The new release does not go with what is in print."

# Why nothing tells that a change is one, by kind; other kinds that go through are to be looked at.
VALID = "a valid code for another: nothing else says what was answered; figures in print and maximum_change bound it"
PERSONS = "fewer, more or other persons: without a frame of persons nothing says who there are; response rates bound it"
JUDGED = "a judgement of the crosswalk, which only a reviewer can make"
WHY = {
    "SPSS file: bits flipped": VALID,
    "Stata file: bits flipped": VALID,
    "text file: bits flipped": VALID,
    "table: one valid answer changed to another valid one": VALID,
    "table: valid codes of a whole question exchanged for others": VALID,
    "table: everybody gives the same valid answer": VALID,
    "table: data of two columns swapped in some rows": VALID,
    "table: names of two columns swapped": VALID + "; the two have the same codes",
    "table: an odd number for an answer": VALID,
    "table: unknown codes": VALID,
    "table: all codes of a question one higher": VALID,
    "table: all codes of a key variable one higher": "every age or number is as believable as its neighbour",
    "table: an odd number for age, gender or outcome": "every age or number is as believable as its neighbour",
    "table: rows dropped": PERSONS,
    "table: rows repeated": PERSONS,
    "table: rows repeated under new record numbers": PERSONS,
    "table: record numbers altered": PERSONS,
    "table: a trust's code altered": "a trust by another code; only releases before know its code",
    "text file: cut short": PERSONS,
    "two codes of a question exchanged": "no value label tells what the code means",
    "codes of a question one higher": "no value label tells what the code means",
    "another treatment or value of a code": JUDGED,
    "an odd value for yes or no": JUDGED,
    "an id of another row": JUDGED,
    "a number one higher or lower": JUDGED,
    "an odd number for a number": JUDGED,
    "a row dropped": "a fact that no other row needs: a figure in print, a merger, a line of the guideline",
    "file: header only": "a seed that a survey need not fill",
    "file: cut short": "a fact that no other row needs: a figure in print, a merger, a line of the guideline",
    "cell blanked": "a cell that may be blank",
    "table: blank for age, gender or outcome": "a person drawn whose age or gender nobody knows, as there are some",
}


@dataclass
class Mutation:
    """One change and what became of it. `faults` are what must not be: a crash, a message without a place, ..."""

    number: int
    target: str
    kind: str
    what: str
    outcome: str
    untouched: str = ""  # what the registry as it was made of a changed raw file: refused or let through
    history: bool = False
    message: str = ""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


# -------------------------------------------------------------------------------------------- one mutation


def change_of(settings: Settings, base: Settings, number: int, seed: int) -> tuple[Kind, Change, Survey] | None:
    """Make change `number` to the files of the base; None where the survey has nothing that it could be made of.

    The kinds take turns. A changed raw file is not registered yet.
    """
    chosen = KINDS[number % len(KINDS)]
    survey = Survey(settings.raw_dir, settings.seeds_dir)
    for attempt in range(ATTEMPTS):
        restore(settings, base)
        before = contents(survey)
        try:
            change = chosen.make(survey, Random(f"{seed}/{number}/{attempt}"))
        except CANNOT_HOLD:
            continue
        if change is not None and contents(survey) != before:
            return chosen, change, survey
    return None


def contents(survey: Survey) -> dict[Path, bytes | str]:
    """Every file with its bytes, links with where they lead."""
    return {
        path: str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else "other"
        for folder in (survey.raw_dir, survey.seeds_dir)
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


class Bench:
    """One process's place for making mutations and seeing what becomes of them."""

    def __init__(self, folder: Path, base: Settings, seed: int) -> None:
        self.seed = seed
        self.refresh = InProcess(folder, base)
        self.base = base
        self.of_persons = cells_of_persons(base)

    def mutate(self, number: int) -> Mutation | None:
        """Make mutation `number` and say what became of it."""
        made = change_of(self.refresh.settings, self.base, number, self.seed)
        if made is None:
            return None
        chosen, change, survey = made
        untouched = ""
        if chosen.target == "raw" and not survey.agrees(change.places[0]):
            untouched = what_the_registry_says(survey)
            survey.register(change.places[0])
        outcome = self.refresh.run()
        name = BLOCKED.get(outcome.blocked_by, "no effect")
        if outcome.crash:
            name = CRASH
        elif not outcome.blocked_by and outcome.moved:
            accounted = "exclusions" in outcome.moved
            name = OUTCOMES[4] if accounted else UNDETECTABLE if "figures" in outcome.moved else OUTCOMES[5]
        return Mutation(
            number,
            chosen.target,
            chosen.name,
            change.what,
            name,
            untouched,
            "history" in outcome.moved,
            outcome.crash or outcome.message,
            self._faults(change, outcome.crash, outcome.message)
            + (["let through"] if untouched == "let through" else []),
            outcome.seconds,
        )

    def _faults(self, change: Change, crash: str, message: str) -> list[str]:
        """What must not be of any mutation."""
        faults = []
        if crash:
            faults.append(f"crash: {crash.strip().splitlines()[-1][:200]}")
        if not message:
            return faults
        if len(message) > LONGEST_MESSAGE:
            faults.append(f"a message of {len(message):,} characters")
        if "Traceback" in message:
            faults.append("a traceback in the message")
        if not any(place and place in message for place in change.places):
            faults.append("names no place")
        quoted = [text for text in change.planted if text in message]
        quoted += [cell for cell in self.of_persons if cell in message and stands_alone(cell, message)]
        if quoted:
            faults.append(f"quotes what stands in the file: {quoted[0][:40]!r}")
        return faults


def what_the_registry_says(survey: Survey) -> str:
    """What becomes of the raw files with the registry as it is."""
    try:
        verify_files(survey.raw_dir, read_registry(survey.registry))
    except Refusal:
        return "refused"
    return "let through"


def cells_of_persons(base: Settings) -> list[str]:
    """What the base's files say of persons, where it is more than a code; not the trusts and their names.

    Nor what the crosswalk, which is no secret, says in a cell of its own.
    """
    with duckdb.connect(str(base.warehouse), read_only=True) as warehouse:
        about_trusts = {
            name.lower()
            for (name,) in warehouse.execute(
                "select raw_column from crosswalk.key_variables where variable in ('trust', 'trust_name')"
            ).fetchall()
        }
        frame = warehouse.execute("select * exclude (survey_year, _row) from raw.responses").df()
    cells = {
        cell for column in frame if column.lower() not in about_trusts for cell in frame[column].dropna().astype(str)
    }
    crosswalk = Survey(base.raw_dir, base.seeds_dir)
    public = {cell for seed in crosswalk.seed_names() for row in crosswalk.seed(seed).rows for cell in row}
    return sorted(cell for cell in cells - public if len(cell) > 3)


def stands_alone(cell: str, message: str) -> bool:
    """Whether a cell is in a message as itself and not as a part of another word or number."""
    return re.search(rf"(?<![\w.,-]){re.escape(cell)}(?![\w,-])", message) is not None


# -------------------------------------------------------------------------------------------- many mutations


def _work(pipe: "Connection[Any, Any]", folder: Path, base: Settings, seed: int) -> None:
    """Answer the numbers that come by the pipe, each with its mutation."""
    os.environ["PYTHONWARNINGS"] = "ignore"
    bench = Bench(folder, base, seed)
    pipe.send("ready")

    def too_long(signum: int, frame: Any) -> None:
        raise TimeoutError(f"it took longer than {LONGEST_RUN} seconds")

    signal.signal(signal.SIGALRM, too_long)
    while (number := pipe.recv()) is not None:
        signal.alarm(LONGEST_RUN)
        try:
            answer = bench.mutate(number)
        except Exception:
            answer = Mutation(number, "", "", "", CRASH, faults=[f"the harness failed: {traceback.format_exc()}"])
        signal.alarm(0)
        pipe.send(answer)


class Worker:
    """A process with a bench; begun anew where it dies."""

    def __init__(self, folder: Path, base: Settings, seed: int) -> None:
        self.arguments = (folder, base, seed)
        self.number = -1
        self._start()

    def _start(self) -> None:
        shutil.rmtree(self.arguments[0], ignore_errors=True)
        self.arguments[0].mkdir(parents=True)
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, *self.arguments), daemon=True)
        self.process.start()
        theirs.close()
        # A bench that cannot be set up says why on stderr; here it shows as a closed pipe.
        self.pipe.recv()

    def ask(self, number: int) -> None:
        """Have a mutation made."""
        self.number = number
        self.pipe.send(number)

    def answer(self) -> Mutation | None:
        """The mutation that was asked for; a crash where the process died of it."""
        try:
            found: Mutation | None = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            self._start()
            chosen = KINDS[self.number % len(KINDS)]
            return Mutation(
                self.number, chosen.target, chosen.name, "", CRASH, faults=[f"the process died with code {code}"]
            )
        return found

    def stop(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(30)
        self.process.kill()


def mutations(folder: Path, base: Settings, seed: int, numbers: Iterable[int], workers: int) -> Iterator[Mutation]:
    """Mutations of these numbers as they are done; those that the survey has nothing for are left out."""
    todo = iter(numbers)
    busy: dict[Any, Worker] = {}
    staff = [Worker(folder / f"worker_{n}", base, seed) for n in range(workers)]
    try:
        for worker, number in zip(staff, todo, strict=False):
            worker.ask(number)
            busy[worker.pipe] = worker
        while busy:
            for pipe in wait(list(busy)):
                worker = busy.pop(pipe)
                found = worker.answer()
                if (number := next(todo, None)) is not None:
                    worker.ask(number)
                    busy[worker.pipe] = worker
                if found is not None:
                    yield found
    finally:
        for worker in staff:
            worker.stop()


# -------------------------------------------------------------------------------------------- the whole command


@dataclass
class Through:
    """How mutation `number` went through the real command; `faults` are what must not be of any."""

    number: int
    code: int
    said: str
    faults: list[str]

    def as_foretold(self, mutation: Mutation) -> bool:
        """Whether it ended as it did in one process; the release step may still refuse what no check did."""
        blocked = mutation.outcome.startswith("blocked")
        return blocked == (self.code == 1) or (not blocked and BY_THE_RELEASE in self.said)


def environment(settings: Settings) -> dict[str, str]:
    """The environment that leads the command to these settings."""
    return {
        **os.environ,
        "CMHS_RAW_DIR": str(settings.raw_dir),
        "CMHS_SEEDS_DIR": str(settings.seeds_dir),
        "CMHS_WAREHOUSE": str(settings.warehouse),
        "CMHS_PUBLISHED_DIR": str(settings.published_dir),
        "DAGSTER_HOME": str(settings.dagster_home),
    }


def cmhs(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a user would."""
    command = [str(Path(sys.executable).parent / "cmhs"), *arguments]
    return subprocess.run(
        command, env=environment(settings), cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )


def through_refresh(folder: Path, base: Settings, seed: int, number: int) -> Through | None:
    """Put a mutation through `cmhs refresh`, in a folder of its own that holds the published base; None as there."""
    place = folder / f"refresh_{number}"
    place.mkdir(parents=True)
    for part in (base.warehouse.parent, base.published_dir, base.dagster_home):
        shutil.copytree(part, place / part.name, symlinks=True)
    settings = base_settings(place, place / "raw", place / "seeds")
    made = change_of(settings, base, number, seed)
    if made is None:
        return None
    chosen, change, survey = made
    if chosen.target == "raw":
        survey.register(change.places[0])
    if chosen.target in ("raw", "registry"):
        # A registry that cannot be read is refused before anybody asks for a review.
        with contextlib.suppress(Refusal):
            review_deliveries(settings)
    ran = cmhs(settings, "refresh")
    said = ran.stdout + ran.stderr
    faults = []
    if ran.returncode not in (0, 1):
        faults.append(f"exit code {ran.returncode}")
    if "Traceback" in said:
        faults.append("a traceback")
    if any(not (c.isprintable() or c == "\n") for c in said):
        faults.append("a control character")
    shown = release.current(settings)
    faults += [f"the release does not verify: {problem}" for problem in (release.verify(shown) if shown else ["none"])]
    shutil.rmtree(place, ignore_errors=True)
    return Through(number, ran.returncode, said[:LONGEST_MESSAGE], faults)


def publish_base(folder: Path) -> Settings:
    """The survey of `survey.make_survey`, published."""
    raw, seeds = make_survey(folder)
    settings = base_settings(folder, raw, seeds)
    ran = cmhs(settings, "refresh")
    if ran.returncode != 0:
        raise SystemExit(f"the base cannot be published: {ran.stdout}{ran.stderr}")
    return settings


# -------------------------------------------------------------------------------------------- the table


def report(found: Sequence[Mutation], through: Sequence[Through], command: str) -> str:
    """What became of them, by kind, as markdown."""
    raw = [m for m in found if m.untouched]
    lines = [
        "# Hostile and broken input",
        "",
        f"    {command}",
        "",
        f"{len(found):,} changes of {len({(m.target, m.kind) for m in found})} kinds, one at a time, of a published survey of two "
        "waves; the wave that is changed counts as new. What the kinds do is in `tests/torture/changes.py`.",
        "",
        f"**Registry as it was**: {sum(m.untouched == 'refused' for m in raw):,} of {len(raw):,} changed raw files refused by size or checksum.",
        "",
        "**Registered as a new edition**, or a change of the registry or of the crosswalk:",
        "",
        "| outcome | raw files | registry | crosswalk | all |",
        "|---|---:|---:|---:|---:|",
    ]
    for outcome in OUTCOMES:
        of = [m for m in found if m.outcome == outcome]
        counts = Counter(m.target for m in of)
        lines.append(
            f"| {outcome} | {counts['raw']:,} | {counts['registry']:,} | {counts['crosswalk']:,} | {len(of):,} |"
        )
    undetected = [m for m in found if m.outcome == UNDETECTABLE]
    lines += [
        "",
        "*Only texts moved*: a label, a name or a wording of the crosswalk or of a trust is published as it was given; every figure is "
        "the base's. *No effect*: what is published is the base's but for the checksums of the files.",
        "",
        "## Not detectable",
        "",
        "Valid input that says something else: no rule of the survey is broken. `history` counts those that would be refused where the "
        "wave was published before, because an estimate moves by more than 0.05 points.",
        "",
        "| changed | kind | not detectable | history | of | why |",
        "|---|---|---:|---:|---:|---|",
    ]
    for (target, kind), n in sorted(Counter((m.target, m.kind) for m in undetected).items()):
        of = sum((m.target, m.kind) == (target, kind) for m in found)
        refused = sum(m.history for m in undetected if (m.target, m.kind) == (target, kind))
        lines.append(f"| {target} | {cell(kind)} | {n} | {refused} | {of} | {WHY.get(kind, 'NOT LOOKED AT')} |")
    lines += [
        f"| all | | {len(undetected)} | {sum(m.history for m in undetected)} | {len(found)} | |",
        "",
        "## By kind",
        "",
        "| changed | kind | reading | check | model | expectation | exclusions | texts | none | not detectable | crash |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for target, kind in sorted({(m.target, m.kind) for m in found}):
        counts = Counter(m.outcome for m in found if (m.target, m.kind) == (target, kind))
        lines.append(f"| {target} | {cell(kind)} | " + " | ".join(str(counts[o] or "") for o in OUTCOMES) + " |")
    faults = [(m, fault) for m in found for fault in m.faults]
    lines += ["", "## Faults", "", f"{len({m.number for m, _ in faults})} of {len(found):,} mutations with a fault."]
    lines += [f"- {m.number}, {m.target}, {m.kind}: {cell(m.what)}: {cell(fault)}" for m, fault in faults]
    if through:
        codes = Counter(t.code for t in through)
        lines += [
            "",
            "## Through the whole command",
            "",
            f"{len(through)} of them, drawn at random, through `cmhs refresh`: {codes[0]} published, {codes[1]} refused, "
            f"{len(through) - codes[0] - codes[1]} ended otherwise; {sum(bool(t.faults) for t in through)} with a fault. "
            "After each the current release verified.",
        ]
        lines += [f"- {t.number}: {cell('; '.join(t.faults))}" for t in through if t.faults]
    taken = [m.seconds for m in found]
    lines += ["", f"{sum(taken) / 60:.0f} minutes in one process, {max(taken, default=0):.1f} seconds at most for one."]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """A text for a cell of a markdown table."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text[:200].replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2017)
    parser.add_argument("--through-refresh", type=int, default=0, metavar="N")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the table here")
    parser.add_argument(
        "--log", type=Path, help="write every mutation here, one JSON a line; what is there is not repeated"
    )
    parser.add_argument("--only", type=int, help="this mutation alone, with what it said")
    parser.add_argument("--base", type=Path, help="a published base to begin from, made where it is not there")
    chosen = parser.parse_args()
    started = time.monotonic()
    found, through = read_log(chosen.log) if chosen.log and chosen.only is None else ([], [])
    with tempfile.TemporaryDirectory(prefix="mutations-") as temporary:
        folder = Path(temporary)
        where = chosen.base or folder / "base"
        if where.exists():
            base = base_settings(where, where / "raw", where / "seeds")
        else:
            where.mkdir(parents=True)
            base = publish_base(where)
        numbers = list(range(chosen.count)) if chosen.only is None else [chosen.only]
        drawn = Random(chosen.seed).sample(numbers, min(chosen.through_refresh, len(numbers)))
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(chosen.log.open("a")) if chosen.log else None

            one_at_a_time = Lock()

            def note(ended: Mutation | Through) -> None:
                if log:
                    with one_at_a_time:
                        log.write(json.dumps(asdict(ended)) + "\n")
                        log.flush()

            def refreshed(number: int) -> Through | None:
                ended = through_refresh(folder, base, chosen.seed, number)
                if ended is not None:
                    note(ended)
                return ended

            # The command is tried beside the mutations in one process: it is the slower of the two by far.
            pool = stack.enter_context(ThreadPoolExecutor(1))
            gone = {t.number for t in through}
            pending = [pool.submit(refreshed, number) for number in drawn if number not in gone]
            known = {mutation.number for mutation in found}
            todo = [number for number in numbers if number not in known]
            for mutation in mutations(folder, base, chosen.seed, todo, chosen.workers) if todo else ():
                found.append(mutation)
                note(mutation)
                if chosen.only is not None:
                    print(json.dumps({k: v for k, v in asdict(mutation).items() if k != "message"}, indent=2))
                    print(mutation.message)
                elif len(found) % 100 == 0:
                    faults = sum(bool(m.faults) for m in found)
                    print(f"{len(found)} done, {faults} with a fault, {time.monotonic() - started:.0f} s", flush=True)
            through += [ended for future in pending if (ended := future.result()) is not None]
    found.sort(key=lambda mutation: mutation.number)
    by_number = {mutation.number: mutation for mutation in found}
    for t in through:
        if not t.as_foretold(by_number[t.number]):
            t.faults.append(f"in one process it was '{by_number[t.number].outcome}'")
    command = f"python -m tests.torture.mutations --count {chosen.count} --seed {chosen.seed}"
    command += f" --through-refresh {chosen.through_refresh}" if chosen.through_refresh else ""
    text = report(found, through, command)
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    elif chosen.only is None:
        print(text)
    for t in through:
        if t.faults:
            print(f"--- {t.number} {by_number[t.number].kind}: {t.faults}\n{t.said[-3000:]}")
    if any(m.faults for m in found) or any(t.faults for t in through):
        sys.exit(1)


def read_log(path: Path) -> tuple[list[Mutation], list[Through]]:
    """What a run that was broken off, or that is only to be told again, had done."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [Mutation(**line) for line in lines if "kind" in line], [Through(**line) for line in lines if "code" in line]


if __name__ == "__main__":
    main()
