"""The same surveys on DuckDB and on Spark: `make test-spark`, not among the quick tests, which need no Spark.

Each column of each published table is compared: numbers with decimals to a relative 1e-12, all others exactly.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import FIXTURES, RAW, SEEDS, Warehouse, folder_of
from test_faults import in_form

from orchestration.errors import Refusal
from orchestration.gate import PUBLISHED_TABLES
from orchestration.lineage import lineage_of_build
from orchestration.release import notes_of, verify
from orchestration.settings import ROOT
from orchestration.warehouse import connect

TOLERANCE = 1e-12
# What tells one release from another.
OF_THE_RELEASE = ("release_id", "published_at", "git_commit")
# How `as_number` reads a text for Spark, with what it reads elsewhere as its second group.
GUARDED = re.compile(r"CASE WHEN \(regexp_extract\((.+?), '[^']+'\) <> ''\) THEN (TRY_CAST\(\1 AS DOUBLE\)) END")
CLUSTER = ROOT / "deployment" / "spark-cluster.sh"


@dataclass
class OnSpark(Warehouse):
    """A warehouse whose models run on Spark: in one process, or on the cluster that `cluster` leads to."""

    cluster: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"CMHS_TARGET": "spark", "CMHS_SPARK_MASTER": "local[2]"} | dict(self.cluster)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A master and two workers on this machine, as the environment by which they are found."""
    folder = tmp_path_factory.mktemp("cluster")
    said = subprocess.run([CLUSTER, "start", folder], capture_output=True, text=True, check=True).stdout
    lines = [line.removeprefix("export ").split("=", 1) for line in said.splitlines()]
    try:
        yield {name: value.strip("'") for name, value in lines}
    finally:
        subprocess.run([CLUSTER, "stop", folder], check=True)


@pytest.fixture(scope="session")
def hand_worked_on_spark(tmp_path_factory: pytest.TempPathFactory) -> OnSpark:
    """The hand-worked survey in one process, with raw files and crosswalk of its own to change."""
    folder = tmp_path_factory.mktemp("hand_worked_on_spark")
    for part in ("raw", "seeds"):
        shutil.copytree(FIXTURES / "hand_worked" / part, folder / part)
    warehouse = OnSpark(folder, folder / "raw", folder / "seeds")
    warehouse.refresh()
    return warehouse


