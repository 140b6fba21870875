"""What a refresh costs beside what it cannot do without, and beside R from the same files: the tables in refresh.md.

Every run is a process of its own, whose seconds of CPU are those of its whole tree; the runs of all take turns, after
one of each that is not counted, so that bytecode and file cache are warm on every side. Nothing is left out of a
refresh: every check, record, release and page. The files are those of data/raw (synthetic).

    python benchmarks/refresh.py > benchmarks/refresh.md

R is skipped, and the page says so, where it lacks survey, haven, dplyr or readr.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import duckdb
from machine import machine

from orchestration.settings import DBT_PROJECT_DIR, ROOT, Settings, state_dir_of

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
RUNS, RUNS_OF_R, PROCESSES_OF_R = 5, 3, 2
R_PACKAGES = ("survey", "haven", "dplyr", "readr")
PACKAGES = ("dagster", "dagster-dbt", "dbt-core", "dbt-duckdb", "duckdb", "great-expectations", "pandas")
IMPORTS = "import dagster, dagster_dbt, great_expectations, pandas, pyreadstat, sqlglot, vl_convert"
# Of a table of imports so many packages are shown.
SHOWN = 8
# A file of the last wave is delivered again, with two of its lines changed round.
EDITION_OF = "sampled"
# R and the warehouse add the same numbers up in another order.
AGREEMENT = 1e-9

(FULL, BARE, NEEDED, NOTHING, DAGSTER, CHANGED, LOCATION, LIBRARIES, R) = (
    "full refresh, six waves, nothing there before",
    "bare `dbt build` of the same project on the landed files, nothing parsed before",
    f"`{IMPORTS}`",
    "refresh where nothing changed",
    "`import dagster`",
    "refresh after a new edition of one file",
    "`import orchestration.definitions`",
    "`import dagster, dagster_dbt`",
    f"R from the raw files to England's and trusts' shares, {PROCESSES_OF_R} processes",
)


# ---------------------------------------------------------------------------------------- where it runs


@dataclass(frozen=True)
class Place:
    """A copy of the raw files and the crosswalk, a warehouse with what belongs to it, and a saved state of that."""

    folder: Path

    @property
    def state(self) -> Path:
        """The warehouse, the releases and Dagster's records."""
        return self.folder / "state"

    @property
    def raw_dir(self) -> Path:
        """The raw files."""
        return self.folder / "raw"

    @property
    def seeds_dir(self) -> Path:
        """The crosswalk."""
        return self.folder / "seeds"

    @property
    def warehouse(self) -> Path:
        """The warehouse."""
        return self.state / "warehouse.duckdb"

    @property
    def environment(self) -> dict[str, str]:
        """What a refresh, or the dbt of one, is started with here."""
        return {name: value for name, value in os.environ.items() if not name.startswith("CMHS_")} | {
            "CMHS_RAW_DIR": str(self.raw_dir),
            "CMHS_SEEDS_DIR": str(self.seeds_dir),
            "CMHS_WAREHOUSE": str(self.warehouse),
            "CMHS_PUBLISHED_DIR": str(self.state / "published"),
            "CMHS_TARGET": "duckdb",
            "DAGSTER_HOME": str(self.state / "dagster"),
            # Bytecode is written where it is missing, so that no run but the first one compiles.
            "PYTHONDONTWRITEBYTECODE": "",
        }

    @property
    def dbt_environment(self) -> dict[str, str]:
        """What the dbt of a refresh finds in its environment besides."""
        return self.environment | {
            "CMHS_RELEASE_ID": f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{'0' * 8}",
            "CMHS_PUBLISHED_AT": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            "CMHS_GIT_COMMIT": "unknown",
            "CMHS_STORAGE_VERSION": "v1.2.0",
            "DBT_PROFILES_DIR": str(DBT_PROJECT_DIR),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_LOG_LEVEL_FILE": "none",
        }

    def begin(self) -> None:
        """The raw files and the crosswalk as the repository has them, and nothing else."""
        for source, target in ((ROOT / "data/raw", self.raw_dir), (DBT_PROJECT_DIR / "seeds", self.seeds_dir)):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        self.clear()

    def clear(self) -> None:
        """Forget the warehouse, the releases and the records."""
        shutil.rmtree(self.state, ignore_errors=True)
        self.state.mkdir()

    def save(self, name: str) -> None:
        """Keep the whole folder under a name, for `restore`."""
        for part in ("raw", "seeds", "state"):
            shutil.rmtree(self.folder / name / part, ignore_errors=True)
            shutil.copytree(self.folder / part, self.folder / name / part, symlinks=True)

    def restore(self, name: str) -> None:
        """Put back what was kept under a name."""
        for part in ("raw", "seeds", "state"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
            shutil.copytree(self.folder / name / part, self.folder / part, symlinks=True)

    def leave_only_landed(self) -> None:
        """The warehouse as it is when the files are landed and dbt has not begun, and no trace of an earlier dbt."""
        with duckdb.connect(str(self.warehouse)) as warehouse:
            schemas = warehouse.execute(
                "select schema_name from duckdb_schemas() where database_name = current_database() and not internal "
                "and schema_name <> 'raw'"
            ).fetchall()
            for (schema,) in schemas:
                warehouse.execute(f'drop schema if exists "{schema}" cascade')
        shutil.rmtree(self.folder / "target", ignore_errors=True)


def new_edition(place: Place) -> None:
    """Deliver a file of the last wave again, in another order of its rows, and review it as the refusal asks for."""
    registry = place.raw_dir / "registry.csv"
    with registry.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    row = [row for row in rows if row["role"] == EDITION_OF][-1]
    path = place.raw_dir / row["path"]
    header, first, second, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, second, first, *others]))
    row.update(sha256=hashlib.sha256(path.read_bytes()).hexdigest(), edition="2")
    with registry.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    refused = subprocess.run(
        [BIN / "cmhs", "refresh", "--json"], env=place.environment, capture_output=True, text=True, check=False
    )
    review = re.search(r"^ *(,\d+,,.+)$", "\n".join(json.loads(refused.stdout)["problems"]), re.M)
    assert review, refused.stdout
    line = review[1].replace("REASON", "delivered again").replace("REVIEWER", "benchmark")
    with (place.seeds_dir / "revisions.csv").open("a", encoding="utf-8") as revisions:
        revisions.write(line.replace("YYYY-MM-DD", f"{datetime.now(UTC):%Y-%m-%d}") + "\n")


