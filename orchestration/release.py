"""A release on disk: what it holds, whether it is whole, which one readers see, and the journal of all that.

Everything here works from the published folder alone: no warehouse, no Dagster. Belongs here: listing, opening,
verifying, switching, pinning and removing releases. Does not: making one (publish), comparing two (comparison).
"""

import errno
import getpass
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.errors import Refusal
from orchestration.registry import sha256_of
from orchestration.settings import Settings
from orchestration.warehouse import content_hashes, identifier, literal, tables_in

if TYPE_CHECKING:
    import duckdb

DATABASE = "cmhs_marts.duckdb"
# The oldest storage that is written; every client since DuckDB 1.2 reads it.
STORAGE_VERSION = "v1.2.0"
# Folders and links of these names are unfinished work: no release, and cleared away by the next writer.
BUILDING = ".building-"
REMOVING = ".removing-"
JOURNAL = "journal.jsonl"
RELEASE_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
# Without a temporary directory nothing is spilled to a file of its own.
_NOTHING_FROM_ELSEWHERE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "temp_directory": "",
}
TITLE = "Community Mental Health Survey"
PROVENANCE_IN_WORDS = {
    "synthetic": "THE DATA ARE SYNTHETIC: made up, calibrated to published figures; no statement about real people.",
    "deposit": "Made from deposited microdata; check the licence of the deposit before passing figures on.",
}


def releases(settings: Settings) -> list[Path]:
    """Folders of all releases in the order they were published, whatever the clock said then."""
    folders = [p for p in (settings.published_dir / "releases").glob("*") if p.is_dir() and not p.name.startswith(".")]
    published = {
        event["release_id"]: position
        for position, event in enumerate(journal(settings.published_dir))
        if event["event"] == "published"
    }
    return sorted(folders, key=lambda folder: (published.get(folder.name, -1), folder.name))


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


