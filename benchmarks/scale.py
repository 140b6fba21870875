"""How the warehouse does at up to a hundred million persons on one machine: the table in scale.md.

    python benchmarks/scale.py --folder DIRECTORY > benchmarks/scale.md

The raw files of `data/raw` are landed as ever; then each wave is multiplied: a generated row has trust, sampling frame,
age, gender and outcome of one person and the answers of another one with the same outcome, so that combinations
multiply as they would. What is measured is dbt: seeds, all models and all checks, in a process of its own with DuckDB's
memory limited. Beside it, in the same run, the floor: the bare counts that no way of doing it can go without. The data
are synthetic, multiplied from synthetic files.

DIRECTORY takes the warehouses (2.6 GB at a hundred million, and what is spilled) and keeps the base; the multiplied
ones are removed.
"""

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import duckdb
from machine import machine

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from orchestration.ingest import land_wave, unite_waves  # noqa: E402
from orchestration.manifest import DBT  # noqa: E402
from orchestration.registry import read_registry  # noqa: E402
from orchestration.settings import DBT_PROJECT_DIR, Settings  # noqa: E402
from orchestration.warehouse import identifier, literal  # noqa: E402

SIZES = [100_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000]
THREADS = 2
MIB = 2**20
# Rows that take their answers from another row are this far apart, times the number of the copy.
STRIDE = 7919


@dataclass(frozen=True)
class Cost:
    """What a process and its children took: seconds, and bytes at their peak, read from the disk and spilled to it."""

    cpu: float
    wall: float
    peak: int
    read: int
    spilled: int


# ---------------------------------------------------------------------------------------- the data


def land(folder: Path) -> Path:
    """A warehouse with the raw files as received, made where it is missing."""
    base = folder / "base.duckdb"
    if not base.exists():
        raw_dir = ROOT / "data" / "raw"
        files = read_registry(raw_dir / "registry.csv")
        waves = sorted({file.wave for file in files})
        with duckdb.connect(str(base.with_suffix(".making"))) as connection:
            connection.execute("set enable_progress_bar = false")
            for wave in waves:
                land_wave(connection, raw_dir, [file for file in files if file.wave == wave])
            unite_waves(connection, waves)
        base.with_suffix(".making").rename(base)
    return base


def key_variables(role: str) -> dict[int, dict[str, str]]:
    """Of each wave the raw columns of the key variables in a kind of file, by variable."""
    found: dict[int, dict[str, str]] = {}
    rows = duckdb.read_csv(str(ROOT / "dbt_project/seeds/key_variables.csv"), all_varchar=True).fetchall()
    for wave, file_role, variable, raw_column, *_ in rows:
        if file_role == role:
            found.setdefault(int(wave), {})[variable] = raw_column
    return found


def multiply(base: Path, warehouse: Path, size: int, memory_limit: str) -> int:
    """Write a warehouse whose raw layer has about `size` persons; how many it has."""
    with duckdb.connect(str(warehouse), config={"memory_limit": memory_limit, "threads": THREADS}) as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute("set preserve_insertion_order = false")
        connection.execute(f"attach {literal(base)} as base (read_only)")
        counts = dict(connection.execute("select survey_year, count(*) from base.raw.responses group by 1").fetchall())
        copies = round(size / sum(counts.values()), 6)
        connection.execute("create schema raw")
        for (table,) in connection.execute(
            "select table_name from duckdb_tables() where database_name = 'base' and schema_name = 'raw'"
        ).fetchall():
            wave = table.rpartition("_")[2]
            if table.startswith("sampled_"):
                persons = identifier(key_variables("sampled")[int(wave)]["persons"])
                connection.execute(
                    f"create table raw.{table} as select * replace (cast(ceil({persons}::bigint * {copies}) as bigint)"
                    f"::varchar as {persons}) from base.raw.{table}"
                )
            elif not table.startswith("responses_"):
                connection.execute(f"create table raw.{table} as from base.raw.{table}")
        total = 0
        for wave, variables in key_variables("responses").items():
            total += _multiply_wave(connection, wave, variables, round(counts[wave] * copies))
        for role in ("responses", "sampled"):
            (view,) = connection.execute(
                "select sql from duckdb_views() where database_name = 'base' and schema_name = 'raw' and view_name = ?",
                [role],
            ).fetchall()[0]
            connection.execute(view)
        connection.execute("detach base")
    return total


