"""The dbt build on Spark: what it reads, how its session is set up, and its tables back in the warehouse.

Raw files are landed in DuckDB and releases are made from DuckDB whatever the target is. In between, Spark reads raw
tables and crosswalk as Parquet, and what it made of them comes back as Parquet. Belongs here: these two ways, and
Spark's settings. Does not: what the models say, or how dbt is run (transform).
"""

import csv
import io
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.errors import Refusal
from orchestration.gate import reason_of
from orchestration.ingest import UNITED
from orchestration.progress import tell
from orchestration.settings import Settings
from orchestration.warehouse import connect, identifier, literal

if TYPE_CHECKING:
    import duckdb

# A folder a wave, so that Spark reads no other where one is asked for.
BY_WAVE = ("responses",)

# What Spark needs to read and write as DuckDB does, whatever it runs on.
CONFIGURATION = {
    "spark.sql.catalogImplementation": "in-memory",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.eventLog.enabled": "false",
}
# In one process on this machine data are small, and making and compiling code for each query costs more than it saves.
ON_ONE_MACHINE = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}
SECONDS_OF_MASTER = 10
# By these dbt finds its tables, and Spark its settings.
ENVIRONMENT = ("CMHS_SPARK_FILES", "SPARK_CONF_DIR", "SPARK_LOCAL_IP")
LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
# Spark's messages quote plans and values, so there are none. Without an appender Spark would take its own settings.
LOGGING = """\
rootLogger.level = off
rootLogger.appenderRef.nowhere.ref = nowhere
appender.nowhere.type = Null
appender.nowhere.name = nowhere
"""


@contextmanager
def session_for(settings: Settings, manifest_path: Path) -> Iterator[None]:
    """Have a dbt that is started meanwhile find raw tables, crosswalk and the settings of its Spark session.

    All of it lies in `settings.spark_dir`, which is the user's alone and gone afterwards. Raises Refusal where the
    crosswalk cannot be read, or Spark's master does not answer.
    """
    _demand_master(settings.spark_master)
    tell("Spark: writing what it reads")
    folder, before = settings.spark_dir, {name: os.environ.get(name) for name in ENVIRONMENT}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        with connect(settings.warehouse) as warehouse:
            _write_raw(warehouse, folder)
            _write_crosswalk(warehouse, settings, json.loads(manifest_path.read_text()))
        _configure(settings)
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})
        shutil.rmtree(folder, ignore_errors=True)


def _demand_master(master: str) -> None:
    """Spark itself would go on asking for a minute, and then say much."""
    if not master.startswith("spark://"):
        return
    for host, port in re.findall(r"([^/,:]+):([0-9]+)", master):
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=SECONDS_OF_MASTER):
            return
    raise Refusal(f"Spark's master {master} does not answer.", ["Start it, or correct CMHS_SPARK_MASTER."])


def _write_raw(warehouse: "duckdb.DuckDBPyConnection", folder: Path) -> None:
    for table in UNITED:
        by_wave = ", partition_by (survey_year)" if table in BY_WAVE else ""
        _write(warehouse, "raw", table, folder, by_wave)


