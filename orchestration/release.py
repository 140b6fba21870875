"""Publishing: the marts as a folder that readers can trust, switched in one step.

A release is built aside, verified from its own files, made read-only and only then becomes `current`; whatever
goes wrong before leaves the last release as it was. Belongs here: building, verifying, switching, listing
releases. Does not: whether it may be published (gate).
"""

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from orchestration import gate
from orchestration.errors import Refusal
from orchestration.lock import WriterLock
from orchestration.registry import sha256_of
from orchestration.settings import OWNERS, Settings
from orchestration.warehouse import connect, content_hash, tables_in

if TYPE_CHECKING:
    import duckdb

DATABASE = "cmhs_marts.duckdb"
# The oldest storage that is written; every client since DuckDB 1.2 reads it.
STORAGE_VERSION = "v1.2.0"
BUILDING = ".building-"
README = """\
{title}, release {release_id}

{provenance}

cmhs_marts.duckdb   all tables, schema marts; open it read-only (DuckDB 1.2 or later)
parquet/, csv/      the same tables as files
datapackage.json    what the tables and columns mean (Frictionless)
release.json        how the release was made: inputs, checks, content hashes
"""
TITLE = "Community Mental Health Survey"
PROVENANCE_IN_WORDS = {
    "synthetic": "THE DATA ARE SYNTHETIC: made up, calibrated to published figures; no statement about real people.",
    "deposit": "Made from deposited microdata; check the licence of the deposit before passing figures on.",
}


def releases(settings: Settings) -> list[Path]:
    """Folders of all releases, the oldest first."""
    folder = settings.published_dir / "releases"
    return sorted(p for p in folder.glob("*") if p.is_dir() and not p.name.startswith("."))


def current(settings: Settings) -> Path | None:
    """The folder of the release that readers see, or None."""
    return settings.current_release.resolve() if settings.current_release.exists() else None


def notes_of(folder: Path) -> dict[str, Any]:
    """A release's release.json. Raises Refusal where it cannot be read."""
    try:
        notes: dict[str, Any] = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Refusal(f"{folder} is no release: its release.json cannot be read.") from None
    if not isinstance(notes, dict) or not {"release_id", "provenance", "files", "tables"} <= notes.keys():
        raise Refusal(f"{folder} is no release: its release.json is not complete.")
    return notes


def publish(settings: Settings) -> Path:
    """Publish the last build of the warehouse and return the release's folder; needs the writer's lock.

    Raises Refusal, and leaves everything as it was, where the gate lacks evidence or the new files do not
    verify.
    """
    import duckdb

    with connect(settings.warehouse, read_only=True) as warehouse:
        build = gate.demand_evidence(warehouse, settings)
        published_before = gate.published_as(warehouse) == (build.release_id, build.fingerprint)
    folder = settings.published_dir / "releases" / build.release_id
    if settings.current_release.exists() and not settings.current_release.is_symlink():
        raise Refusal(
            f"{settings.current_release} is no link, so it cannot be switched to a new release.",
            ["Move it away; the next refresh makes the link."],
        )
    if folder.exists():
        if published_before and folder != current(settings):
            raise Refusal(
                f"This build was published before, as {folder.name}, and is no longer current.",
                ["Make a new release with `cmhs refresh --force`."],
            )
        # Otherwise it was cut off between its last two steps, and only the switch is left to do.
        if problems := verify(folder):
            raise Refusal(f"Release {folder.name} is there already and damaged.", problems)
        if folder != current(settings):
            _switch(settings, folder)
        _mark_published(settings, build)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(settings.published_dir.stat().st_mode & 0o777)
    for left_over in [*folder.parent.glob(f"{BUILDING}*"), *settings.published_dir.glob(f"{BUILDING}*")]:
        left_over.unlink() if left_over.is_symlink() else shutil.rmtree(left_over)
    aside = folder.parent / f"{BUILDING}{build.release_id}"
    aside.mkdir()
    try:
        with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
            _copy_tables(connection, settings.warehouse, aside)
        _describe(settings, aside, build)
        problems = verify(aside)
        if sorted(notes_of(aside)["tables"]) != sorted(gate.PUBLISHED_TABLES):
            problems.append(f"It holds other tables than {', '.join(gate.PUBLISHED_TABLES)}.")
        if problems:
            raise Refusal(f"The new release {build.release_id} does not verify.", problems)
        if given_away := [sentence for earlier in releases(settings) for sentence in revealed_by(earlier, aside)]:
            raise Refusal(
                "The new release and an earlier one together give away rows that one of them hides.",
                [
                    *given_away,
                    "Find out why other rows are hidden now. If that is right, withdraw the earlier release (remove "
                    "its folder, and the link `current` where it leads there) and refresh again.",
                ],
            )
        _seal(aside)
        aside.rename(folder)
    except duckdb.Error as error:
        raise Refusal(f"The release could not be written ({type(error).__name__}).") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _switch(settings, folder)
    _mark_published(settings, build)
    return folder


