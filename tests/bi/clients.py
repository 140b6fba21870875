"""Readers of a release in the tools that people have: `make test-bi`, not among the quick tests.

Each tool has an environment of its own below data/bi-test, made on the first run from the versions beside this file.
The code that docs/bi.md shows is what is run here.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Warehouse, folder_of

from orchestration import release
from orchestration.settings import ROOT
from tests.bi.document import CHECKOUT, code
from tests.bi.superset import Superset, serving
from tests.bi.switching import next_release
from tests.torture.readers import install

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / "data" / "bi-test"
READ_ONLY = "read-only mode"


def environment(name: str) -> Path:
    """The environment with the packages of NAME.txt, made where it is not there yet."""
    folder, wanted = ENVIRONMENTS / name, HERE / f"{name}.txt"
    made = folder / wanted.name
    if not made.is_file() or made.read_text() != wanted.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "-r", wanted], check=True)
        shutil.copy(wanted, made)
    return folder


def node_environment() -> Path:
    """A folder with the packages of package.json; skipped where there is no Node."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node is not installed")
    folder, wanted = ENVIRONMENTS / "node", HERE / "package.json"
    made = folder / wanted.name
    if not (folder / "node_modules").is_dir() or made.read_text() != wanted.read_text():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(wanted, made)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True)
    return folder


