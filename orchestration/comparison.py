"""Two releases side by side: what differs, and what must not.

Everything is read from the files of the two releases. Belongs here: differences of rows, restated values, files that
were delivered again, broken schemas, hidden rows that two releases together would give away. Does not: what follows
from them (publish).
"""

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
# What of a wave in print may not move unnoticed: key and values of a table. The indicators repeat estimates.
BREAKDOWNS = ("geography_level", "geography_code", "breakdown", "category", "question_id")
INTERVAL = ("se", "ci_low", "ci_high")
RESTATED_TABLES = {
    "estimates": (("survey_year", *BREAKDOWNS, "response"), ("pct", *INTERVAL, "base")),
    "means": (("survey_year", *BREAKDOWNS), ("mean_score", *INTERVAL, "base")),
    "changes": (
        ("to_year", "from_year", "geography_level", "geography_code", "question_id", "response"),
        ("change", *INTERVAL, "comparable", "significant"),
    ),
    "trust_comparisons": (("survey_year", "trust", "question_id", "response"), ("difference", *INTERVAL, "band")),
    "exclusions": (("survey_year", "question_id", "status"), ("n",)),
    "response_rates": (
        ("survey_year", "geography_level", "geography_code"),
        ("sampled", "responded", "response_rate", "adjusted_response_rate"),
    ),
    "waves": (("survey_year",), ("trusts", "sampled", "responded")),
}
# The step from the first wave to the last one is another one with each new wave.
ROWS_MAY_GO = ("changes",)
ROWS_SHOWN = 3
# Of a checksum, so many tell which file is meant.
DIGITS = 12
EXAMPLES_SHOWN = 5


@dataclass(frozen=True)
class Restatement:
    """One value of a wave that stood in the earlier release and differs in the later one; None is hidden or gone."""

    table: str
    survey_year: int
    question_id: str | None
    response: str | None
    place: str
    value: str
    earlier: float | str | None
    later: float | str | None
    reason: str | None = None
    reviewer: str | None = None
    reviewed_on: str | None = None

    @property
    def difference(self) -> float | None:
        """Later minus earlier, in the value's own unit."""
        if isinstance(self.earlier, str) or isinstance(self.later, str):
            return None
        return None if self.earlier is None or self.later is None else self.later - self.earlier

    @property
    def sentence(self) -> str:
        """The value with what it was and is."""
        where = [self.table, str(self.survey_year), self.question_id, self.response, self.place, self.value]
        return f"{', '.join(part for part in where if part)}: {_shown(self.earlier)} -> {_shown(self.later)}"


def _shown(value: float | str | None) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else f"{value:.10g}"


