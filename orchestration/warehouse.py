"""The one way into the DuckDB warehouse: how it is opened, how its tables are compared.

Belongs here: connections and content hashes. Does not: what the tables mean.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.errors import Busy, Refusal

if TYPE_CHECKING:
    import duckdb

# DuckDB lets one process write or many read, so nobody keeps a connection longer than a step takes.
_CONFIGURATION: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "autoinstall_known_extensions": False,
}

# What DuckDB says where another program has the file open.
HELD = "Could not set lock"


@contextmanager
def connect(path: Path, *, read_only: bool = False) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open the warehouse file for the length of a block; the file is the user's alone (0600).

    Raises Busy where another program holds it, and Refusal where it is no DuckDB file or the disk does not take what is
    written.
    """
    import duckdb

    try:
        if not read_only and path.is_file():
            path.chmod(0o600)
        connection = duckdb.connect(str(path), read_only=read_only, config=_CONFIGURATION)
    except (duckdb.Error, OSError) as error:
        reason = str(error).splitlines()[0]
        if held := HELD in reason:
            # DuckDB also names the program with its folder, and its user; an alert may leave the machine.
            process = re.search(r"\(PID \d+\)", reason)
            reason = " ".join(["another program has it open", *([process[0]] if process else [])]) + "."
        raise (Busy if held else Refusal)(
            f"The warehouse {path} cannot be opened: {reason}",
            [
                "If another program has it open, close it there (readers use the published file instead).",
                "If the file or its folder is write-protected, make it writable; `cmhs refresh` makes a lost "
                "warehouse again from the raw files.",
            ],
        ) from None
    if not read_only:
        path.chmod(0o600)
    try:
        yield connection
    except (duckdb.IOException, duckdb.TransactionException) as error:
        raise Refusal(
            f"The warehouse {path} could not be written ({type(error).__name__}).",
            ["Make room (`df -h`, `ulimit -f`), then refresh."],
        ) from None
    finally:
        connection.close()


def set_aside_if_damaged(path: Path) -> Path | None:
    """Rename a warehouse that cannot be read to the last block, so that the next run makes it again.

    Returns where the damaged file lies now, or None where the warehouse is sound, missing or held by another
    program. Everything in it follows from the raw files; an older damaged file is replaced.
    """
    import duckdb

    if not path.exists():
        return None
    try:
        with duckdb.connect(str(path), read_only=True, config=_CONFIGURATION) as connection:
            for schema, table in connection.execute("select schema_name, table_name from duckdb_tables()").fetchall():
                # Every block has a checksum of its own, which DuckDB looks at when it reads the block.
                name = f"{identifier(schema)}.{identifier(table)}"
                connection.execute(f"select bit_xor(hash(t)) from {name} as t").fetchall()
        return None
    except duckdb.OutOfMemoryException:
        return None
    except duckdb.Error as error:
        if HELD in str(error) or not os.access(path, os.R_OK):
            return None
    except UnicodeDecodeError:
        pass  # What the database says of damaged bytes need not be text.
    aside = path.with_name(f"{path.name}.damaged")
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside)
    else:
        # A folder is not renamed over a file.
        aside.unlink(missing_ok=True)
    path.rename(aside)
    wal = path.with_name(f"{path.name}.wal")
    if wal.exists():
        wal.rename(aside.with_name(f"{aside.name}.wal"))
    return aside


def literal(text: object) -> str:
    """A text as an SQL literal."""
    return "'" + str(text).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """The name of a table or column as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def tables_in(connection: "duckdb.DuckDBPyConnection", schema: str) -> list[str]:
    """Names of the tables of a schema, in order; none where there is no such schema."""
    rows = connection.execute(
        "select table_name from duckdb_tables() where schema_name = ? order by table_name", [schema]
    ).fetchall()
    return [name for (name,) in rows]


def insert(connection: "duckdb.DuckDBPyConnection", table: str, rows: Sequence[Sequence[Any]]) -> None:
    """Add rows to a table, given as all of its columns in order.

    As lists in one statement: DuckDB's own `executemany` takes a hundred times as long for some hundred rows.
    """
    columns = [list(column) for column in zip(*rows, strict=True)]
    if columns:
        connection.execute(f"insert into {table} select {', '.join(['unnest(?)'] * len(columns))}", columns)


def content_hashes(connection: "duckdb.DuckDBPyConnection", schema: str, tables: Iterable[str]) -> dict[str, str]:
    """By table the SHA-256 of its column names, types and rows, whatever the order the rows lie in.

    One statement for all of them, so that DuckDB reads several at a time.
    """
    columns, queries = {}, []
    for table in tables:
        relation = f"{identifier(schema)}.{identifier(table)}"
        columns[table] = [(name, kind) for name, kind, *_ in connection.execute(f"describe {relation}").fetchall()]
        cells = ", ".join(f"{identifier(name)}::varchar" for name, _ in columns[table])
        queries.append(
            f"select {literal(table)}, coalesce(sha256(string_agg(row_hash, '' order by row_hash)), '') "
            f"from (select sha256(to_json([{cells}])::varchar) as row_hash from {relation})"
        )
    rows = dict(connection.execute(" union all ".join(queries)).fetchall()) if queries else {}
    return {
        table: hashlib.sha256(json.dumps([described, rows[table]]).encode()).hexdigest()
        for table, described in columns.items()
    }