# ---------------------------------------------------------------------------------------- running


@dataclass(frozen=True)
class Cost:
    """Wall and CPU seconds of one process with all that it started."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Contestant:
    """A command, what is put in its place before each run, and how often it runs."""

    name: str
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    before: Callable[[], None] = lambda: None
    runs: int = RUNS
    cwd: Path = ROOT
    costs: list[Cost] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def run(self, counted: bool = True) -> None:
        """Run once. Ends the benchmark where the command fails."""
        self.before()
        with tempfile.TemporaryFile() as output:
            began = time.monotonic()
            process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.cwd, stdout=output, stderr=subprocess.STDOUT
            )
            _, status, used = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            said = output.read().decode()
        if process.returncode != 0:
            raise SystemExit(f"{self.name} failed:\n{said}")
        if counted:
            self.costs.append(Cost(wall, used.ru_utime + used.ru_stime))
            self.outputs.append(said)

    def median(self, what: str) -> float:
        """The median of wall or CPU seconds."""
        return statistics.median(getattr(cost, what) for cost in self.costs)

    def shown(self, what: str) -> str:
        """Median, least and most, in seconds."""
        values = [getattr(cost, what) for cost in self.costs]
        return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def contestants(place: Place, with_r: bool) -> dict[str, Contestant]:
    """All commands that are compared, by name, in the order in which they run."""
    environment = place.environment
    python = BIN / "python"
    refresh = [BIN / "cmhs", "refresh", "--json"]
    project = state_dir_of(place.warehouse) / "project"
    dbt = [BIN / "dbt", "--quiet", "build", "--project-dir", project, "--target-path", place.folder / "target"]

    def as_saved(name: str, *more: Callable[[], None]) -> Callable[[], None]:
        def put() -> None:
            place.restore(name)
            for each in more:
                each()

        return put

    found = [
        Contestant(FULL, refresh, environment, as_saved("released", place.clear)),
        Contestant(BARE, dbt, place.dbt_environment, as_saved("released", place.leave_only_landed)),
        Contestant(NEEDED, [python, "-c", IMPORTS], environment),
        Contestant(CHANGED, refresh, environment, as_saved("delivered")),
        Contestant(NOTHING, refresh, environment, as_saved("released")),
        Contestant(DAGSTER, [python, "-c", "import dagster"], environment),
        Contestant(LOCATION, [python, "-c", "import orchestration.definitions"], environment),
        Contestant(LIBRARIES, [python, "-c", "import dagster, dagster_dbt"], environment),
    ]
    if with_r:
        arguments = [place.raw_dir, place.seeds_dir, place.folder / "by_hand.csv", str(PROCESSES_OF_R)]
        command = ["Rscript", HERE / "refresh/by_hand.R", *arguments]
        found.append(Contestant(R, command, environment, as_saved("released"), runs=RUNS_OF_R))
    return {each.name: each for each in found}


def take_turns(entrants: Mapping[str, Contestant], log: Callable[[str], None]) -> None:
    """Run all of them alternately."""
    for entrant in entrants.values():
        # The states that are kept were made by refreshes, with dbt; R compiles nothing.
        if entrant.name not in (FULL, BARE, CHANGED, R):
            entrant.run(counted=False)
    for turn in range(max(entrant.runs for entrant in entrants.values())):
        for entrant in entrants.values():
            if turn < entrant.runs:
                entrant.run()
                cost = entrant.costs[-1]
                log(f"run {turn + 1}: {entrant.name}: {cost.wall:.1f} s wall, {cost.cpu:.1f} s CPU")


# ---------------------------------------------------------------------------------------- what is compared


def agreement(place: Place) -> list[str]:
    """How far R's estimates are those of the release: England's to the last digit, the rounded ones of trusts.

    Ends the benchmark where they are not the same, or where one has an estimate that the other has not.
    """
    with duckdb.connect(str(place.state / "published/current/cmhs_marts.duckdb"), read_only=True) as release:
        found = release.execute(
            """
            select
                ours.geography_level,
                count(*),
                count(theirs.pct),
                count(*) filter (where ours.suppressed),
                max(abs(ours.pct - theirs.pct) / nullif(theirs.pct, 0)),
                max(abs(ours.se - theirs.se) / nullif(theirs.se, 0)),
                max(abs(ours.pct - theirs.pct)),
                max(abs(ours.se - theirs.se))
            from marts.estimates as ours
            left join read_csv(?, types = {'geography': 'varchar', 'response': 'varchar', 'pct': 'double'}) as theirs
                on
                    ours.survey_year = theirs.survey_year
                    and ours.question_id = theirs.question_id
                    and ours.response = theirs.response
                    and theirs.geography
                    = case ours.geography_level when 'trust' then ours.geography_code else 'england' end
            where ours.breakdown = 'all'
            group by 1
            order by 1
            """,
            [str(place.folder / "by_hand.csv")],
        ).fetchall()
    lines = []
    for level, rows, paired, hidden, pct, se, pct_apart, se_apart in found:
        exact = level != "trust"
        if paired < rows - hidden or (max(pct, se) > AGREEMENT if exact else max(pct_apart, se_apart) > 0.05 + 1e-9):
            raise SystemExit(f"R and the release differ for {level}: {paired} of {rows}; {pct}, {se}; {pct_apart}.")
        lines.append(
            f"- {level}: {paired:,} of {rows:,} estimates of the release are R's, too ({hidden} are hidden in it); "
            + (
                f"largest relative difference {pct:.0e} of a share, {se:.0e} of a standard error"
                if exact
                else f"rounded in the release: largest difference {pct_apart:.3f} of a share, {se_apart:.3f} of a "
                "standard error, in percentage points"
            )
        )
    return lines


def ratios(entrants: Mapping[str, Contestant]) -> list[str]:
    """The table of ratios, each with its aim."""
    full = entrants[FULL]

    def both(names: Sequence[str], what: str) -> float:
        return sum(entrants[name].median(what) for name in names)

    asked = [
        ("full refresh : its imports + bare `dbt build`", full, (NEEDED, BARE), "cpu", 1.5),
        ("full refresh : its imports + bare `dbt build`", full, (NEEDED, BARE), "wall", 1.0),
        ("nothing changed : `import dagster`", entrants[NOTHING], (DAGSTER,), "cpu", 2.5),
        ("nothing changed : `import dagster`", entrants[NOTHING], (DAGSTER,), "wall", 2.5),
        ("one changed file : full refresh", entrants[CHANGED], (FULL,), "cpu", None),
        ("one changed file : full refresh", entrants[CHANGED], (FULL,), "wall", None),
        ("code location : dagster and dagster_dbt", entrants[LOCATION], (LIBRARIES,), "cpu", 1.3),
        ("code location : dagster and dagster_dbt", entrants[LOCATION], (LIBRARIES,), "wall", 1.3),
    ]
    if R in entrants:
        asked += [
            ("full refresh : R by hand", full, (R,), "wall", 0.5),
            ("full refresh : R by hand", full, (R,), "cpu", None),
        ]
    lines = ["| ratio of medians | of | measured | aim at most | met |", "| --- | --- | ---: | ---: | --- |"]
    for name, ours, theirs, what, aim in asked:
        ratio = ours.median(what) / both(theirs, what)
        met = "" if aim is None else "yes" if ratio <= aim else "**no**"
        seconds = {"cpu": "CPU", "wall": "wall"}[what]
        lines.append(f"| {name} | {seconds} | {ratio:.2f} | {'' if aim is None else f'{aim:.1f}'} | {met} |")
    return lines


def steps(entrants: Mapping[str, Contestant]) -> list[str]:
    """Where the seconds of the refreshes go, by step of their run, as `cmhs refresh --json` says."""
    medians: dict[str, dict[str, float]] = {}
    for name in (FULL, CHANGED):
        told = [json.loads(output[output.index("{") :])["seconds"] for output in entrants[name].outputs]
        seconds: dict[str, list[float]] = defaultdict(list)
        for run in told:
            waves = sum(taken for step, taken in run["steps"].items() if step.startswith("raw/"))
            apart = {step: taken for step, taken in run["steps"].items() if not step.startswith("raw/")}
            outside = run["total"] - waves - sum(apart.values())
            for step, taken in {"waves": waves, **apart, "outside the steps": outside}.items():
                seconds[step].append(taken)
        medians[name] = {step: statistics.median(taken) for step, taken in seconds.items()}
    return [
        "| step | full refresh | one changed file |",
        "| --- | ---: | ---: |",
        *(f"| {step} | {taken:.1f} | {medians[CHANGED][step]:.1f} |" for step, taken in medians[FULL].items()),
    ]


def imports(statement: str, environment: Mapping[str, str]) -> list[str]:
    """The packages that take longest of an import, in seconds of their own modules."""
    ran = subprocess.run(
        [BIN / "python", "-X", "importtime", "-c", statement],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    own: Counter[str] = Counter()
    for microseconds, module in re.findall(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", ran.stderr, re.M):
        own[module.partition(".")[0]] += int(microseconds)
    largest = [f"{package} {taken / 1e6:.2f}" for package, taken in own.most_common(SHOWN)]
    return [f"| `{statement}` | {sum(own.values()) / 1e6:.2f} | {', '.join(largest)} |"]


def waves_of(entrant: Contestant) -> str:
    """Which waves a refresh read, and which it did not."""
    told = json.loads(entrant.outputs[-1][entrant.outputs[-1].index("{") :])
    return f"read {', '.join(map(str, told['waves_read'])) or 'none'}; as landed before " + (
        ", ".join(map(str, told["waves_reused"])) or "none"
    )


def versions_of_r() -> str | None:
    """R and its packages with their versions; None where one is missing."""
    if not shutil.which("Rscript"):
        return None
    packages = ", ".join(f"'{package}'" for package in R_PACKAGES)
    ask = f"cat(paste('R', getRversion()), sapply(c({packages}), function(p) paste(p, packageVersion(p))), sep = ', ')"
    ran = subprocess.run(["Rscript", "-e", ask], capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else None


def commit() -> str:
    """The commit that was measured."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")


