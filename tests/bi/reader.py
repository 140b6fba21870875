"""A reader in the DuckDB of its Python: what it sees of a release, and what of the next one after the switch.

Run by tests as `python reader.py DATABASE`: prints a line of JSON, waits for a line, prints another one.
"""

import json
import sys

import duckdb


def release_seen(connection):
    return connection.execute("select release_id from marts.release_info").fetchall()[0][0]


path = sys.argv[1]
held = duckdb.connect(path, read_only=True)
[[comment]] = held.execute(
    "select comment from duckdb_columns() where table_name = 'estimates' and column_name = 'pct'"
).fetchall()
try:
    held.execute("delete from marts.estimates")
    refusal = None
except duckdb.Error as error:
    refusal = str(error)
first = {"version": duckdb.__version__, "release": release_seen(held), "comment": comment, "refusal": refusal}
print(json.dumps(first), flush=True)

sys.stdin.readline()
seen = {"held": release_seen(held)}
second = duckdb.connect(path, read_only=True)
seen["beside"] = release_seen(second)
second.close()
held.close()
with duckdb.connect(path, read_only=True) as again:
    seen["again"] = release_seen(again)
print(json.dumps(seen), flush=True)
