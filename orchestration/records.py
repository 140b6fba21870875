"""Dagster's records of a run, written without waiting for the disk at each of its events.

Belongs here: how the SQLite files in DAGSTER_HOME are opened. Does not: what is written into them (Dagster).
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any


@contextmanager
def quick_records() -> Iterator[None]:
    """For the length of a block, SQLite files that Dagster opens stay open and are not synced at each commit.

    Dagster opens and closes a file some three times for each event, and a refresh has a thousand: closing the last
    connection copies the write-ahead log into the file, and each opening prepares all statements anew. A process that
    dies loses nothing; a machine that loses power may lose the last events of a run, never the file
    (https://www.sqlite.org/pragma.html#pragma_synchronous).
    """
    import sqlalchemy
    from dagster._core.storage.event_log.sqlite import sqlite_event_log as events
    from dagster._core.storage.runs.sqlite import sqlite_run_storage as runs

    modules: list[Any] = [events, runs]
    held: dict[str, sqlite3.Connection] = {}

    def on_connect(connection: Any, record: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        connection.execute("pragma synchronous = normal")
        for _, _, path in connection.execute("pragma database_list").fetchall():
            if path and path not in held:
                held[path] = stack.enter_context(closing(sqlite3.connect(path, check_same_thread=False)))
            if path:
                # Its write-ahead log, which a new file has after a while, is open once something was read from it.
                held[path].execute("select count(*) from sqlite_master").fetchall()

    before = [module.create_engine for module in modules]
    with ExitStack() as stack:
        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", on_connect)
        stack.callback(sqlalchemy.event.remove, sqlalchemy.Engine, "connect", on_connect)
        for module, create_engine in zip(modules, before, strict=True):
            module.create_engine = _one_for_each_file(create_engine)
            stack.callback(setattr, module, "create_engine", create_engine)
        yield


def _one_for_each_file(create_engine: Callable[..., Any]) -> Callable[..., Any]:
    engines: dict[str, Any] = {}

    def engine_of(url: str, **options: Any) -> Any:
        if url not in engines:
            engines[url] = create_engine(url, **options)
        return engines[url]

    return engine_of