@contextmanager
def confined_connection(*folders: Path, **attached: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A connection with databases attached read-only, by name; it reaches no file but those and what is below
    the folders, no network and no extension, and none of that can be changed on it.

    Raises Refusal where a database cannot be opened.
    """  # fmt: skip
    import duckdb

    with duckdb.connect(config=_NOTHING_FROM_ELSEWHERE) as connection:
        for name, path in attached.items():
            try:
                connection.execute(f"attach {literal(path)} as {name} (read_only)")
            except duckdb.Error as error:
                raise Refusal(f"{path} cannot be opened ({type(error).__name__}).") from None
        allowed = ", ".join(literal(folder.resolve()) for folder in folders)
        connection.execute(f"set allowed_directories = [{allowed}]")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        yield connection


@contextmanager
def open_release(folder: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    """The release's database, read-only, on a connection that reaches no file outside the release.

    Raises Refusal where it cannot be opened.
    """
    import duckdb

    with confined_connection(folder, release=folder / DATABASE) as connection:
        connection.execute("use release")
        try:
            yield connection
        except duckdb.Error as error:
            raise Refusal(f"{folder / DATABASE} cannot be read ({type(error).__name__}).") from None


def rows_of(
    connection: "duckdb.DuckDBPyConnection", query: str, parameters: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """The rows of a query, each by the names of its columns."""
    cursor = connection.execute(query, parameters)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def tables_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows, schema and content hash of each table in the release's database."""
    described = {}
    with open_release(folder) as connection:
        hashes = content_hashes(connection, "marts", tables_in(connection, "marts"))
        for table in hashes:
            columns = connection.execute(
                "select column_name, data_type, comment from duckdb_columns() "
                "where schema_name = 'marts' and table_name = ? order by column_index",
                [table],
            ).fetchall()
            described[table] = {
                "rows": connection.execute(f"select count(*) from marts.{table}").fetchall()[0][0],
                "columns": [dict(zip(("name", "type", "description"), c, strict=True)) for c in columns],
                "content_hash": hashes[table],
            }
    return described


# A cell that begins so is a formula to a spreadsheet.
FORMULA_STARTS = "=+-@\t\r"


def csv_cells(columns: list[dict[str, Any]]) -> str:
    """SQL for the columns of a table as its CSV file holds them: a text that a spreadsheet would take for a
    formula has an apostrophe before it.
    """  # fmt: skip
    starts = ", ".join(f"chr({ord(start)})" for start in FORMULA_STARTS)
    return ", ".join(
        f'case when left("{c["name"]}", 1) in ({starts}) then chr(39) || "{c["name"]}" else "{c["name"]}" end '
        f'as "{c["name"]}"'
        if c["type"] == "VARCHAR"
        else f'"{c["name"]}"'
        for c in columns
    )


def defused(cell: Any) -> Any:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell and cell[0] in FORMULA_STARTS else cell


def _csv_is_as(connection: "duckdb.DuckDBPyConnection", table: str, columns: list[dict[str, Any]], path: Path) -> bool:
    """Whether a CSV file holds the rows of a table, whatever their order."""
    import duckdb

    cells = ", ".join(f"coalesce(\"{c['name']}\"::varchar, '')" for c in columns)
    ours = f"select [{cells}] as cells, 1 as n from (select {csv_cells(columns)} from marts.{table})"
    theirs = (
        f"select [{cells}] as cells, -1 as n from read_csv({literal(path)}, all_varchar = true, header = true, "
        "delim = ',', quote = '\"', escape = '\"')"
    )
    try:
        # One pass over both; two times `except all` takes almost three times as long.
        differing = connection.execute(
            f"select count(*) from (select cells from ({ours} union all {theirs}) group by cells having sum(n) <> 0)"
        ).fetchall()[0][0]
    except duckdb.Error:
        return False
    return bool(differing == 0)


def altered(folder: Path, below: str = "") -> list[str]:
    """Files of a release, of those whose name begins with `below`, that are not what its notes and the journal say."""
    try:
        notes = notes_of(folder)
    except Refusal as refusal:
        return [str(refusal)]
    published = _notes_published(folder)
    if published and sha256_of(folder / "release.json") != published:
        return [f"release.json is not the one that the {JOURNAL} of this folder says was published."]
    problems = []
    try:
        listed = {folder / name: str(of["sha256"]) for name, of in notes["files"].items() if name.startswith(below)}
    except (KeyError, TypeError, AttributeError):
        return [f"{folder} is no release: its release.json is not complete."]
    for path, expected in listed.items():
        if not path.is_file():
            problems.append(f"{path.relative_to(folder)} is missing.")
        elif sha256_of(path) != expected:
            problems.append(f"{path.relative_to(folder)} was altered.")
    known = {*listed, folder / "release.json"}
    problems += [
        f"{path.relative_to(folder)} does not belong to the release."
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in known and str(path.relative_to(folder)).startswith(below)
    ]
    return problems


def _notes_published(folder: Path) -> str | None:
    """The checksum of the notes that a release was published with, where the journal has it."""
    published = [
        event.get("notes_sha256")
        for event in journal(folder.parent.parent)
        if event["release_id"] == folder.name and event["event"] == "published"
    ]
    return published[-1] if published else None


def spoiled(folder: Path) -> list[str]:
    """What is wrong with a release, as `verify` finds it.

    Files with the checksums of notes that the journal vouches for were verified when they were published: database,
    Parquet and CSV are not compared again.
    """
    return altered(folder) if _notes_published(folder) else verify(folder)


def verify(folder: Path) -> list[str]:
    """What is wrong with a release, recomputed from its files alone; nothing where it is whole."""
    if problems := altered(folder):
        return problems
    try:
        return _contradictions(folder, notes_of(folder))
    except Refusal as refusal:
        return [str(refusal)]
    except (KeyError, TypeError, AttributeError):
        return [f"{folder} is no release: its release.json is not complete."]


def _contradictions(folder: Path, notes: Mapping[str, Any]) -> list[str]:
    """Where database, Parquet, CSV and notes of a release do not say the same."""
    problems = []
    found = tables_of(folder)
    if sorted(found) != sorted(notes["tables"]):
        problems.append(f"{DATABASE} holds {', '.join(found)}; expected {', '.join(notes['tables'])}.")
    with open_release(folder) as connection:
        said = {key: notes.get(key) for key in ("release_id", "git_commit", "provenance", "waves")}
        info = connection.execute(f"select {', '.join(said)} from marts.release_info").fetchall()
        if info != [tuple(said.values())]:
            problems.append(f"release.json and {DATABASE} do not say the same of the release.")
        same = []
        for table, expected in notes["tables"].items():
            if found.get(table) != {key: expected[key] for key in ("rows", "columns", "content_hash")}:
                problems.append(f"{DATABASE} table {table} is not the one that was published.")
                continue
            path = literal(folder.resolve() / "parquet" / f"{table}.parquet")
            connection.execute(f"create temp view {identifier(table)} as from {path}")
            same.append(table)
        hashes = content_hashes(connection, "main", same)
        for table in same:
            expected = notes["tables"][table]
            if hashes[table] != expected["content_hash"]:
                problems.append(f"parquet/{table}.parquet differs from the database.")
            if not _csv_is_as(connection, table, expected["columns"], folder.resolve() / "csv" / f"{table}.csv"):
                problems.append(f"csv/{table}.csv differs from the database.")
    return problems


# ---------------------------------------------------------------------------------------- what readers see


def journal(published_dir: Path) -> list[dict[str, Any]]:
    """What happened to the releases of a published folder, the oldest event first.

    Each event has `at` (UTC), `event` (published, rolled back, pinned, unpinned, removed), `release_id` and `by`.
    A line that is damaged, or that a killed writer left unfinished, is passed over.
    """
    path = published_dir / JOURNAL
    events = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and {"event", "release_id"} <= event.keys():
                events.append(event)
    return events


def last_published(published_dir: Path) -> str | None:
    """The id of the release that was published last, whether or not it is still current or kept."""
    published = [str(event["release_id"]) for event in journal(published_dir) if event["event"] == "published"]
    return published[-1] if published else None


def record(settings: Settings, event: str, release_id: str, **more: Any) -> None:
    """Add an event to the journal; it is on the disk when this returns."""
    try:
        by = getpass.getuser()
    except (OSError, KeyError):
        by = f"uid {os.getuid()}"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"at": at, "event": event, "release_id": release_id, "by": by, **more})
    path = settings.published_dir / JOURNAL
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        os.fchmod(descriptor, 0o644)
        size = os.fstat(descriptor).st_size
        unfinished = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        content = (b"\n" if unfinished else b"") + line.encode() + b"\n"
        if os.write(descriptor, content) != len(content):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def demand_no_rollback(settings: Settings, fingerprint: str) -> None:
    """Raise Refusal where a rollback since the last publication withdrew what these very inputs give."""
    withdrawn: dict[str, dict[str, Any]] = {}
    for event in journal(settings.published_dir):
        if event["event"] == "published":
            withdrawn.clear()
        elif event["event"] == "rolled back":
            withdrawn[str(event.get("fingerprint"))] = event
            withdrawn.pop(str(event.get("to_fingerprint")), None)
    if fingerprint in withdrawn:
        event = withdrawn[fingerprint]
        raise Refusal(
            f"Release {event['before']}, made of exactly these inputs, was withdrawn by a rollback to "
            f"{event['release_id']} ({event['at']}, by {event['by']}).",
            ["Change what was wrong with it and refresh, or publish it all the same with `cmhs refresh --force`."],
        )