def in_checkout(warehouse: Warehouse, folder: Path) -> Path:
    """A folder in which the release lies where the document says that it lies in a checkout."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "published").symlink_to(warehouse.settings.published_dir)
    return folder


def run(command: Sequence[str | Path], cwd: Path, text: str | None = None, **more: str) -> str:
    """What a command prints."""
    ran = subprocess.run(
        command, cwd=cwd, input=text, env=os.environ | more, capture_output=True, text=True, encoding="utf-8"
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def shows_the_indicator(printed: str, warehouse: Warehouse) -> bool:
    """Whether the contact indicator of each wave was printed."""
    rows = warehouse.published("select survey_year, pct from marts.contact_care_coordinator")
    assert len(rows) == 2
    return all(str(int(row.survey_year)) in printed and f"{row.pct:.2f}" in printed for row in rows.itertuples())


@contextmanager
def reading(command: Sequence[str | Path], **more: str) -> Iterator["subprocess.Popen[str]"]:
    """A reader that holds the release open until the block ends."""
    reader = subprocess.Popen(
        command, env=os.environ | more, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        yield reader
    finally:
        reader.communicate(timeout=60)


def through_a_switch(warehouse: Warehouse, command: Sequence[str | Path], **more: str) -> Mapping[str, str]:
    """Which release a reader sees before and after a switch: `was` and `is` by how it looks.

    What holds of every reader is asserted here: it sees the comments, its write is refused, it keeps the release that
    it has open, and sees the next one after opening the file again.
    """
    old, new = folder_of(warehouse), next_release(warehouse)
    database = warehouse.settings.current_release / release.DATABASE
    with reading([*command, str(database)], **more) as reader:
        assert reader.stdin is not None and reader.stdout is not None
        before: dict[str, Any] = json.loads(reader.stdout.readline())
        release.switch(warehouse.settings, new)
        reader.stdin.write("\n")
        reader.stdin.flush()
        after: dict[str, str] = json.loads(reader.stdout.readline())

    assert before["release"] == old.name
    assert before["comment"].startswith("Weighted share")
    assert before["comment"].endswith("Unit: percent.")
    assert READ_ONLY in before["refusal"]
    assert after["held"] == old.name
    assert after["again"] == new.name
    assert release.verify(old) == []
    names = {old.name: "the old release", new.name: "the new release"}
    return {"version": before["version"]} | {how: names[seen] for how, seen in after.items()}


# ---------------------------------------------------------------------------------------- DuckDB in Python


@pytest.mark.parametrize(
    ("version", "beside"),
    [
        ("1.2.2", "the old release"),
        ("1.4.4", "the old release"),
        ("1.5.6", "the new release"),
        ("2.0.0", "the new release"),
    ],
)
def test_each_duckdb_reads_the_release_and_sees_the_next_one(small: Warehouse, version: str, beside: str) -> None:
    assert install(version, ENVIRONMENTS) is None
    packages = str(ENVIRONMENTS / f"duckdb-{version}")

    seen = through_a_switch(small, [sys.executable, "-S", HERE / "reader.py"], PYTHONPATH=packages)

    assert seen["version"] == version
    assert seen["beside"] == beside


def test_sqlalchemy_reads_the_release_with_pandas(hand_worked: Warehouse, tmp_path: Path) -> None:
    checkout = in_checkout(hand_worked, tmp_path / "checkout")
    program = code("SQLAlchemy and pandas", "python").replace(CHECKOUT, str(checkout))

    printed = run([environment("sqlalchemy") / "bin" / "python", "-"], tmp_path, program)

    assert shows_the_indicator(printed, hand_worked)
    assert "Weighted share" in printed


def test_sqlalchemy_sees_the_next_release_unless_it_pools(small: Warehouse) -> None:
    seen = through_a_switch(small, [environment("sqlalchemy") / "bin" / "python", HERE / "reader_sqlalchemy.py"])

    assert seen["beside"] == "the new release"
    assert seen["pooled"] == "the old release"


# ---------------------------------------------------------------------------------------- the CLI, Node, R


def test_the_cli_reads_the_release(hand_worked: Warehouse, tmp_path: Path) -> None:
    checkout = in_checkout(hand_worked, tmp_path / "checkout")
    path = f"{environment('cli') / 'bin'}:{os.environ['PATH']}"

    printed = run(["sh", "-e"], checkout, code("DuckDB CLI", "sh"), PATH=path)

    assert shows_the_indicator(printed, hand_worked)
    assert "Unit: percent." in printed


def test_the_cli_sees_the_next_release_when_it_starts_again(small: Warehouse) -> None:
    duckdb = [environment("cli") / "bin" / "duckdb", "-readonly", "-csv", "-noheader"]
    database = small.settings.current_release / release.DATABASE
    asked = "select release_id from marts.release_info;"
    old, new = folder_of(small), next_release(small)
    with reading([*duckdb, database]) as reader:
        assert reader.stdin is not None and reader.stdout is not None
        for step in (lambda: None, lambda: release.switch(small.settings, new)):
            step()
            reader.stdin.write(asked + "\n")
            reader.stdin.flush()
            assert reader.stdout.readline().strip() == old.name

    assert run([*duckdb, database, asked], small.folder).strip() == new.name
    write = subprocess.run([*duckdb, database, "delete from marts.estimates"], capture_output=True, text=True)
    assert write.returncode != 0
    assert READ_ONLY in write.stderr


def test_node_reads_the_release(hand_worked: Warehouse, tmp_path: Path) -> None:
    checkout = in_checkout(hand_worked, tmp_path / "checkout")
    (checkout / "node_modules").symlink_to(node_environment() / "node_modules")
    (checkout / "example.mjs").write_text(code("Node", "js"), encoding="utf-8")

    printed = run(["node", "example.mjs"], checkout)

    assert shows_the_indicator(printed, hand_worked)


def test_node_sees_the_next_release_when_it_opens_the_file(small: Warehouse) -> None:
    node = node_environment()
    shutil.copy(HERE / "reader.mjs", node)

    seen = through_a_switch(small, ["node", node / "reader.mjs"])

    assert seen["beside"] == "the new release"


def test_r_reads_the_csv_files_and_any_query_through_the_cli(hand_worked: Warehouse, tmp_path: Path) -> None:
    if not shutil.which("Rscript"):
        pytest.skip("R is not installed")
    checkout = in_checkout(hand_worked, tmp_path / "checkout")
    path = f"{environment('cli') / 'bin'}:{os.environ['PATH']}"
    (checkout / "example.R").write_text(code("R", "r"), encoding="utf-8")

    printed = run(["Rscript", "--vanilla", "example.R"], checkout, PATH=path, LC_ALL="C.UTF-8")

    from_csv, from_query = printed.split("through the CLI")
    assert shows_the_indicator(from_csv, hand_worked)
    assert shows_the_indicator(from_query, hand_worked)
    assert "TRUE" in from_csv  # series_break_before is a logical, not a text


# ---------------------------------------------------------------------------------------- Apache Superset


@pytest.fixture(scope="module")
def superset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Superset]:
    with serving(environment("superset"), tmp_path_factory.mktemp("superset")) as running:
        yield running


def chart_of_the_indicator(dataset: int) -> dict[str, Any]:
    """What Superset's own pages ask for a line of the contact indicator."""
    share = {"expressionType": "SIMPLE", "column": {"column_name": "pct"}, "aggregate": "MAX", "label": "pct"}
    line = {"columns": ["survey_year"], "metrics": [share], "orderby": [["survey_year", True]], "row_limit": 100}
    return {
        "datasource": {"id": dataset, "type": "table"},
        "result_format": "json",
        "result_type": "full",
        "force": True,
        "queries": [line],
    }