def _mark_published(settings: Settings, build: gate.Build) -> None:
    with connect(settings.warehouse) as warehouse:
        gate.mark_published(warehouse, build)


def _copy_tables(connection: "duckdb.DuckDBPyConnection", warehouse: Path, aside: Path) -> None:
    connection.execute(f"attach '{_literal(warehouse)}' as warehouse (read_only)")
    connection.execute(f"attach '{_literal(aside / DATABASE)}' as release (storage_version '{STORAGE_VERSION}')")
    connection.execute("create schema release.marts")
    for kind in ("parquet", "csv"):
        (aside / kind).mkdir()
    for table in gate.PUBLISHED_TABLES:
        source = f"(select * from warehouse.marts.{table} order by all)"
        connection.execute(f"create table release.marts.{table} as from {source}")
        for column, comment in _comments(connection, table):
            target = f"column release.marts.{table}.{column}" if column else f"table release.marts.{table}"
            connection.execute(f"comment on {target} is '{_literal(comment)}'")
        connection.execute(f"copy {source} to '{_literal(aside / 'parquet' / table)}.parquet' (format parquet)")
        connection.execute(f"copy {source} to '{_literal(aside / 'csv' / table)}.csv' (format csv, header)")
    connection.execute("checkpoint release")
    connection.execute("detach release")


def _literal(text: object) -> str:
    return str(text).replace("'", "''")


def _comments(connection: "duckdb.DuckDBPyConnection", table: str) -> list[tuple[str, str]]:
    """Comments of a warehouse table ('' as column) and of its columns."""
    return connection.execute(
        "select '', comment from duckdb_tables() where database_name = 'warehouse' and schema_name = 'marts' "
        "and table_name = $1 and comment is not null union all "
        "select column_name, comment from duckdb_columns() where database_name = 'warehouse' "
        "and schema_name = 'marts' and table_name = $1 and comment is not null",
        [table],
    ).fetchall()