def _multiply_wave(connection: duckdb.DuckDBPyConnection, wave: int, variables: dict[str, str], rows: int) -> int:
    table = f"base.raw.responses_{wave}"
    columns = [name for name, *_ in connection.execute(f"describe {table}").fetchall()]
    of_person = {name.lower() for name in variables.values()}
    outcome = f"coalesce(trim({identifier(variables['outcome'])}), '')" if "outcome" in variables else "''"
    record = variables["record"].lower()
    connection.execute(
        "create or replace temp table numbered as "
        f"select *, row_number() over (partition by {outcome} order by _row) - 1 as place, "
        f"count(*) over (partition by {outcome}) as places, {outcome} as outcome_of from {table}"
    )
    picked = []
    for name in columns[1:]:
        if name.lower() == record:
            picked.append(f"person.{identifier(name)} || '/' || copy as {identifier(name)}")
        else:
            side = "person" if name.lower() in of_person else "answers"
            picked.append(f"{side}.{identifier(name)}")
    (persons,) = connection.execute("select count(*) from numbered").fetchall()[0]
    connection.execute(
        f"create table raw.responses_{wave} as select copy * {persons} + person._row as _row, {', '.join(picked)} "
        f"from range({math.ceil(rows / persons)}) as copies(copy) cross join numbered as person "
        f"inner join numbered as answers on person.outcome_of = answers.outcome_of "
        f"and answers.place = (person.place + copy * {STRIDE}) % person.places "
        f"where person._row * {STRIDE} % {persons} < {rows} - copy * {persons}"
    )
    (made,) = connection.execute(f"select count(*) from raw.responses_{wave}").fetchall()[0]
    connection.execute(
        "update raw.files set row_count = ? where survey_year = ? and file_role = 'responses'", [made, wave]
    )
    return int(made)


# ---------------------------------------------------------------------------------------- what is measured


def floor_statements() -> list[str]:
    """The bare counts: by each mapped column with trust, age and gender as the file has them, and repeated records."""
    variables = key_variables("responses")
    mapped = duckdb.read_csv(str(ROOT / "dbt_project/seeds/question_map.csv"), all_varchar=True)
    statements = []
    for wave, raw_column in mapped.select("survey_year, raw_column").order("all").fetchall():
        of_wave = variables[int(wave)]
        keys = [of_wave["trust"], of_wave["frame_age"], of_wave["frame_gender"], raw_column]
        listed = ", ".join(identifier(key) for key in keys)
        statements.append(f"select {listed}, count(*) from raw.responses_{wave} group by {listed}")
    for wave, of_wave in variables.items():
        listed = f"{identifier(of_wave['trust'])}, {identifier(of_wave['record'])}"
        statements.append(f"select {listed} from raw.responses_{wave} group by {listed} having count(*) > 1")
    return statements


FLOOR = """
import sys, duckdb
warehouse, memory_limit, threads, *statements = sys.argv[1:]
config = {'memory_limit': memory_limit, 'threads': int(threads)}
with duckdb.connect(warehouse, read_only=True, config=config) as connection:
    for number, statement in enumerate(statements):
        connection.execute(f'create temp table counted_{number} as {statement}')
"""


