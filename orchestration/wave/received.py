"""What the files of a wave hold, and what the crosswalk says of them, read side by side.

Belongs here: landing registered files where nobody else looks, describing their columns, reading the seeds. Does not:
comparing the two (check) or guessing one from the other (guess, draft).
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from orchestration.errors import Refusal
from orchestration.registry import RawFile, read_registry
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.warehouse import identifier
from orchestration.wave.guess import Column, Kind

if TYPE_CHECKING:
    import duckdb

Row = dict[str, str]

# A column with more different values than this holds no codes; with more texts than that, no names of trusts. It holds
# numbers where this share of its values are.
MOST_CODES = 40
MOST_TEXTS = 400
MOSTLY_NUMBERS = 0.95


def registered(settings: Settings, wave: int) -> list[RawFile]:
    """The registered files of a wave. Raises Refusal where there are none."""
    files = read_registry(settings.registry)
    if found := [file for file in files if file.wave == wave]:
        return found
    waves = ", ".join(str(year) for year in sorted({file.wave for file in files}))
    raise Refusal(
        f"No file of wave {wave} is registered; registered are {waves}.",
        [f"Put its files below {settings.raw_dir} and run `cmhs wave register {wave} --provenance ... FILE...`."],
    )


def wave_before(settings: Settings, wave: int) -> int | None:
    """The last registered wave before this one, or None where it is the first."""
    return max((file.wave for file in read_registry(settings.registry) if file.wave < wave), default=None)


@contextmanager
def landed(settings: Settings, waves: Sequence[int]) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A database in memory with these waves as a refresh lands them.

    Tables raw.responses_<wave> and raw.sampled_<wave> (one row per row of the file, text), raw.variables,
    raw.value_labels and raw.files. Raises Refusal where a file is missing, altered or cannot be read.
    """
    import duckdb

    from orchestration.ingest import land_wave

    with duckdb.connect() as connection:
        for wave in waves:
            land_wave(connection, settings.raw_dir, registered(settings, wave))
        yield connection


@cache
def described_seeds() -> dict[str, Any]:
    """The seeds that crosswalk.yml describes, by name."""
    import yaml  # type: ignore[import-untyped]

    path = DBT_PROJECT_DIR / "models" / "crosswalk" / "crosswalk.yml"
    return {seed["name"]: seed for seed in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)["seeds"]}


def seed_rows(settings: Settings, seed: str, wave: int | None = None) -> list[Row]:
    """The rows of a seed of the crosswalk as text, of one wave only where it is given.

    Raises Refusal where the seed is missing, no UTF-8 CSV file or not the table that crosswalk.yml describes, or where
    a row that is about a wave does not say about which.
    """
    path = settings.seeds_dir / f"{seed}.csv"
    described = described_seeds()[seed]
    columns = list(described["config"]["column_types"])
    of_a_wave = any(c["name"] == "survey_year" and "not_null" in c.get("data_tests", []) for c in described["columns"])
    rows: list[Row] = []
    problems = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            if sorted(header) != sorted(columns):
                raise Refusal(
                    "The crosswalk cannot be read.",
                    [f"{path.name} has the columns {', '.join(header)}; expected {', '.join(columns)}, with commas."],
                )
            for row in reader:
                if None in row or None in row.values():
                    problems.append(f"{path.name} line {reader.line_num} has not {len(columns)} cells.")
                elif of_a_wave and not row["survey_year"].strip().isdecimal():
                    problems.append(f"{path.name} line {reader.line_num}: survey_year is no year: fill it in.")
                rows.append(row)
    except FileNotFoundError:
        raise Refusal(f"The crosswalk has no {path.name}; expected it in {settings.seeds_dir}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{path.name} is not a UTF-8 CSV file: {error}.") from None
    if problems:
        raise Refusal("The crosswalk cannot be read.", problems)
    return [row for row in rows if wave is None or row["survey_year"] == str(wave)]


def columns_of(connection: "duckdb.DuckDBPyConnection", wave: int, role: str) -> list[Column]:
    """The columns of a landed file in their order: label, value labels, and how its answers are distributed.

    A label that only repeats the column's name is none. Shares are of the rows that are not blank.
    """
    variables = connection.execute(
        "select raw_column, label from raw.variables where survey_year = ? and file_role = ? order by position",
        [wave, role],
    ).fetchall()
    options: dict[str, dict[str, str]] = {}
    for raw_column, code, label in connection.execute(
        "select lower(trim(raw_column)), trim(code), label from raw.value_labels "
        "where survey_year = ? and file_role = ? order by try_cast(code as double), code",
        [wave, role],
    ).fetchall():
        options.setdefault(raw_column, {})[code] = in_one_line(label)
    if not variables:
        return []
    table = f"raw.{role}_{wave}"
    texts = [f"nullif(trim({identifier(name)}), '')" for name, _ in variables]
    # One pass for all columns; c0, c1, ... are their places.
    named = ", ".join(f"{text} as c{place}" for place, text in enumerate(texts))
    connection.execute(
        "create or replace temp table answers as select place, answer, count(*) as n from "
        f"(unpivot (select {named} from {table}) on columns(*) into name place value answer) group by all"
    )
    totals = {
        place: counts
        for place, *counts in connection.execute(
            "select place, sum(n), count(*), sum(n) filter (try_cast(answer as double) is not null) "
            "from answers group by place"
        ).fetchall()
    }
    columns = []
    for place, ((name, label), text) in enumerate(zip(variables, texts, strict=True)):
        filled, different, numbers = totals.get(f"c{place}", (0, 0, 0))
        label = in_one_line(label or "")
        shares: dict[str, float] = {}
        low, high = None, None
        kind: Kind = "blank"
        if filled:
            mostly_numbers = (numbers or 0) >= MOSTLY_NUMBERS * filled
            kind = "codes" if different <= MOST_CODES else "numbers" if mostly_numbers else "text"
        if kind == "numbers":
            [(low, high)] = connection.execute(
                f"select quantile_cont(try_cast({text} as double), 0.05), "
                f"quantile_cont(try_cast({text} as double), 0.95) from {table}"
            ).fetchall()
        elif different <= MOST_TEXTS:
            shares = {
                answer: n / filled
                for answer, n in connection.execute(
                    "select answer, n from answers where place = ? order by answer", [f"c{place}"]
                ).fetchall()
            }
        columns.append(
            Column(
                key=name,
                name=name,
                texts=(label,) if label and label != name.strip() else (),
                options=options.get(name.strip().lower(), {}),
                shares=shares,
                kind=kind,
                low=low,
                high=high,
            )
        )
    return columns


def in_one_line(text: str) -> str:
    """A text of a file as a cell of the crosswalk holds it: no line breaks, no invisible characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
