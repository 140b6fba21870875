"""Dagster's records of runs and checks: opening them, forgetting them, and writing them without waiting for the disk.

They are SQLite files in DAGSTER_HOME, or in PostgreSQL where dagster.yaml says so. Belongs here: how they are opened.
Does not: what is written into them (Dagster).
"""

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.errors import Refusal
from orchestration.progress import tell

if TYPE_CHECKING:
    import dagster as dg

# In seconds; a connection to PostgreSQL that is older is opened anew.
CONNECTION_AGE = 3600
# What dagster-postgres logs at each of its attempts to reach the server.
NEW_ATTEMPT = "Retrying failed database"


def in_postgresql(dagster_home: Path) -> bool:
    """Whether the dagster.yaml of that folder puts the records into PostgreSQL, in either way it can be written."""
    configuration = dagster_home / "dagster.yaml"
    if not configuration.exists():
        return False
    # Dagster itself says what is wrong with a file that is no text.
    lines = configuration.read_text(encoding="utf-8", errors="replace").splitlines()
    return any("postgres" in line.partition("#")[0] for line in lines)


@contextmanager
def open_records(dagster_home: Path) -> "Iterator[dg.DagsterInstance]":
    """Dagster with its records. Raises Refusal where they cannot be read or written, at once or later."""
    import dagster as dg

    with _attempts_as_progress():
        try:
            instance = dg.DagsterInstance.get()
        except Exception as error:
            raise _refusal(dagster_home, error, "Look at dagster.yaml there; removed, it is written anew.") from None
        with instance, quick_records():
            try:
                if in_postgresql(dagster_home):
                    # Dagster's way to keep a connection; by itself it opens one for each of some 4,000 statements.
                    instance.optimize_for_webserver(statement_timeout=0, pool_recycle=CONNECTION_AGE, max_overflow=-1)
                yield instance
            except Exception as error:
                if _database_error(error) is None:
                    raise
                advice = "Make room and see that the folder is writable, then refresh."
                raise _refusal(dagster_home, error, advice) from None


def _database_error(error: BaseException) -> BaseException | None:
    """The error of the database that an exception is, or stands for."""
    from sqlalchemy.exc import SQLAlchemyError

    found: BaseException | None = error
    while found and not isinstance(found, SQLAlchemyError | sqlite3.Error):
        found = found.__cause__
    return found


def _refusal(dagster_home: Path, error: Exception, advice: str) -> Refusal:
    cause = _database_error(error) or error
    if not in_postgresql(dagster_home):
        return Refusal(f"Dagster's records in {dagster_home} cannot be used ({type(cause).__name__}).", [advice])
    words = str(getattr(cause, "orig", "")).partition("\n")[0].strip()
    # The part of a password behind an @ is taken for the beginning of the host's name.
    problems = [words] if words and "@" not in words else []
    return Refusal(
        f"Dagster's records in PostgreSQL cannot be used ({type(cause).__name__}).",
        [*problems, "See whether `psql -c 'select 1'` gets through, and what the storage block of dagster.yaml says."],
    )


@contextmanager
def _attempts_as_progress() -> Iterator[None]:
    """Each new attempt to reach PostgreSQL is told as progress instead of being logged with the error."""

    def heard(record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(NEW_ATTEMPT):
            tell("PostgreSQL does not answer: trying again")
            return False
        return True

    root = logging.getLogger()
    root.addFilter(heard)
    try:
        yield
    finally:
        root.removeFilter(heard)


def set_aside_damaged_records(dagster_home: Path) -> list[Path]:
    """Rename the folders of Dagster's records whose databases are none, so that Dagster begins new ones.

    Records in PostgreSQL are that server's to keep; SQLite files from before are not looked at then.
    """
    moved: list[Path] = []
    if in_postgresql(dagster_home):
        return moved
    for name, databases in (("history", ("runs.db", "runs/index.db")), ("schedules", ("schedules.db",))):
        folder = dagster_home / name
        for database in databases:
            if folder.exists() and not _is_sqlite(folder / database):
                aside = folder.with_name(f"{name}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
                moved.append(aside)
    return moved


def _is_sqlite(path: Path) -> bool:
    """Whether a file is a sound SQLite database; one that is missing, empty or busy is made or mended by Dagster."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("pragma quick_check(1)").fetchall() == [("ok",)])
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:
        return False


def runs_in_postgresql(dagster_home: Path) -> int | None:
    """How many runs are recorded in PostgreSQL; None where the records are not there. Raises Refusal if it is down."""
    if not in_postgresql(dagster_home):
        return None
    with open_records(dagster_home) as instance:
        return instance.get_runs_count()


def forget_in_postgresql(dagster_home: Path) -> None:
    """Drop Dagster's tables, which frees their files at once, and make empty ones. Raises Refusal if it is down."""
    with open_records(dagster_home) as instance:
        storages: list[Any] = [instance.run_storage, instance.event_log_storage, instance.schedule_storage]
        for storage in storages:
            type(storage).create_clean_storage(storage.postgres_url)


@contextmanager
def quick_records() -> Iterator[None]:
    """For the length of a block, SQLite files that Dagster opens stay open and are not synced at each commit.

    Dagster opens and closes a file some three times for each event, and a refresh has a thousand: closing the last
    connection copies the write-ahead log into the file, and each opening prepares all statements anew. A process that
    dies loses nothing; a machine that loses power may lose the last events of a run, never the file
    (https://www.sqlite.org/pragma.html#pragma_synchronous). Nothing changes for PostgreSQL.
    """
    import sqlalchemy
    from dagster._core.storage.event_log.sqlite import sqlite_event_log as events
    from dagster._core.storage.runs.sqlite import sqlite_run_storage as runs
    from sqlalchemy.pool import QueuePool

    class KeptPool(QueuePool):
        """Keeps its connections when Dagster disposes of an engine, as it does after each use."""

        def dispose(self) -> None:
            pass

        def recreate(self) -> "KeptPool":
            return self

    def on_connect(connection: Any, record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("pragma synchronous = normal")

    modules: list[Any] = [events, runs]
    engines: dict[str, Any] = {}

    def engine_of(url: str, **options: Any) -> Any:
        if url not in engines:
            engines[url] = sqlalchemy.create_engine(url, **(options | {"poolclass": KeptPool}))
            stack.callback(QueuePool.dispose, engines[url].pool)
        return engines[url]

    before = [module.create_engine for module in modules]
    with ExitStack() as stack:
        sqlalchemy.event.listen(sqlalchemy.Engine, "connect", on_connect)
        stack.callback(sqlalchemy.event.remove, sqlalchemy.Engine, "connect", on_connect)
        for module, create_engine in zip(modules, before, strict=True):
            module.create_engine = engine_of
            stack.callback(setattr, module, "create_engine", create_engine)
        yield
