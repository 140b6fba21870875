"""The connections that make and read a release reach nothing outside its folder: no other file, no network."""

import csv
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from conftest import Warehouse

from orchestration import release

SECRET = "sixty-seven owls"


@dataclass
class Place:
    """A release's folder, what lies outside of it, and a connection that should stay inside."""

    folder: Path
    outside: Path
    connection: duckdb.DuckDBPyConnection

    def snapshot(self) -> dict[str, bytes]:
        """All that lies outside the folder, with its content."""
        return {str(p.relative_to(self.outside)): p.read_bytes() for p in self.outside.rglob("*") if p.is_file()}


def reading(warehouse: Warehouse, outside: Path) -> tuple[Path, AbstractContextManager[duckdb.DuckDBPyConnection]]:
    folder = release.current(warehouse.settings)
    assert folder is not None
    return folder, release.open_release(folder)


def building(warehouse: Warehouse, outside: Path) -> tuple[Path, AbstractContextManager[duckdb.DuckDBPyConnection]]:
    # The quote is there because the folder's name goes into SQL.
    folder = outside.parent / "the release's folder"
    folder.mkdir()
    return folder, release.confined_connection(folder, warehouse=warehouse.settings.warehouse)


CONNECTIONS: dict[str, Callable[[Warehouse, Path], tuple[Path, AbstractContextManager[duckdb.DuckDBPyConnection]]]] = {
    "reading": reading,
    "building": building,
}


@pytest.fixture(params=CONNECTIONS)
def place(request: pytest.FixtureRequest, small: Warehouse, tmp_path: Path) -> Iterator[Place]:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    (outside / "secret.csv").write_text(f"word\n{SECRET}\n")
    with duckdb.connect(outside / "secret.duckdb") as other:
        other.execute(f"create table words as select '{SECRET}' as word")
        other.execute(f"copy words to '{outside}/secret.parquet'")
        other.execute(f"export database '{outside}/exported'")
    folder, opened = CONNECTIONS[request.param](small, outside)
    with ExitStack() as stack:
        yield Place(folder, outside, stack.enter_context(opened))


# `{outside}` and `{folder}` are put in as SQL texts without their quotes.
ATTEMPTS = {
    "a text file": "from read_text('{outside}/secret.txt')",
    "the bytes of a file": "from read_blob('{outside}/secret.txt')",
    "a CSV file": "from read_csv('{outside}/secret.csv')",
    "a CSV file by its name alone": "from '{outside}/secret.csv'",
    "the shape of a CSV file": "from sniff_csv('{outside}/secret.csv')",
    "a Parquet file": "from read_parquet('{outside}/secret.parquet')",
    "a JSON file": "from read_json('{outside}/secret.txt')",
    "the system's users": "from read_text('/etc/passwd')",
    "the process's own environment": "from read_text('/proc/self/environ')",
    "which files there are": "from glob('{outside}/*')",
    "the folder above, through the folder": "from read_text('{folder}/../outside/secret.txt')",
    "a file that a link in the folder leads to": "from read_text('{folder}/link')",
    "another database": "attach '{outside}/secret.duckdb' as other (read_only)",
    "an exported database": "import database '{outside}/exported'",
    "a new database": "attach '{outside}/new.duckdb' as new",
    "a new CSV file": "copy (select 1) to '{outside}/new.csv'",
    "a new Parquet file": "copy (select 1) to '{outside}/new.parquet'",
    "a file that exists": "copy (select 1) to '{outside}/secret.csv'",
    "a file beside the folder whose name begins like it": "copy (select 1) to '{folder}.csv'",
    "an export": "export database '{outside}/export'",
    "a log": "call enable_logging(storage = 'file', storage_config = {{'path': '{outside}/log'}})",
    "a profile": "set profiling_output = '{outside}/profile.txt'",
    "somewhere to spill": "set temp_directory = '{outside}'",
    "a page of the network": "from read_csv('http://127.0.0.1:{port}/secret.csv')",
    "a database of the network": "attach 'http://127.0.0.1:{port}/secret.duckdb' as other (read_only)",
    "an extension": "install httpfs",
    "an extension that is there": "load httpfs",
    "an extension from a file": "load '{outside}/httpfs.duckdb_extension'",
    "a stored password": "create persistent secret password (type http)",
    "leave to open files": "set enable_external_access = true",
    "leave to open files as at first": "reset enable_external_access",
    "another folder": "set allowed_directories = ['/']",
    "another file": "set allowed_paths = ['{outside}/secret.txt']",
    "leave to change settings": "set lock_configuration = false",
}


