"""A reader of releases, as its own program: needs nothing but DuckDB, of whatever version.

    python read_again_and_again.py DATABASE STOP [PAUSE]

Opens the published database read-only again and again, with PAUSE seconds between, until the file STOP exists or the
program that started it is gone. At the end it writes one line of JSON: how often it read, and what it saw of each
release. What it looks for are the words "edition <number>" in texts of several tables, and the column edition of the
source files.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

import duckdb

MARKED = {
    "source_files": "edition",
    "waves": "wave_label",
    "question_wording": "wording",
    "contact_care_coordinator": "question_label",
    "estimates": "question_label",
    "exclusions": "question_label",
    "changes": "question_label",
}
# How often a reader keeps its connection for a while between two tables, and for how long at most.
HELD, SECONDS = 0.2, 3.0


def look(database: str, chance: random.Random) -> tuple[str, dict[str, list[str]], dict[str, str]]:
    """One connection: the release it says it is, the editions each table names, and each table's content in short."""
    editions, contents = {}, {}
    with duckdb.connect(database, read_only=True, config={"threads": 1}) as connection:
        names = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'marts' order by table_name"
        ).fetchall()
        [[release_id]] = connection.execute("select release_id from marts.release_info").fetchall()
        held_after = chance.randrange(len(names)) if chance.random() < HELD else None
        for number, (table,) in enumerate(names):
            # All blocks of the table are read.
            [[content]] = connection.execute(f"select bit_xor(hash(t)) from marts.{table} as t").fetchall()
            contents[table] = str(content)
            if column := MARKED.get(table):
                named = column if column == "edition" else f"regexp_extract({column}, 'edition ([0-9]+)$', 1)"
                rows = connection.execute(
                    f"select distinct {named} as named from marts.{table} where named <> '' order by all"
                ).fetchall()
                editions[table] = [n for (n,) in rows]
            if number == held_after:
                time.sleep(chance.uniform(0, SECONDS))
        [[again]] = connection.execute("select release_id from marts.release_info").fetchall()
    if again != release_id:
        raise RuntimeError(f"one connection saw two releases: {release_id}, {again}")
    return release_id, editions, contents


def main() -> None:
    """Read until told to stop."""
    database, stop, pause = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    chance, parent = random.Random(duckdb.__version__), os.getppid()
    reads, errors, seen = 0, [], {}
    while not stop.exists() and os.getppid() == parent:
        try:
            release_id, editions, contents = look(database, chance)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
            continue
        finally:
            reads += 1
            time.sleep(pause)
        observed = {"editions": editions, "contents": contents}
        if observed not in seen.setdefault(release_id, []):
            seen[release_id].append(observed)
    print(json.dumps({"version": duckdb.__version__, "reads": reads, "errors": errors[:20], "seen": seen}))


if __name__ == "__main__":
    main()
