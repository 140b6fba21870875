"""A second release beside the current one, for readers to be switched to."""

import shutil
from pathlib import Path

import duckdb
from conftest import Warehouse, folder_of

from orchestration import release

NEXT = "29990101T000000Z-00000000"


def next_release(warehouse: Warehouse) -> Path:
    """A copy of the current release under another id, which its own table tells, too; `current` stays as it is."""
    folder = folder_of(warehouse).with_name(NEXT)
    shutil.copytree(folder_of(warehouse), folder)
    database = folder / release.DATABASE
    database.chmod(0o644)
    with duckdb.connect(str(database)) as connection:
        connection.execute(f"update marts.release_info set release_id = '{NEXT}'")
    database.chmod(0o444)
    return folder