@pytest.fixture
def listener() -> Iterator[tuple[int, list[str]]]:
    """A port of this machine, and who came to it."""
    came: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    client, address = server.accept()
                except OSError:
                    return
                came.append(str(address))
                client.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


def test_the_connection_reaches_nothing_outside_the_folder(place: Place, listener: tuple[int, list[str]]) -> None:
    port, came = listener
    (place.folder / "link").symlink_to(place.outside / "secret.txt")
    names = {"outside": place.outside, "folder": str(place.folder).replace("'", "''"), "port": port}
    before = place.snapshot()
    beside = sorted(place.folder.parent.iterdir())
    reached = {}

    for what, attempt in ATTEMPTS.items():
        try:
            reached[what] = place.connection.execute(attempt.format(**names)).fetchall()
        except duckdb.Error as error:
            assert SECRET not in str(error)

    assert reached == {}
    assert came == []
    assert place.snapshot() == before
    assert sorted(place.folder.parent.iterdir()) == beside


def test_what_is_refused_there_is_not_refused_elsewhere(tmp_path: Path) -> None:
    """Without the confinement the attempts succeed that need nothing installed: they are refused for what they are."""
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "secret.csv").write_text(f"word\n{SECRET}\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "secret.txt")
    names = {"outside": tmp_path, "folder": tmp_path / "folder", "port": 9}
    with duckdb.connect() as connection:
        for what in (
            "a text file", "the bytes of a file", "a CSV file", "a CSV file by its name alone",
            "the shape of a CSV file", "the system's users", "the process's own environment",
            "which files there are", "a file that a link in the folder leads to", "a new database", "a new CSV file",
            "a new Parquet file", "a file that exists", "a file beside the folder whose name begins like it",
            "an export", "a log", "a profile", "somewhere to spill",
        ):  # fmt: skip
            connection.execute(ATTEMPTS[what].format(**names)).fetchall()


def test_a_variable_of_this_program_is_not_a_table_to_the_connection(place: Place) -> None:
    import pandas as pd

    persons = pd.DataFrame({"word": [SECRET]})

    with pytest.raises(duckdb.Error):
        place.connection.execute("from persons")
    assert len(persons) == 1


def test_the_building_connection_cannot_change_the_warehouse(small: Warehouse, tmp_path: Path) -> None:
    before = small.query("select count(*) as n from marts.estimates")["n"][0]
    with release.confined_connection(tmp_path, warehouse=small.settings.warehouse) as connection:
        assert connection.execute("select count(*) from warehouse.marts.estimates").fetchall() == [(before,)]
        for attempt in (
            "delete from warehouse.marts.estimates",
            "create table warehouse.marts.more as select 1",
            "drop table warehouse.marts.estimates",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                connection.execute(attempt)
    assert small.query("select count(*) as n from marts.estimates")["n"][0] == before


def test_the_reading_connection_reads_the_whole_release_and_cannot_change_its_database(small: Warehouse) -> None:
    folder = release.current(small.settings)
    assert folder is not None
    with release.open_release(folder) as connection:
        table = folder / "csv" / "estimates.csv"
        with table.open(encoding="utf-8", newline="") as file:
            rows = sum(1 for _ in csv.reader(file)) - 1
        for source in ("marts.estimates", f"'{folder}/parquet/estimates.parquet'", f"read_csv('{table}')"):
            assert connection.execute(f"select count(*) from {source}").fetchall() == [(rows,)]
        for attempt in (
            "delete from marts.estimates",
            "create table marts.more as select 1",
            "comment on table marts.estimates is 'other'",
        ):
            with pytest.raises(duckdb.Error, match="read-only"):
                connection.execute(attempt)


def test_a_release_may_be_opened_through_the_link_and_more_than_once(small: Warehouse) -> None:
    with (
        release.open_release(small.settings.current_release) as first,
        release.open_release(small.settings.current_release) as second,
    ):
        who = "select release_id from marts.release_info"
        assert first.execute(who).fetchall() == second.execute(who).fetchall()
