"""What of the models' way to Spark needs no Spark. The rest: tests/spark."""

import re

import pytest

from orchestration.errors import Refusal
from orchestration.gate import reason_of
from orchestration.settings import ROOT, Settings
from orchestration.spark import in_duckdb


@pytest.mark.parametrize(
    ("compiled", "read"),
    [
        ("select nullif(trim(`Q 1`), '') as answer", "select nullif(trim(\"Q 1\"), '') as answer"),
        ("select 'the trust''s `own`' as said", "select 'the trust''s `own`' as said"),
        (r"regexp_extract(code, '^\\p{L}\\z', 0) <> ''", r"regexp_extract(code, '^\p{L}\z', 0) <> ''"),
        ("select 1 -- it's `here`\nfrom `t`", 'select 1 -- it\'s `here`\nfrom "t"'),
        (None, None),
    ],
)
def test_sql_compiled_for_spark_is_read_by_duckdb(compiled: str | None, read: str | None) -> None:
    assert in_duckdb(compiled) == read


@pytest.mark.parametrize(
    ("variable", "value"), [("CMHS_TARGET", "postgres"), ("CMHS_SPARK_MASTER", "http://127.0.0.1:7077")]
)
def test_an_engine_that_is_none_is_refused(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(Refusal, match=f"{variable} is '{value}'; expected "):
        Settings.from_environment()


def test_an_error_of_spark_is_named_by_its_kind_and_nothing_it_quotes() -> None:
    message = (
        "Runtime Error in model stg_records (models/staging/stg_records.sql)\n"
        "  An error occurred while calling o40.sql.\n"
        "  : org.apache.spark.SparkException: [FAILED] the answer is 17\n"
        "  \tat org.apache.spark.sql.Dataset.head(Dataset.scala:1)"
    )
    said = reason_of("model.cmhs.stg_records", message)
    assert said.startswith("org.apache.spark.SparkException; its SQL")
    assert "17" not in said


def test_what_looks_like_the_kind_of_an_error_of_spark_is_none_without_a_call() -> None:
    message = "Runtime Error\n  Conversion Error: Could not convert string 'see note\n  : my.words here' to INT32"
    assert reason_of("model.cmhs.stg_records", message).startswith("Conversion Error; its SQL")


def test_spark_that_is_not_installed_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMHS_TARGET", "spark")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Refusal, match="not installed here") as refused:
        Settings.from_environment()
    assert refused.value.problems == ["Install it: `make spark`."]


def test_java_that_is_not_installed_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMHS_TARGET", "spark")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(Refusal, match="there is no Java"):
        Settings.from_environment()


def test_spark_is_pinned_beside_the_other_packages() -> None:
    """The second lock holds the same versions as the first, hashed, and Spark is in the second alone."""
    locks = [(ROOT / name).read_text() for name in ("requirements.lock", "requirements-spark.lock")]
    assert "://" not in locks[1]
    first, second = (dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+) \\$", lock, re.M)) for lock in locks)
    assert len(re.findall(r"==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", locks[1])) == len(second) > 100
    assert {name for name in second if name not in first} == {"dbt-spark", "py4j", "pyspark", "sqlparams"}
    assert all(first[name] == version for name, version in second.items() if name in first)