def switch(settings: Settings, folder: Path) -> None:
    """Point `current` at a release in one atomic rename."""
    link = settings.published_dir / f"{BUILDING}current"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.relative_to(settings.published_dir))
    link.replace(settings.current_release)
    sync(folder.parent)
    sync(settings.published_dir)


def sync(path: Path) -> None:
    """Have a file or folder written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pin(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.pinned")


def is_pinned(folder: Path) -> bool:
    """Whether a release is never removed by itself."""
    return _pin(folder).exists()


def set_pinned(settings: Settings, folder: Path, pinned: bool) -> None:
    """Keep a release for ever, or let it be removed when its time comes; needs the lock of the published folder."""
    if pinned:
        _pin(folder).touch()
    else:
        _pin(folder).unlink(missing_ok=True)
    record(settings, "pinned" if pinned else "unpinned", folder.name)


def clear_unfinished(settings: Settings) -> None:
    """Remove what a killed writer left half made or half removed."""
    below = settings.published_dir / "releases"
    for left_over in [*below.glob(f"{BUILDING}*"), *below.glob(f"{REMOVING}*"),
                      *settings.published_dir.glob(f"{BUILDING}*")]:  # fmt: skip
        left_over.unlink() if left_over.is_symlink() else shutil.rmtree(left_over)


def remove_superseded(settings: Settings, keep: int) -> list[str]:
    """Remove the oldest releases until `keep` are left, never the current or a pinned one; ids of the removed."""
    now = current(settings)
    folders = releases(settings)
    removable = [folder for folder in folders if folder != now and not is_pinned(folder)]
    removed = []
    for folder in removable[: max(0, len(folders) - keep)]:
        doomed = folder.with_name(f"{REMOVING}{folder.name}")
        folder.rename(doomed)
        record(settings, "removed", folder.name)
        shutil.rmtree(doomed)
        removed.append(folder.name)
    return removed
