"""The same as reader.py through SQLAlchemy; `pooled` is an engine with the default pool, unused in between."""

import json
import sys

import duckdb
import sqlalchemy
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool


def release_seen(connection):
    return connection.execute(text("select release_id from marts.release_info")).scalar()


def seen_by(engine):
    with engine.connect() as connection:
        return release_seen(connection)


engine = create_engine(f"duckdb:///{sys.argv[1]}", connect_args={"read_only": True}, poolclass=NullPool)
columns = {column["name"]: column for column in inspect(engine).get_columns("estimates", schema="marts")}
try:
    with engine.begin() as connection:
        connection.execute(text("delete from marts.estimates"))
    refusal = None
except DBAPIError as error:
    refusal = str(error)
first = {
    "version": f"{sqlalchemy.__version__}, DuckDB {duckdb.__version__}",
    "release": seen_by(engine),
    "comment": columns["pct"]["comment"],
    "refusal": refusal,
}
pooled = create_engine(f"duckdb:///{sys.argv[1]}", connect_args={"read_only": True})
seen_by(pooled)
held = engine.connect()
release_seen(held)
print(json.dumps(first), flush=True)

sys.stdin.readline()
seen = {"held": release_seen(held), "beside": seen_by(engine), "pooled": seen_by(pooled)}
held.close()
pooled.dispose()
seen["again"] = seen_by(engine)
print(json.dumps(seen), flush=True)