@contextmanager
def _both(earlier: Path, later: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection with the tables of both releases as `earlier.marts` and `later.marts`.

    They are read from Parquet: somebody may have opened the database of a release that is in use for writing.
    """
    import duckdb

    with confined_connection(earlier, later) as connection:
        for name, folder in (("earlier", earlier), ("later", later)):
            connection.execute(f"attach ':memory:' as {name}")
            connection.execute(f"create schema {name}.marts")
            for path in sorted((folder / "parquet").glob("*.parquet")):
                try:
                    connection.execute(f'create view {name}.marts."{path.stem}" as from {literal(path.resolve())}')
                except duckdb.Error as error:
                    raise Refusal(f"{path} cannot be opened ({type(error).__name__}).") from None
        yield connection


def same_people(earlier: Path, later: Path) -> bool:
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
    The two releases are of the same people, see `same_people`.
    """
    found = []
    with _both(earlier, later) as connection:
        types = {
            (database, table, column): kind
            for database, table, column, kind in connection.execute(
                "select database_name, table_name, column_name, data_type from duckdb_columns() "
                "where schema_name = 'marts'"
            ).fetchall()
        }
        for table, (key, values) in RESTATED_TABLES.items():
            for value in values:
                # What a release has not at all is a matter of its schema, see `lost`.
                needed = {(side, table, name) for side in ("earlier", "later") for name in (*key, value)}
                if not needed <= types.keys():
                    continue
                found += _restated_values(connection, table, key, value, types["later", table, value], tolerance)
    return found


def _restated_values(
    connection: "duckdb.DuckDBPyConnection", table: str, key: Sequence[str], value: str, kind: str, tolerance: float
) -> list[Restatement]:
    text = kind in ("VARCHAR", "BOOLEAN")
    a, b = (f"{side}.{value}::varchar" if text else f"{side}.{value}" for side in "ab")
    moved = f"{a} <> {b}" if text else f"abs({a} - {b}) > {tolerance} + 1e-9"
    join = "inner join" if table in ROWS_MAY_GO else "left join"
    question, response = (f"a.{name}" if name in key else "null" for name in ("question_id", "response"))
    others = [name for name in key[1:] if name not in ("question_id", "response")]
    places = ", ".join(f"'{name} ' || a.{name}" for name in others)
    place = f"concat_ws(', ', {places})" if others else "''"
    rows = connection.execute(
        f"select a.{key[0]}, {question}, {response}, {place}, {a}, {b} "
        f"from earlier.marts.{table} as a {join} later.marts.{table} as b on "
        + " and ".join(f"a.{name} is not distinct from b.{name}" for name in key)
        + f" where ({a} is null) <> ({b} is null) or {moved} order by {', '.join(f'a.{name}' for name in key)}"
    ).fetchall()
    return [
        Restatement(table, year, of, answer, where, value, before, now) for year, of, answer, where, before, now in rows
    ]


@dataclass(frozen=True)
class Redelivery:
    """A wave whose files are not those that the earlier release was made of; `after` is empty where it was withdrawn.

    The files of both sides are by role: path, edition and SHA-256.
    """

    survey_year: int
    before: Mapping[str, Mapping[str, str]]
    after: Mapping[str, Mapping[str, str]]
    reason: str | None = None
    reviewer: str | None = None
    reviewed_on: str | None = None

    @property
    def withdrawn(self) -> bool:
        """Whether the wave has no files any more."""
        return not self.after

    @property
    def sentence(self) -> str:
        """Which files changed, with edition and checksum of both sides."""
        if self.withdrawn:
            return "the wave has no files any more"

        def shown(file: Mapping[str, str] | None) -> str:
            return f"edition {file['edition']} ({file['sha256'][:DIGITS]}...)" if file else "none"

        roles = [role for role in sorted({*self.before, *self.after}) if _differs(self, role)]
        return "; ".join(
            f"{role} {self.after.get(role, self.before.get(role, {}))['path']}: "
            f"{shown(self.before.get(role))} -> {shown(self.after.get(role))}"
            for role in roles
        )

    @property
    def digits(self) -> list[str]:
        """The first digits of the checksums of the files that are there now and other ones; a review repeats them."""
        return [file["sha256"][:DIGITS] for role, file in sorted(self.after.items()) if _differs(self, role)]


def _differs(of: Redelivery, role: str) -> bool:
    before, after = of.before.get(role), of.after.get(role)
    # A file that only moved is the same one.
    return before is None or after is None or any(before[key] != after[key] for key in ("edition", "sha256"))


def redelivered(earlier: Path, sources: Sequence[Mapping[str, Any]]) -> list[Redelivery]:
    """Waves of the earlier release whose files are other ones now; `sources` are rows of marts.source_files.

    A wave that the earlier release has not is new, and not delivered again.
    """

    def by_wave(files: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, dict[str, str]]]:
        waves: dict[int, dict[str, dict[str, str]]] = {}
        for file in files:
            about = {key: str(file.get(key) or "") for key in ("path", "edition", "sha256")}
            waves.setdefault(int(file["survey_year"]), {})[str(file["file_role"])] = about
        return waves

    before, after = by_wave(notes_of(earlier).get("inputs", [])), by_wave(sources)
    pairs = [Redelivery(wave, files, after.get(wave, {})) for wave, files in sorted(before.items())]
    return [pair for pair in pairs if any(_differs(pair, role) for role in {*pair.before, *pair.after})]


def allows_delivery(revision: Mapping[str, str], redelivery: Redelivery) -> bool:
    """Whether a row of the revisions seed is about these very files of this wave.

    It names no question and no response, and its reason holds the first digits of each new checksum: who reviewed
    one delivery has not seen the next.
    """
    return (
        revision["survey_year"] == str(redelivery.survey_year)
        and not (revision["question_id"] or revision["response"])
        and all(digits in revision["reason"] for digits in redelivery.digits)
    )