@contextmanager
def open_release(folder: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    """The release's database, read-only. Raises Refusal where it cannot be opened."""
    import duckdb

    try:
        connection = duckdb.connect(str(folder / DATABASE), read_only=True)
    except duckdb.Error as error:
        raise Refusal(f"{folder / DATABASE} cannot be opened ({type(error).__name__}).") from None
    try:
        yield connection
    finally:
        connection.close()


def _tables_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows, schema and content hash of each table in the release's database."""
    described = {}
    with open_release(folder) as connection:
        for table in tables_in(connection, "marts"):
            columns = connection.execute(
                "select column_name, data_type, comment from duckdb_columns() "
                "where schema_name = 'marts' and table_name = ? order by column_index",
                [table],
            ).fetchall()
            described[table] = {
                "rows": connection.execute(f"select count(*) from marts.{table}").fetchall()[0][0],
                "columns": [dict(zip(("name", "type", "description"), c, strict=True)) for c in columns],
                "content_hash": content_hash(connection, "marts", table),
            }
    return described


def _describe(settings: Settings, aside: Path, build: gate.Build) -> None:
    """Write release.json, datapackage.json and the readme into a release that is being built."""
    tables = _tables_of(aside)
    with open_release(aside) as connection:
        release_id, published_at, commit, provenance, waves = connection.execute(
            "select release_id, published_at, git_commit, provenance, waves from marts.release_info"
        ).fetchall()[0]
        inputs = connection.execute("select * from marts.source_files order by path")
        names = [column[0] for column in inputs.description or []]
        sources = [dict(zip(names, row, strict=True)) for row in inputs.fetchall()]
        suppressed = {
            table: connection.execute(f"select count(*) from marts.{table} where suppressed").fetchall()[0][0]
            for table, description in tables.items()
            if any(column["name"] == "suppressed" for column in description["columns"])
        }
    with connect(settings.warehouse, read_only=True) as warehouse:
        checks = warehouse.execute(
            "select kind, count(*) from gate.evidence where build_id = ? and status = 'pass' group by kind",
            [build.build_id],
        ).fetchall()
    (aside / "README.txt").write_text(
        README.format(title=TITLE, release_id=release_id, provenance=PROVENANCE_IN_WORDS[provenance]),
        encoding="utf-8",
    )
    (aside / "datapackage.json").write_text(
        json.dumps(_datapackage(aside, release_id, provenance, published_at, tables), indent=2),
        encoding="utf-8",
    )
    notes = {
        "release_id": release_id,
        "title": TITLE,
        "provenance": provenance,
        "provenance_in_words": PROVENANCE_IN_WORDS[provenance],
        "waves": waves,
        "published_at": published_at.replace(tzinfo=UTC).isoformat(),
        "git_commit": commit,
        "fingerprint": build.fingerprint,
        "dbt_invocation_id": build.build_id,
        "dagster_run_id": build.dagster_run_id,
        "checks_passed": dict(checks),
        "suppressed_rows": suppressed,
        "storage_version": STORAGE_VERSION,
        "versions": {"python": platform.python_version()}
        | {p: version(p) for p in ("dagster", "dbt-core", "dbt-duckdb", "duckdb", "great-expectations")},
        "inputs": sources,
        "tables": tables,
        "files": {
            str(path.relative_to(aside)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(aside.rglob("*"))
            if path.is_file()
        },
    }
    (aside / "release.json").write_text(json.dumps(notes, indent=2, default=str), encoding="utf-8")


FRICTIONLESS_TYPES = {
    "BOOLEAN": "boolean",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "DOUBLE": "number",
    "VARCHAR": "string",
    "DATE": "date",
    "TIMESTAMP": "datetime",
}


def _datapackage(
    aside: Path, release_id: str, provenance: str, published_at: datetime, tables: Mapping[str, Any]
) -> dict[str, Any]:
    """The release as a Frictionless data package over its CSV files."""
    return {
        "name": "community-mental-health-survey",
        "id": release_id,
        "title": TITLE,
        "description": PROVENANCE_IN_WORDS[provenance],
        "created": published_at.replace(tzinfo=UTC).isoformat(),
        "profile": "tabular-data-package",
        "resources": [
            {
                "name": table,
                "path": f"csv/{table}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "encoding": "utf-8",
                "bytes": (aside / "csv" / f"{table}.csv").stat().st_size,
                "hash": f"sha256:{sha256_of(aside / 'csv' / f'{table}.csv')}",
                "schema": {
                    "fields": [
                        {
                            "name": column["name"],
                            "type": FRICTIONLESS_TYPES[column["type"]],
                            "description": column["description"],
                        }
                        | ({"format": "any"} if column["type"] == "TIMESTAMP" else {})
                        for column in description["columns"]
                    ],
                    "missingValues": [""],
                },
            }
            for table, description in tables.items()
        ],
    }


def verify(folder: Path) -> list[str]:
    """What is wrong with a release, recomputed from its files alone; nothing where it is whole."""
    try:
        notes = notes_of(folder)
    except Refusal as refusal:
        return [str(refusal)]
    problems = []
    listed = {folder / name: expected for name, expected in notes["files"].items()}
    for path, expected in listed.items():
        if not path.is_file():
            problems.append(f"{path.relative_to(folder)} is missing.")
        elif sha256_of(path) != expected["sha256"]:
            problems.append(f"{path.relative_to(folder)} was altered.")
    known = {*listed, folder / "release.json"}
    problems += [
        f"{path.relative_to(folder)} does not belong to the release."
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in known
    ]
    if problems:
        return problems
    found = _tables_of(folder)
    if sorted(found) != sorted(notes["tables"]):
        problems.append(f"{DATABASE} holds {', '.join(found)}; expected {', '.join(notes['tables'])}.")
    with open_release(folder) as connection:
        said = {key: notes.get(key) for key in ("release_id", "git_commit", "provenance", "waves")}
        info = connection.execute(f"select {', '.join(said)} from marts.release_info").fetchall()
        if info != [tuple(said.values())]:
            problems.append(f"release.json and {DATABASE} do not say the same of the release.")
        for table, expected in notes["tables"].items():
            if found.get(table) != expected:
                problems.append(f"{DATABASE} table {table} is not the one that was published.")
            path = _literal(folder / "parquet" / table)
            connection.execute(f"create temp view \"{table}\" as from '{path}.parquet'")
            if content_hash(connection, "main", table) != expected["content_hash"]:
                problems.append(f"parquet/{table}.parquet differs from the database.")
            rows = connection.execute(
                "select count(*) from read_csv(?, all_varchar = true, header = true, delim = ',', quote = '\"')",
                [str(folder / "csv" / f"{table}.csv")],
            ).fetchall()[0][0]
            if rows != expected["rows"]:
                problems.append(f"csv/{table}.csv has {rows} rows; expected {expected['rows']}.")
    return problems


# Tables whose rows are hidden one by one: the whole that parts belong to, and what names a part.
HIDING_TABLES = {
    "estimates": (("survey_year", "question_id", "geography_level", "breakdown"), ("geography_code", "category")),
    "weight_cells": (("survey_year",), ("trust", "cell")),
}
ROWS_SHOWN = 3


def revealed_by(earlier: Path, later: Path) -> list[str]:
    """Rows that one of two releases of the same data shows and the other hides, in words; at most a few a table.

    What is hidden in one follows from the other: directly, or as the rest of a published total. Releases of
    different provenance are about different people.
    """
    import duckdb

    try:
        if notes_of(earlier)["provenance"] != notes_of(later)["provenance"]:
            return []
    except Refusal:
        pass  # Its tables may still be readable.
    problems = []
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
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


def _seal(aside: Path) -> None:
    """Make a release's files readable for all and writable for nobody, and put them on the disk."""
    for path in [*sorted(aside.rglob("*"), reverse=True), aside]:
        path.chmod(0o444 if path.is_file() else 0o755)
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _switch(settings: Settings, folder: Path) -> None:
    """Point `current` at a release in one atomic rename."""
    link = settings.published_dir / f"{BUILDING}current"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.relative_to(settings.published_dir))
    link.replace(settings.current_release)
    _sync(folder.parent)
    _sync(settings.published_dir)


def release_asset(settings: Settings) -> dg.AssetsDefinition:
    """The published release as the last asset of the lineage."""

    @dg.asset(
        key=["published", "release"],
        deps=[dg.AssetKey(["marts", table]) for table in gate.PUBLISHED_TABLES],
        group_name="published",
        kinds={"duckdb", "parquet", "csv"},
        owners=OWNERS,
        description=(
            "What readers see: the marts as a read-only folder behind the link data/published/current. Published "
            "only where every declared check has a recorded pass of this very build; otherwise the last release "
            "stays."
        ),
    )
    def release(context: dg.AssetExecutionContext, writer_lock: WriterLock) -> dg.MaterializeResult:
        folder = publish(settings)
        notes = notes_of(folder)
        context.log.info(f"published {folder.name}")
        return dg.MaterializeResult(
            metadata={
                "release": notes["release_id"],
                "provenance": notes["provenance_in_words"],
                "waves": notes["waves"],
                "commit": notes["git_commit"],
                "checks passed": notes["checks_passed"],
                "rows": {table: described["rows"] for table, described in notes["tables"].items()},
                "dagster/uri": (folder / DATABASE).as_uri(),
            },
            data_version=dg.DataVersion(notes["fingerprint"]),
        )

    return release