@pytest.fixture(scope="session")
def six_waves_on_spark(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> OnSpark:
    """The six synthetic waves on the cluster."""
    warehouse = OnSpark(tmp_path_factory.mktemp("six_waves_on_spark"), RAW, SEEDS, cluster=cluster)
    warehouse.refresh()
    return warehouse


def differences(one: Path, other: Path) -> dict[str, Any]:
    """What two releases differ in; a column that is the same in both is not in it."""
    found: dict[str, Any] = {}
    described = [
        {table: {**tables[table], "content_hash": ""} for table in sorted(tables)}
        for tables in (notes_of(folder)["tables"] for folder in (one, other))
    ]
    assert list(described[0]) == list(described[1]) == sorted(PUBLISHED_TABLES)
    with duckdb.connect() as connection:
        for name, folder in (("one", one), ("other", other)):
            connection.execute(f"attach '{folder / 'cmhs_marts.duckdb'}' as {name} (read_only)")
        for table, description in described[0].items():
            if described[1][table] != description:
                found[table] = "columns, keys or rows"
                continue
            kinds = {column["name"]: column["type"] for column in description["columns"]}
            keys = [name for name in description["key"] if name not in OF_THE_RELEASE]
            same = " and ".join(f"one.{key} is not distinct from other.{key}" for key in keys) or "true"
            compared = []
            for name in [name for name in kinds if name not in OF_THE_RELEASE]:
                differs = f"one.{name} is distinct from other.{name}"
                if kinds[name] == "DOUBLE":
                    largest = f"greatest(abs(one.{name}), abs(other.{name}))"
                    differs += f" and coalesce(abs(one.{name} - other.{name}) > {TOLERANCE} * {largest}, true)"
                compared.append(f"count(*) filter ({differs}) as {name}")
            row = connection.execute(
                f"select count(*) as matched, {', '.join(compared)} "
                f"from one.marts.{table} as one inner join other.marts.{table} as other on {same}"
            ).df()
            counts = {str(name): int(n) for name, n in row.iloc[0].items()}
            if counts.pop("matched") != description["rows"]:
                found[table] = "keys"
            found.update({f"{table}.{name}": n for name, n in counts.items() if n})
    return found


def lineage(warehouse: Warehouse) -> dict[str, dict[str, Any]]:
    """What each relation is made of, by columns, and its description."""
    with warehouse.active() as settings, connect(settings.warehouse, read_only=True) as connection:
        relations = lineage_of_build(settings, connection)
    # Its columns are constants of the release, and of others the SQL has another look.
    compared = {name: {**made, "sql": ""} for name, made in relations.items() if name != "marts.release_info"}
    return dict(json.loads(GUARDED.sub(r"\2", json.dumps(compared))))


def test_the_hand_worked_survey_is_the_same_on_spark(hand_worked: Warehouse, hand_worked_on_spark: OnSpark) -> None:
    assert differences(folder_of(hand_worked), folder_of(hand_worked_on_spark)) == {}


def test_a_release_of_the_hand_worked_survey_made_on_spark_is_as_whole_as_any(
    hand_worked: Warehouse, hand_worked_on_spark: OnSpark
) -> None:
    folder, settings = folder_of(hand_worked_on_spark), hand_worked_on_spark.settings
    assert verify(folder) == []
    assert "pyspark" in notes_of(folder)["versions"]
    assert notes_of(folder)["checks_passed"] == notes_of(folder_of(hand_worked))["checks_passed"]
    assert lineage(hand_worked_on_spark) == lineage(hand_worked)
    # Answers do not stay behind.
    assert not settings.spark_dir.exists()
    assert settings.state_dir.stat().st_mode & 0o077 == 0


def test_a_second_refresh_of_the_hand_worked_survey_on_spark_changes_nothing(hand_worked_on_spark: OnSpark) -> None:
    assert not hand_worked_on_spark.refresh().changed


def test_a_wrong_type_in_the_crosswalk_of_the_hand_worked_survey_is_refused_before_spark_starts(
    hand_worked_on_spark: OnSpark, tmp_path: Path
) -> None:
    broken = hand_worked_on_spark.copy(tmp_path / "broken")
    waves = broken.seeds_dir / "waves.csv"
    waves.write_text(waves.read_text().replace("\n2013,", "\nx2013,", 1))
    broken = OnSpark(broken.folder, broken.raw_dir, broken.seeds_dir)
    with pytest.raises(Refusal, match="The crosswalk cannot be read"):
        broken.refresh()
    assert not broken.settings.spark_dir.exists()


def test_weights_that_come_with_the_file_are_the_same_on_spark(cchs: Warehouse, tmp_path: Path) -> None:
    on_spark = OnSpark(tmp_path, cchs.raw_dir, cchs.seeds_dir)
    on_spark.refresh()
    assert differences(folder_of(cchs), folder_of(on_spark)) == {}


def test_what_only_java_takes_for_a_number_is_none_on_spark(hand_worked_on_spark: OnSpark, tmp_path: Path) -> None:
    copied = hand_worked_on_spark.copy(tmp_path / "broken")
    broken = OnSpark(copied.folder, copied.raw_dir, copied.seeds_dir)
    in_form(23, BirthYear="1960d")(broken)
    with pytest.raises(Refusal, match=r"questionnaire_age, raw_column BirthYear, n 1, .*no numbers"):
        broken.refresh()


def test_the_six_waves_are_the_same_on_a_cluster(six_waves: Warehouse, six_waves_on_spark: OnSpark) -> None:
    assert differences(folder_of(six_waves), folder_of(six_waves_on_spark)) == {}


def test_a_check_that_fails_on_spark_shows_its_rows(hand_worked_on_spark: OnSpark, tmp_path: Path) -> None:
    copied = hand_worked_on_spark.copy(tmp_path / "broken")
    broken = OnSpark(copied.folder, copied.raw_dir, copied.seeds_dir)
    response_map = broken.seeds_dir / "response_map.csv"
    lines = response_map.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("2014,support_work,6,")]
    assert len(kept) == len(lines) - 1
    response_map.write_text("".join(kept))
    with pytest.raises(Refusal, match=r"every_code_is_mapped .*: 1 found:\n"):
        broken.refresh()
    with connect(broken.settings.warehouse, read_only=True) as warehouse:
        assert warehouse.execute("select count(*) from failures.every_code_is_mapped").fetchall() == [(1,)]