def reviewed_deliveries(found: Sequence[Redelivery], revisions: Sequence[Mapping[str, str]]) -> list[Redelivery]:
    """Redeliveries with reason, reviewer and date of the revision that allows each, where there is one."""
    return [
        next((replace(each, **_review(row)) for row in revisions if allows_delivery(row, each)), each) for each in found
    ]


def _review(revision: Mapping[str, str]) -> dict[str, Any]:
    return {column: revision[column] for column in ("reason", "reviewer", "reviewed_on")}


def allows(revision: Mapping[str, str], restatement: Restatement, gone: Collection[int] = ()) -> bool:
    """Whether a row of the revisions seed is about this value; against which release is the caller's to know.

    A row for a wave that is gone, without question, is about all of its values.
    """
    question = revision["question_id"] or None
    return revision["survey_year"] == str(restatement.survey_year) and (
        (question is None and restatement.survey_year in gone)
        or (question == restatement.question_id and (revision["response"] or None) in (None, restatement.response))
    )


def reviewed(
    found: Sequence[Restatement], revisions: Sequence[Mapping[str, str]], gone: Collection[int] = ()
) -> list[Restatement]:
    """Restatements with reason, reviewer and date of the revision that allows each, where there is one.

    A revision without response is for all of its question; one without question for values that belong to none, and
    for all values of a wave that is `gone`.
    """
    return [
        next((replace(each, **_review(row)) for row in revisions if allows(row, each, gone)), each) for each in found
    ]


WITHDRAWN = ["kind", "name", "release_id", "reason", "reviewer", "reviewed_on"]


def withdrawn(earlier: str) -> set[tuple[str, str]]:
    """What may be lacking though the release `earlier` had it: kind (table, column, check) and name, as reviewed."""
    path = EXPECTATIONS_DIR / "withdrawn.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows, header = list(reader), reader.fieldnames
    except (OSError, ValueError, csv.Error):
        rows, header = [], None
    if header != WITHDRAWN:
        raise Refusal(f"{path.name} is not complete.", [f"It should have the columns {', '.join(WITHDRAWN)}."])
    incomplete = [row["name"] for row in rows if not all(row[column].strip() for column in WITHDRAWN)]
    if incomplete:
        raise Refusal(
            f"{path.name} is not complete.", [f"{name}: reason, reviewer and date are needed." for name in incomplete]
        )
    return {(row["kind"], row["name"]) for row in rows if row["release_id"] == earlier}


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


def _load_hiding(
    connection: "duckdb.DuckDBPyConnection", folder: Path, table: str, keys: Sequence[str], name: str
) -> None:
    """Which rows of a release's table are hidden, as a table `name`; from CSV where the Parquet file is damaged."""
    import duckdb

    columns = ", ".join(f"{key}::varchar as {key}" for key in keys)
    parquet, text = (literal((folder / kind / f"{table}.{kind}").resolve()) for kind in ("parquet", "csv"))
    for source in (parquet, f"read_csv({text}, all_varchar = true, header = true, delim = ',', quote = '\"')"):
        try:
            connection.execute(
                f"create or replace temp table {name} as "
                f"select {columns}, bool_or(lower(suppressed::varchar) = 'true') as hidden from {source} group by all"
            )
            return
        except duckdb.Error:
            if source != parquet:
                raise


def revealed_by(earlier: Path, later: Path) -> list[str]:
    """Rows that one of two releases of the same data shows and the other hides, in words; at most a few a table.

    What is hidden in one follows from the other: directly, or as the rest of a published total. Releases of
    different provenance are about different people.
    """
    import duckdb

    if not same_people(earlier, later):
        return []
    problems = []
    try:
        hiding = notes_of(earlier)["tables"]
    except Refusal:
        hiding = HIDING_TABLES
    with confined_connection(earlier, later) as connection:
        for table, (whole, part) in HIDING_TABLES.items():
            if table not in hiding:
                continue
            keys = ", ".join((*whole, *part))
            try:
                for name, folder in (("earlier", earlier), ("later", later)):
                    _load_hiding(connection, folder, table, (*whole, *part), name)
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
                f"{earlier.name}, {table}: {', '.join(map(str, row[:-1]))} is "
                + ("hidden now, not there." if row[-1] else "hidden there, not now.")
                for row in rows[:ROWS_SHOWN]
            ]
            if len(rows) > ROWS_SHOWN:
                problems.append(f"{earlier.name}, {table}: and {len(rows) - ROWS_SHOWN} more.")
    return problems
