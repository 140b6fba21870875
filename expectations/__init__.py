"""Are these numbers fit to publish? One Great Expectations suite a mart, and the function that runs them.

`<mart>.sql` says what is looked at: a query over the warehouse whose rows are aggregates, starting from the
crosswalk, so that a row that ought to be there and is not shows as one with NULLs. `<mart>.json` says what is
expected of it, in Great Expectations' own words; a `notes` in an expectation's meta says why. Bounds that differ
by wave come from the crosswalk. Belongs here: the suites and running them. Does not: structure (dbt tests), or
what follows from a failure (orchestration.gate).
"""

import html
import json
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from orchestration.progress import tell

if TYPE_CHECKING:
    import duckdb

FOLDER = Path(__file__).resolve().parent
KEYS_SHOWN = 5


@dataclass(frozen=True)
class Outcome:
    """How one expectation ended; `status` is pass, fail or error (the expectation itself is broken)."""

    suite: str
    check_id: str
    expected: str
    status: str
    rows: int
    failures: int
    where: str

    @property
    def sentence(self) -> str:
        """What failed, on which rows, in one line."""
        if self.status == "error":
            return f"{self.suite}: the expectation '{self.expected}' is broken and checked nothing ({self.where})"
        return f"{self.suite}: expected {self.expected}; {self.failures} of {self.rows} rows differ: {self.where}"


def suite_names() -> list[str]:
    """The marts that have a suite."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def _suite(name: str) -> dict[str, Any]:
    suite: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return suite


def _check_id(name: str, expectation: dict[str, Any]) -> str:
    columns = expectation["kwargs"]
    column = columns.get("column") or "-".join(columns.get(side, "") for side in ("column_A", "column_B"))
    return f"expectation.{name}.{expectation['type']}.{column}".rstrip(".-")


def check_ids(name: str) -> list[str]:
    """Ids of a suite's expectations; each is one blocking check."""
    return [_check_id(name, expectation) for expectation in _suite(name)["expectations"]]


def great_expectations() -> ModuleType:
    """The library, imported without Spark.

    It would import that where it is installed, seconds of work for what reads pandas here; and in a program that is no
    file, such as `python -c`, that import ends the process without a word.
    """
    sys.modules.setdefault("pyspark.sql", None)  # type: ignore[arg-type]  # How Python marks what cannot be imported.
    return import_module("great_expectations")


def run_suites(warehouse: "duckdb.DuckDBPyConnection") -> list[Outcome]:
    """Run every suite against the warehouse; one outcome for each expectation."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    names = suite_names()
    tell("Great Expectations: suites", 0, len(names))
    gx = great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    outcomes = []
    for done, name in enumerate(names):
        tell("Great Expectations: suites", done, len(names))
        description = _suite(name)
        keys = description["meta"]["keys"]
        frame = warehouse.execute((FOLDER / f"{name}.sql").read_text(encoding="utf-8")).df()
        suite = gx.ExpectationSuite(name=name, expectations=description["expectations"])
        result = context.data_sources.pandas_default.read_dataframe(frame).validate(
            suite,
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": keys,
                "return_unexpected_index_query": False,
            },
        )
        # Great Expectations reports in an order of its own; kind and columns say which is which.
        by_id = {
            _check_id(name, {"type": found.expectation_config.type, "kwargs": found.expectation_config.kwargs}): found
            for found in result.results
            if found.expectation_config is not None
        }
        for expectation in description["expectations"]:
            check_id = _check_id(name, expectation)
            outcomes.append(
                _outcome(name, check_id, expectation["meta"]["notes"], by_id.get(check_id), keys, len(frame))
            )
    return outcomes


def _outcome(name: str, check_id: str, expected: str, result: Any, keys: list[str], rows: int) -> Outcome:
    if result is None:
        return Outcome(name, check_id, expected, "error", rows, 0, "no result")
    broken = _exceptions(result.exception_info)
    if broken:
        return Outcome(name, check_id, expected, "error", rows, 0, "; ".join(broken))
    found = result.result or {}
    unexpected = found.get("unexpected_index_list") or []
    shown = [", ".join(f"{key} {row.get(key)}" for key in keys) for row in unexpected[:KEYS_SHOWN]]
    if found.get("observed_value") is not None and not shown:
        shown = [f"found {found['observed_value']}"]
    more = len(unexpected) - len(shown)
    where = "; ".join(shown) + (f"; and {more} more" if unexpected and more > 0 else "")
    status = "pass" if result.success else "fail"
    return Outcome(name, check_id, expected, status, rows, int(found.get("unexpected_count") or 0), where)


def _exceptions(info: Any) -> list[str]:
    """The kinds of exception that Great Expectations met while computing, however deep it hides them."""
    if not isinstance(info, dict):
        return []
    if info.get("raised_exception"):
        return [str(info.get("exception_message") or "exception").splitlines()[0][:200]]
    return [found for value in info.values() for found in _exceptions(value)]


def as_markdown(outcomes: list[Outcome]) -> str:
    """A table of expectations with what was found, for people; names and labels in it are text and nothing else."""
    rows = [
        f"| {as_text(o.expected)} | {o.status} | {o.failures} of {o.rows} rows | {as_text(o.where) or '-'} |"
        for o in outcomes
    ]
    return "\n".join(["| expected | status | differ | where |", "|---|---|---|---|", *rows])


# What begins something in markdown, as the entities that stand for the characters themselves.
_MARKDOWN = str.maketrans({character: f"&#{ord(character)};" for character in "|[]`*\\"})


def as_text(text: str) -> str:
    """A text on one line, with nothing in it that HTML or markdown would take for markup."""
    return html.escape(" ".join(text.split())).translate(_MARKDOWN)