def measure(command: Sequence[str], environment: dict[str, str], spill: Path) -> Cost:
    """Run a command and say what it took. Raises SystemExit with its words where it fails."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, env=environment, stdout=words, stderr=subprocess.STDOUT)
        done, spilled, read = threading.Event(), [0], [0]

        def watch() -> None:
            while not done.wait(0.1):
                # Files and the process itself come and go while they are looked at.
                with suppress(OSError, ValueError):
                    lines = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
                    read[0] = int(lines["rchar"])
                with suppress(OSError):
                    spilled[0] = max(spilled[0], sum(path.stat().st_size for path in spill.glob("**/*")))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        done.set()
        watcher.join()
        wall = time.monotonic() - started
        if status != 0:
            words.seek(0)
            raise SystemExit(f"{command[:3]} ends with {status}:\n{words.read().decode()[-6000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024, read[0], spilled[0])


@dataclass(frozen=True)
class Measured:
    """What one size took: the floor, seeds and models, and the checks."""

    rows: int
    bytes: int
    floor: Cost
    models: Cost
    checks: Cost


def environment_of(warehouse: Path, memory_limit: str) -> dict[str, str]:
    """What dbt reads from the environment, as the refresh sets it, but for the limit of memory."""
    settings = replace(Settings.from_environment(), warehouse=warehouse)
    settings.export()
    return os.environ | {
        "CMHS_MEMORY_LIMIT": memory_limit,
        "CMHS_RELEASE_ID": "benchmark",
        "CMHS_PUBLISHED_AT": "2000-01-01 00:00:00",
        "CMHS_GIT_COMMIT": "benchmark",
        "CMHS_STORAGE_VERSION": "benchmark",
    }


def measure_size(folder: Path, base: Path, size: int, memory_limit: str, log: Callable[[str], None]) -> Measured:
    """Generate a size, count the floor on it, build it and check it. The warehouse is removed again."""
    warehouse = folder / "scaled.duckdb"
    spill = warehouse.with_name(f"{warehouse.name}.tmp")
    target = folder / "dbt"
    shutil.rmtree(target, ignore_errors=True)
    warehouse.unlink(missing_ok=True)
    # In a process of its own: what this one held would count as the peak of those that it starts.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        rows = pool.submit(multiply, base, warehouse, size, memory_limit).result()
    made = warehouse.stat().st_size
    log(f"{rows:>11,} persons, {made / MIB:,.0f} MiB")
    environment = environment_of(warehouse, memory_limit)
    dbt = [*DBT, "--quiet"]
    project = ["--project-dir", str(DBT_PROJECT_DIR), "--target-path", str(target)]

    def log_cost(what: str, cost: Cost) -> Cost:
        log(f"{'':>11} {what}: {cost.cpu:.1f} CPU s, {cost.wall:.1f} s, {cost.peak / MIB:,.0f} MiB")
        return cost

    floor = [sys.executable, "-c", FLOOR, str(warehouse), memory_limit, str(THREADS), *floor_statements()]
    # The project is parsed once, as in a refresh, where nothing of it has changed.
    measure([*dbt, "parse", *project], environment, spill)
    bare = log_cost("floor", measure(floor, environment, spill))
    build = [*dbt, "build", *project, "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test"]
    models = log_cost("seeds and models", measure(build, environment, spill))
    checks = log_cost("checks", measure([*dbt, "test", *project], environment, spill))
    warehouse.unlink()
    return Measured(rows, made, bare, models, checks)


# ---------------------------------------------------------------------------------------- the table


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def slope(sizes: Sequence[Measured], low: float, high: float) -> float | None:
    """How CPU grows with the number of persons between two sizes, on log-log: 1 is in proportion."""
    points = [(math.log(size.rows), math.log(size.models.cpu)) for size in sizes if low <= size.rows <= high]
    if len(points) < 2:
        return None
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def report(sizes: Sequence[Measured], memory_limit: str, command: str) -> str:
    """The page."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "dbt-core", "dbt-duckdb"))
    lines = [
        "# One machine and many persons",
        "",
        f"Made by `{command}`. **All data are synthetic.**",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine()}; {versions}; DuckDB with {THREADS} threads and at most "
        f"{memory_limit}.",
        "",
        row("aim", "measured", "met"),
        row("---", "---:", "---"),
    ]

    def aim(words: str, measured: str, met: bool) -> None:
        lines.append(row(words, measured, "yes" if met else "**no**"))

    for size in sizes:
        if size.rows >= 10_000_000:
            ratio = size.models.cpu / size.floor.cpu
            aim(f"seeds and models take at most 3 times the floor's CPU at {size.rows:,}", f"{ratio:.1f}", ratio <= 3)
    grown = slope(sizes, 0.9e6, 3.1e7)
    if grown is not None:
        most = max(size.rows for size in sizes if size.rows <= 3.1e7)
        words = f"CPU grows with a slope of at most 1.05 on log-log from 1,000,000 to {most:,}"
        aim(words, f"{grown:.2f}", grown <= 1.05)
    peak = max(cost.peak for size in sizes for cost in (size.models, size.checks))
    aim("the process stays below 2.5 GB", f"{peak / 1e9:.2f} GB", peak < 2.5e9)
    columns = ["CPU s", "of the floor", "wall s", "peak MiB", "MiB read", "MiB spilled"]
    for what, costs in (
        ("The floor", [size.floor for size in sizes]),
        ("Seeds and models", [size.models for size in sizes]),
        ("Checks", [size.checks for size in sizes]),
    ):
        lines += ["", f"## {what}", "", row("persons", "MiB raw", *columns), row("---:", "---:", *["---:"] * 6)]
        for size, cost in zip(sizes, costs, strict=True):
            lines.append(
                row(
                    f"{size.rows:,}",
                    f"{size.bytes / MIB:,.0f}",
                    f"{cost.cpu:.1f}",
                    f"{cost.cpu / size.floor.cpu:.1f}",
                    f"{cost.wall:.1f}",
                    f"{cost.peak / MIB:,.0f}",
                    f"{cost.read / MIB:,.0f}",
                    f"{cost.spilled / MIB:,.0f}",
                )
            )
    return "\n".join([*lines, "", NOTES])


NOTES = """\
## How to read this

- Persons are rows of the files of responses: in waves whose file is the whole sample, most of them did not answer.
- Where persons are few, what is measured is dbt itself: parsing, planning and naming some seventy tables takes as long
  whatever is in them.
- The slope is flattered by that: what dbt itself takes does not grow.
- The floor is the bare count of each mapped column of each wave by trust, age and gender as they stand in the file, and
  the records that a trust has twice: without white space removed, codes decoded, ages taken to bands, routing, answers
  counted for usability, copies told from originals, or anything made of the counts.
- CPU is user and system time of all threads of the process, its start and imports included, for the floor as well.
- Read is what the process read from files, whether or not the system had them in memory; spilled is the peak size of
  DuckDB's files for what did not fit.
- Nothing with a row for each person is written but the list of copies (`int_duplicates`).
"""


def main() -> None:
    """Measure all sizes and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the warehouses; the base is kept")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--memory-limit", default="2GB")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        base = pool.submit(land, folder).result()
    sizes = [measure_size(folder, base, size, arguments.memory_limit, log) for size in sorted(arguments.sizes)]
    print(report(sizes, arguments.memory_limit, f"python benchmarks/scale.py {' '.join(sys.argv[1:])}"))


if __name__ == "__main__":
    main()