def _write_crosswalk(warehouse: "duckdb.DuckDBPyConnection", settings: Settings, manifest: Mapping[str, Any]) -> None:
    """The seeds, read by DuckDB as dbt on DuckDB reads them: a blank is NULL, and a wrong type an error."""
    import duckdb

    problems = []
    for seed in [node for node in manifest["nodes"].values() if node["resource_type"] == "seed"]:
        path = settings.dbt_project_dir / seed["original_file_path"]
        relation = f"{identifier(seed['schema'])}.{identifier(seed['alias'])}"
        types = seed["config"]["column_types"]
        warehouse.execute(f"create schema if not exists {identifier(seed['schema'])}")
        header = next(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
        columns = ", ".join(f"{identifier(name)} {types[name]}" for name in header)
        warehouse.execute(f"create or replace table {relation} ({columns})")
        try:
            warehouse.execute(f"copy {relation} from {literal(path)} (format csv, header true, delimiter ',')")
        except duckdb.Error as error:
            problems.append(f"{path.name}: {reason_of(seed['unique_id'], f'Seed{os.linesep}{error}')}")
            continue
        _write(warehouse, seed["schema"], seed["alias"], settings.spark_dir)
    if problems:
        raise Refusal("The crosswalk cannot be read; nothing was built.", problems)


def _write(warehouse: "duckdb.DuckDBPyConnection", schema: str, table: str, folder: Path, options: str = "") -> None:
    place = folder / schema / table
    place.mkdir(parents=True)
    target = place if options else place / "part.parquet"
    warehouse.execute(
        f"copy (select * from {identifier(schema)}.{identifier(table)}) to {literal(target)} (format parquet{options})"
    )


def _configure(settings: Settings) -> None:
    """Spark's own configuration, found by SPARK_CONF_DIR; what a user's one says comes first, so that ours holds."""
    folder = settings.spark_dir
    conf, users = folder / "conf", os.environ.get("SPARK_CONF_DIR")
    conf.mkdir()
    if users and Path(users).is_dir():
        shutil.copytree(users, conf, dirs_exist_ok=True)
    on_this_machine = settings.spark_master.startswith("local[")
    said = {
        **({} if settings.spark_shared_dir else LOOPBACK),
        **(ON_ONE_MACHINE if on_this_machine else {}),
        **CONFIGURATION,
        "spark.master": settings.spark_master,
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.local.dir": str(folder / "local"),
    }
    defaults = conf / "spark-defaults.conf"
    before = defaults.read_text() if defaults.exists() else ""
    defaults.write_text(before + "\n" + "".join(f"{name} {value}\n" for name, value in said.items()))
    (conf / "log4j2.properties").write_text(LOGGING)
    os.environ.update(CMHS_SPARK_FILES=str(folder), SPARK_CONF_DIR=str(conf))
    if not settings.spark_shared_dir:
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"


def bring_back(
    warehouse: "duckdb.DuckDBPyConnection",
    settings: Settings,
    manifest: dict[str, Any],
    run_results: dict[str, Any],
) -> None:
    """Put what dbt built on Spark into the warehouse, as dbt on DuckDB leaves it: tables and views with their comments.

    The SQL in `manifest` and `run_results` is DuckDB's afterwards, so that lineage, documentation and the failing rows
    of checks come from it.
    """
    for node in manifest["nodes"].values():
        node["compiled_code"] = in_duckdb(node.get("compiled_code"))
    # In the order they were built in: views are over tables that are there.
    for result in run_results["results"]:
        result["compiled_code"] = in_duckdb(result.get("compiled_code"))
        node = manifest["nodes"].get(result["unique_id"], {})
        if node.get("resource_type") == "model" and result["status"] == "success":
            _bring_back_model(warehouse, settings.spark_dir / "warehouse", node)


def _bring_back_model(warehouse: "duckdb.DuckDBPyConnection", folder: Path, node: Mapping[str, Any]) -> None:
    relation = f"{identifier(node['schema'])}.{identifier(node['alias'])}"
    kind = "view" if node["config"]["materialized"] == "view" else "table"
    files = folder / f"{node['schema']}.db" / node["alias"] / "*.parquet"
    types = {name: column["data_type"] for name, column in node["columns"].items() if column.get("data_type")}
    columns = ", ".join(
        f"cast({identifier(name)} as {data_type}) as {identifier(name)}" for name, data_type in types.items()
    )
    replaced = f"replace ({columns})" if columns else ""
    made = node["compiled_code"] if kind == "view" else f"select * {replaced} from read_parquet({literal(files)})"
    warehouse.execute(f"create schema if not exists {identifier(node['schema'])}")
    warehouse.execute(f"create or replace {kind} {relation} as {made}")
    warehouse.execute(f"comment on {kind} {relation} is {literal(node['description'])}")
    there = [name for name, *_ in warehouse.execute(f"describe {relation}").fetchall()]
    for name, column in node["columns"].items():
        if name in there:
            warehouse.execute(f"comment on column {relation}.{identifier(name)} is {literal(column['description'])}")


def in_duckdb(code: str | None) -> str | None:
    """SQL that was compiled for Spark as DuckDB reads it: names in double quotes, backslashes as they stand."""

    def said(token: re.Match[str]) -> str:
        if token[0].startswith("'"):
            return token[0].replace("\\\\", "\\")
        return identifier(token[0][1:-1]) if token[0].startswith("`") else token[0]

    return code and re.sub(r"--[^\n]*|'(?:[^'\\]|\\.)*'|`[^`]*`", said, code, flags=re.DOTALL)