def report(place: Place, entrants: Mapping[str, Contestant], r_versions: str | None, command: str) -> str:
    """The page."""
    python = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    lines = [
        "# What a refresh costs",
        "",
        f"Made by `{command}`. **All data are synthetic.**",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit()}, {machine()}, {python}; "
        f"{r_versions or 'R skipped: not installed with ' + ', '.join(R_PACKAGES)}.",
        "",
        *ratios(entrants),
        "",
        "## Seconds",
        "",
        "Median (least..most). CPU is user and system time of the process and all that it started.",
        "",
        "|  | runs | wall s | CPU s |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {e.name} | {len(e.costs)} | {e.shown('wall')} | {e.shown('cpu')} |" for e in entrants.values()),
        "",
        f"- Waves of the full refresh: {waves_of(entrants[FULL])}.",
        f"- Waves of the refresh after a new edition: {waves_of(entrants[CHANGED])}.",
        f"- Waves where nothing changed: {waves_of(entrants[NOTHING])}.",
        "",
        "## Where the wall seconds of a refresh go",
        "",
        "Medians of what `cmhs refresh --json` says. Outside the steps are imports, Dagster's start and, where the "
        "project is new, `dbt parse`.",
        "",
        *steps(entrants),
        "",
        "## Where the seconds of imports go",
        "",
        "From `python -X importtime`, one run each, which measuring slows: seconds of a package's own modules.",
        "",
        "| import | all | most |",
        "| --- | ---: | --- |",
        *(
            line
            for statement in ("import orchestration.definitions", "import great_expectations", "import dbt.cli.main")
            for line in imports(statement, place.environment)
        ),
    ]
    if R in entrants:
        lines += ["", "## Do R and the release say the same?", "", *agreement(place)]
    return "\n".join(lines)


def main() -> None:
    """Run everything and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"of each command but R, which has {RUNS_OF_R} at most")
    parser.add_argument("--folder", type=Path, default=ROOT / "data/benchmark/refresh", help="for copies; emptied")
    arguments = parser.parse_args()

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    Settings.from_environment().export()  # dbt's options in the environment would change what is measured.
    place = Place(arguments.folder.resolve())
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    place.begin()
    r_versions = versions_of_r()
    entrants = {
        name: replace(each, runs=min(each.runs, arguments.runs))
        for name, each in contestants(place, r_versions is not None).items()
    }
    subprocess.run(entrants[FULL].command, env=place.environment, stdout=subprocess.DEVNULL, check=True)
    place.save("released")
    new_edition(place)
    # The refusal that asks for the review has read the new file: the wave is as landed before it.
    shutil.rmtree(place.state)
    shutil.copytree(place.folder / "released/state", place.state, symlinks=True)
    place.save("delivered")
    take_turns(entrants, log)
    place.restore("released")
    command = "python benchmarks/refresh.py" + (f" --runs {arguments.runs}" if arguments.runs != RUNS else "")
    print(report(place, entrants, r_versions, command))
    shutil.rmtree(place.folder)


if __name__ == "__main__":
    main()
