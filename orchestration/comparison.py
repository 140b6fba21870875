"""Two releases side by side: what differs, and what must not.

Everything is read from the files of the two releases. Belongs here: differences of rows, restated values, broken
schemas, hidden rows that two releases together would give away. Does not: what follows from them (publish).
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.errors import Refusal
from orchestration.release import confined_connection, notes_of
from orchestration.settings import EXPECTATIONS_DIR
from orchestration.warehouse import literal

if TYPE_CHECKING:
    import duckdb

# Tables whose rows are hidden one by one: the whole that parts belong to, and what names a part.
HIDING_TABLES = {
    "estimates": (("survey_year", "question_id", "geography_level", "breakdown"), ("geography_code", "category")),
    "weight_cells": (("survey_year",), ("trust", "cell")),
}
# What of a wave in print may not move unnoticed. Changes, comparisons and indicators follow from these.
RESTATED_TABLES = {
    "estimates": (
        ("geography_level", "geography_code", "breakdown", "category", "question_id", "response"),
        ("pct", "ci_low", "ci_high", "base"),
    ),
    "means": (
        ("geography_level", "geography_code", "breakdown", "category", "question_id"),
        ("mean", "ci_low", "ci_high", "base"),
    ),
    "response_rates": (
        ("geography_level", "geography_code"),
        ("sampled", "responded", "response_rate", "adjusted_response_rate"),
    ),
}
ROWS_SHOWN = 3
EXAMPLES_SHOWN = 5


@dataclass(frozen=True)
class Restatement:
    """One value of a wave that stood in the earlier release and differs in the later one; None is hidden or gone."""

    table: str
    survey_year: int
    question_id: str | None
    response: str | None
    geography_level: str
    geography_code: str
    breakdown: str | None
    category: str | None
    value: str
    earlier: float | None
    later: float | None
    reason: str | None = None
    reviewer: str | None = None
    reviewed_on: str | None = None

    @property
    def difference(self) -> float | None:
        """Later minus earlier, in the value's own unit."""
        return None if self.earlier is None or self.later is None else self.later - self.earlier

    @property
    def sentence(self) -> str:
        """The value with what it was and is."""
        where = [self.question_id, self.response, self.geography_level, self.geography_code]
        if self.breakdown not in (None, "all"):
            where += [self.breakdown, self.category]
        place = ", ".join(str(part) for part in where if part is not None)
        return f"{self.survey_year}, {place}, {self.value}: {_shown(self.earlier)} -> {_shown(self.later)}"


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.10g}"