def test_superset_shows_a_release_refuses_to_write_and_follows_a_switch(superset: Superset, small: Warehouse) -> None:
    checkout = in_checkout(small, small.folder / "checkout")
    [uri] = code("Apache Superset", "text").split()
    connection = {"sqlalchemy_uri": uri.replace(CHECKOUT, str(checkout)), "database_name": "cmhs"}
    superset.post("/database/test_connection/", connection)
    # Even where its administrator lets people write.
    database = superset.post("/database/", connection | {"expose_in_sqllab": True, "allow_dml": True})["id"]

    def asked(sql: str) -> tuple[int, Any]:
        query = {"database_id": database, "schema": "marts", "sql": sql, "client_id": os.urandom(5).hex()}
        return superset.ask("POST", "/sqllab/execute/", query | {"runAsync": False})

    tables = superset.get(f"/database/{database}/tables/?q=(schema_name:marts)")["result"]
    assert {table["value"] for table in tables} == set(release.notes_of(folder_of(small))["tables"])
    # The schema as Superset's list names it, which has the catalogue before it.
    dataset = superset.post(
        "/dataset/", {"database": database, "schema": "cmhs_marts.marts", "table_name": "contact_care_coordinator"}
    )["id"]
    columns = {c["column_name"]: c for c in superset.get(f"/dataset/{dataset}")["result"]["columns"]}
    assert columns["pct"]["description"].startswith("Weighted share")
    assert columns["pct"]["description"].endswith("Unit: percent.")

    expected = small.published("select survey_year, pct from marts.contact_care_coordinator order by 1")
    query = chart_of_the_indicator(dataset)
    chart = {
        "slice_name": "contact",
        "viz_type": "echarts_timeseries_line",
        "datasource_id": dataset,
        "datasource_type": "table",
        "params": json.dumps({"viz_type": "echarts_timeseries_line"}),
        "query_context": json.dumps(query),
    }
    saved = superset.post("/chart/", chart)["id"]
    [shown] = superset.get(f"/chart/{saved}/data/?force=true")["result"]
    assert [tuple(row.values()) for row in shown["data"]] == list(expected.itertuples(index=False, name=None))

    status, refusal = asked("delete from marts.estimates")
    assert status != 200
    assert READ_ONLY in refusal
    old, new = folder_of(small), next_release(small)
    which = "select release_id from marts.release_info"
    assert asked(which)[1]["data"] == [{"release_id": old.name}]
    release.switch(small.settings, new)
    assert asked(which)[1]["data"] == [{"release_id": new.name}]
    assert superset.post("/chart/data", query)["result"][0]["data"] == shown["data"]
    assert release.verify(old) == []