@contextmanager
def _both(earlier: Path, later: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection with the tables of both releases as `earlier.marts` and `later.marts`.

    They are read from Parquet: somebody may have opened the database of a release that is in use for writing.
    """
    with confined_connection(earlier, later) as connection:
        for name, folder in (("earlier", earlier), ("later", later)):
            connection.execute(f"attach ':memory:' as {name}")
            connection.execute(f"create schema {name}.marts")
            for path in sorted((folder / "parquet").glob("*.parquet")):
                connection.execute(f'create view {name}.marts."{path.stem}" as from {literal(path.resolve())}')
        yield connection


def _same_people(earlier: Path, later: Path) -> bool:
    """Whether two releases are about the same survey: those of different provenance are not."""
    try:
        return bool(notes_of(earlier)["provenance"] == notes_of(later)["provenance"])
    except Refusal:
        return True  # Its tables may still be readable.


# ---------------------------------------------------------------------------------------- differences


def difference(earlier: Path, later: Path) -> dict[str, Any]:
    """Per table which rows appeared, vanished or changed between two releases, and by how much.

    A dictionary by table name: `rows` of both, columns that are gone, new or retyped, how many rows `appeared`,
    `vanished` and `changed`; by column how many values changed and the largest difference; a few examples. Rows are
    matched by the table's key; rows of a table without one count as appeared and vanished. Raises Refusal where a
    release cannot be read.
    """
    before, after = notes_of(earlier), notes_of(later)
    found: dict[str, Any] = {}
    with _both(earlier, later) as connection:
        for table in sorted(before["tables"].keys() | after["tables"].keys()):
            old, new = before["tables"].get(table), after["tables"].get(table)
            described: dict[str, Any] = {"rows": [old and old["rows"], new and new["rows"]]}
            if old is None or new is None:
                described["table"] = "appeared" if old is None else "vanished"
            elif old["content_hash"] != new["content_hash"]:
                described |= _columns_between(old, new) | _rows_between(connection, table, old, new)
            else:
                continue
            found[table] = described
    return found


def in_words(found: Mapping[str, Any]) -> str:
    """A difference between two releases as text, a few lines a table."""
    lines = []
    for table, described in found.items():
        if "table" in described:
            lines.append(f"{table}: the whole table {described['table']}")
            continue
        before, after = described["rows"]
        lines.append(
            f"{table}: {before:,} -> {after:,} rows; {described['appeared']:,} appeared, "
            f"{described['vanished']:,} vanished, {described['changed']:,} changed"
        )
        for kind in ("columns_appeared", "columns_vanished", "columns_retyped"):
            if described.get(kind):
                lines.append(f"    {kind.replace('_', ' ')}: {', '.join(described[kind])}")
        for column, change in described["columns"].items():
            largest = change["largest_difference"]
            by = "" if largest is None else f", by up to {largest:.6g}"
            lines.append(f"    {column}: {change['changed']:,} changed{by}")
        for example in described["examples"]:
            lines.append("    e.g. " + ", ".join(f"{key} {value}" for key, value in example.items()))
    return "\n".join(lines) or "The two releases hold the same rows."


def _types(table: Mapping[str, Any]) -> dict[str, str]:
    return {column["name"]: column["type"] for column in table["columns"]}


def _columns_between(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    before, after = _types(old), _types(new)
    changes = {
        "columns_appeared": sorted(after.keys() - before.keys()),
        "columns_vanished": sorted(before.keys() - after.keys()),
        "columns_retyped": [
            f"{name}: {before[name]} -> {after[name]}"
            for name in before
            if after.get(name, before[name]) != before[name]
        ],
    }
    return {key: value for key, value in changes.items() if value}


def _rows_between(
    connection: "duckdb.DuckDBPyConnection", table: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any]:
    before, after = _types(old), _types(new)
    shared = [name for name in after if name in before]
    key = new.get("key") or []
    if not key or not set(key) <= set(shared) or key != (old.get("key") or key):
        key = shared
    values = [name for name in shared if name not in key]
    same = " and ".join(f'a."{name}" is not distinct from b."{name}"' for name in key)
    differs = " or ".join(f'a."{name}" is distinct from b."{name}"' for name in values) or "false"
    columns = []
    for name in values:
        numeric = {before[name], after[name]} <= {"INTEGER", "BIGINT", "DOUBLE"}
        columns += [
            f'count(*) filter (where both_there and a."{name}" is distinct from b."{name}")',
            f'max(abs(b."{name}" - a."{name}")) filter (where both_there)' if numeric else "null",
        ]
    source = (
        f"(select *, true as there from earlier.marts.{table}) as a "
        f"full outer join (select *, true as there from later.marts.{table}) as b on {same}"
    )
    counts = connection.execute(
        f"select count(*) filter (where a.there is null), count(*) filter (where b.there is null), "
        f"count(*) filter (where both_there and ({differs}))"
        + "".join(f", {column}" for column in columns)
        + f" from (select a, b, a.there and b.there as both_there from {source})"
    ).fetchall()[0]
    shown_key = [f'coalesce(a."{name}", b."{name}")::varchar' for name in key]
    shown = connection.execute(
        f"select {', '.join(shown_key)} from {source} "
        f"where a.there is null or b.there is null or {differs} order by all limit {EXAMPLES_SHOWN}"
    ).fetchall()
    changed = {
        name: {"changed": counts[3 + 2 * i], "largest_difference": counts[4 + 2 * i]}
        for i, name in enumerate(values)
        if counts[3 + 2 * i]
    }
    return {
        "key": key,
        "appeared": counts[0],
        "vanished": counts[1],
        "changed": counts[2],
        "columns": changed,
        "examples": [dict(zip(key, row, strict=True)) for row in shown],
    }


# ---------------------------------------------------------------------------------------- history


def restated(earlier: Path, later: Path, tolerance: float) -> list[Restatement]:
    """Values of waves in print that the later release gives otherwise, by more than `tolerance` in their own unit.

    A value that is gone or hidden, or no longer so, counts; a row that the earlier release has not does not.
    Releases of different provenance are about different people and are not compared.
    """
    found = []
    with _both(earlier, later) as connection:
        of = "select provenance from {}.marts.release_info"
        if connection.execute(of.format("earlier")).fetchall() != connection.execute(of.format("later")).fetchall():
            return []
        in_both = connection.execute(
            "select table_name, column_name from duckdb_columns() where schema_name = 'marts' "
            "group by all having count(*) = 2"
        ).fetchall()
        for table, (key, values) in RESTATED_TABLES.items():
            for value in values:
                # What a release no longer has at all is a matter of its schema.
                if (table, value) not in in_both:
                    continue
                names = ("question_id", "response", "geography_level", "geography_code", "breakdown", "category")
                columns = ", ".join(f"a.{name}" if name in key else "null" for name in names)
                rows = connection.execute(
                    f"select a.survey_year, {columns}, a.{value}, b.{value} "
                    f"from earlier.marts.{table} as a left join later.marts.{table} as b "
                    f"on a.survey_year = b.survey_year and "
                    + " and ".join(f"a.{name} is not distinct from b.{name}" for name in key)
                    + f" where (a.{value} is null) <> (b.{value} is null) or abs(a.{value} - b.{value}) > ? + 1e-9 "
                    f"order by a.survey_year, {', '.join(f'a.{name}' for name in key)}",
                    [tolerance],
                ).fetchall()
                found += [
                    Restatement(
                        table=table,
                        survey_year=row[0],
                        value=value,
                        earlier=row[-2],
                        later=row[-1],
                        **dict(zip(names, row[1:-2], strict=True)),
                    )
                    for row in rows
                ]
    return found


def reviewed(found: Sequence[Restatement], revisions: Sequence[Mapping[str, Any]]) -> list[Restatement]:
    """Restatements with reason, reviewer and date of the revision that allows each, where there is one.

    A revision without response is for all of its question; one without question for values that belong to none.
    """
    result = []
    for restatement in found:
        allowed = [
            revision
            for revision in revisions
            if revision["survey_year"] == restatement.survey_year
            and (revision["question_id"] or None) == restatement.question_id
            and (revision["response"] or None) in (None, restatement.response)
        ]
        by = {name: str(allowed[0][name]) for name in ("reason", "reviewer", "reviewed_on")} if allowed else {}
        result.append(Restatement(**{**asdict(restatement), **by}))
    return result


def withdrawn() -> set[tuple[str, str]]:
    """What a release may lack though the one before had it: kind (table, column, check) and name, as reviewed."""
    path = EXPECTATIONS_DIR / "withdrawn.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    incomplete = [row["name"] for row in rows if not (row["reason"] and row["reviewer"] and row["reviewed_on"])]
    if incomplete:
        raise Refusal(
            f"{path.name} is not complete.", [f"{name}: reason, reviewer and date are needed." for name in incomplete]
        )
    return {(row["kind"], row["name"]) for row in rows}


def lost(earlier: Path, later: Path) -> list[tuple[str, str]]:
    """Tables, columns and checks of the earlier release that the later one has not, or has with another type."""
    before, after = notes_of(earlier), notes_of(later)
    found = [("table", name) for name in before["tables"] if name not in after["tables"]]
    for table in before["tables"].keys() & after["tables"].keys():
        types = _types(after["tables"][table])
        for name, kind in _types(before["tables"][table]).items():
            if name not in types:
                found.append(("column", f"{table}.{name}"))
            elif types[name] != kind:
                found.append(("column", f"{table}.{name} {kind} -> {types[name]}"))
    checks = {check["check"] for check in after.get("evidence", [])}
    found += [("check", c["check"]) for c in before.get("evidence", []) if c["check"] not in checks]
    return sorted(set(found))


# ---------------------------------------------------------------------------------------- hidden rows


def revealed_by(earlier: Path, later: Path) -> list[str]:
    """Rows that one of two releases of the same data shows and the other hides, in words; at most a few a table.

    What is hidden in one follows from the other: directly, or as the rest of a published total. Releases of
    different provenance are about different people.
    """
    import duckdb

    if not _same_people(earlier, later):
        return []
    problems = []
    with confined_connection(earlier, later) as connection:
        for table, (whole, part) in HIDING_TABLES.items():
            paths = {name: folder / "csv" / f"{table}.csv" for name, folder in (("earlier", earlier), ("later", later))}
            if not all(path.is_file() for path in paths.values()):
                continue
            keys = ", ".join((*whole, *part))
            try:
                for name, path in paths.items():
                    connection.execute(
                        f"create or replace temp table {name} as select {keys}, bool_or(suppressed = 'true') as hidden "
                        "from read_csv(?, all_varchar = true, header = true, delim = ',', quote = '\"') group by all",
                        [str(path)],
                    )
            except duckdb.Error as error:
                problems.append(f"{earlier.name}, {table}: its rows cannot be compared ({type(error).__name__}).")
                continue
            # A part that only one of them names may be the same people under another name.
            rows = connection.execute(
                f"select {keys}, coalesce(later.hidden, false) from earlier full outer join later using ({keys}) "
                "where coalesce(earlier.hidden, false) <> coalesce(later.hidden, false) "
                f"and ({', '.join(whole)}) in (select ({', '.join(whole)}) from earlier) "
                f"and ({', '.join(whole)}) in (select ({', '.join(whole)}) from later) order by all"
            ).fetchall()
            problems += [
                f"{earlier.name}, {table}: {', '.join(row[:-1])} is "
                + ("hidden now, not there." if row[-1] else "hidden there, not now.")
                for row in rows[:ROWS_SHOWN]
            ]
            if len(rows) > ROWS_SHOWN:
                problems.append(f"{earlier.name}, {table}: and {len(rows) - ROWS_SHOWN} more.")
    return problems
