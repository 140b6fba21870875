"""What must be true before anything is published, and the evidence of it.

Every check of a build leaves a row in the warehouse (schema `gate`). The release step asks `demand_evidence`, which
goes through everything that ought to have been checked and wants a recorded pass of this very build, on tables
that are still the same. Belongs here: evidence, the inventory of checks, the Dagster checks of the expectation
suites. Does not: what the checks say (dbt_project, expectations).
"""

import json
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

import expectations
from orchestration.errors import Refusal
from orchestration.fingerprint import fingerprint_of
from orchestration.lock import WriterLock
from orchestration.registry import read_registry
from orchestration.retry import tried_again
from orchestration.settings import Settings
from orchestration.warehouse import connect, content_hashes, identifier, insert, tables_in

if TYPE_CHECKING:
    import duckdb

# What a release holds, and nothing else of the warehouse.
PUBLISHED_TABLES = (
    "overall_experience",
    "support_not_received",
    "contact_care_coordinator",
    "estimates",
    "means",
    "changes",
    "instrument_changes",
    "trust_comparisons",
    "trust_band_counts",
    "guideline_alignment",
    "waves",
    "trusts",
    "exclusions",
    "response_rates",
    "weight_cells",
    "weighting_effect",
    "reconciliation",
    "published_vintages",
    "question_wording",
    "source_files",
    "corrections",
    "column_dictionary",
    "release_info",
)
# Tables about the release itself; every other one has a suite of expectations.
WITHOUT_SUITE = ("column_dictionary", "release_info")
ROWS_SHOWN = 5
LONGEST_CELL = 200
# Generic tests that return counts, whatever they look at; the rows that others return may be persons.
AGGREGATING = ("no_nulls", "between")
# The schema of the warehouse that holds the failing rows of the last build, one table a failed check.
FAILURES = "failures"

SCHEMA = """
create schema if not exists gate;
create table if not exists gate.builds (
    build_id varchar, release_id varchar, fingerprint varchar, dagster_run_id varchar, built_at timestamp
);
create table if not exists gate.tables (
    build_id varchar, schema_name varchar, table_name varchar, row_count bigint, content_hash varchar
);
create table if not exists gate.evidence (
    build_id varchar, check_id varchar, kind varchar, content_hash varchar, status varchar,
    failures bigint, recorded_at timestamp
);
create table if not exists gate.published (release_id varchar, fingerprint varchar);
"""
BUILDS_KEPT = 20
# How an error in Java is told: first of all the call, then the class of the error.
CALL_OF_JAVA = "An error occurred while calling "
JAVA_ERROR = re.compile(r": (\w+(?:\.\w+)+)(?=:|$)")


@dataclass(frozen=True)
class Table:
    """A table as a build left it."""

    rows: int
    content_hash: str


@dataclass(frozen=True)
class Build:
    """The last dbt build of a warehouse."""

    build_id: str
    release_id: str
    fingerprint: str
    dagster_run_id: str


@dataclass(frozen=True)
class Evidence:
    """A build whose every check has passed.

    `checks` has a dictionary each: `check`, its name for people, which stays when its arguments change; `check_id`;
    `kind` (dbt or expectation); `content_hash` of the table that an expectation looked at. `content_hashes` are those
    of the published tables.
    """

    build: Build
    checks: list[dict[str, str]]
    content_hashes: dict[str, str]


def record_build(
    warehouse: "duckdb.DuckDBPyConnection",
    run_results: Mapping[str, Any],
    fingerprint: str,
    dagster_run_id: str,
) -> dict[tuple[str, str], Table]:
    """Write down what a dbt build made and how each of its checks ended; its tables by schema and name.

    Published tables get a hash of their content, by which later changes show.
    """
    build_id = run_results["metadata"]["invocation_id"]
    now = datetime.now(UTC).replace(tzinfo=None)
    tables: dict[tuple[str, str], Table] = {}
    warehouse.execute(SCHEMA)
    for schema in ("crosswalk", "intermediate", "marts"):
        names = tables_in(warehouse, schema)
        hashes = content_hashes(warehouse, schema, names) if schema == "marts" else {}
        for name in names:
            rows = warehouse.execute(f'select count(*) from "{schema}"."{name}"').fetchall()[0][0]
            tables[schema, name] = Table(rows, hashes.get(name, ""))
    release_id = "unpublished"
    if ("marts", "release_info") in tables:
        release_id = warehouse.execute("select release_id from marts.release_info").fetchall()[0][0]
    warehouse.begin()
    warehouse.execute(
        "insert into gate.builds values (?, ?, ?, ?, ?)",
        [build_id, release_id, fingerprint, dagster_run_id, now],
    )
    insert(
        warehouse,
        "gate.tables",
        [[build_id, *key, table.rows, table.content_hash] for key, table in tables.items()],
    )
    insert(
        warehouse,
        "gate.evidence",
        [
            [build_id, result["unique_id"], "dbt", "", result["status"], result.get("failures") or 0, now]
            for result in run_results["results"]
            if result["unique_id"].startswith(("test.", "unit_test."))
        ],
    )
    for table in ("evidence", "tables", "builds"):
        warehouse.execute(
            f"delete from gate.{table} where build_id not in "
            f"(select build_id from gate.builds order by rowid desc limit {BUILDS_KEPT})"
        )
    mark_changed(warehouse)
    warehouse.commit()
    return tables


def mark_published(warehouse: "duckdb.DuckDBPyConnection", build: Build) -> None:
    """Write down that the warehouse, as it stands, is published."""
    warehouse.begin()
    mark_changed(warehouse)
    warehouse.execute("insert into gate.published values (?, ?)", [build.release_id, build.fingerprint])
    warehouse.commit()


def mark_changed(warehouse: "duckdb.DuckDBPyConnection") -> None:
    """Write down that the warehouse is no longer what was published; holds until the next release."""
    warehouse.execute(SCHEMA)
    warehouse.execute("delete from gate.published")


def published_as(warehouse: "duckdb.DuckDBPyConnection") -> tuple[str, str] | None:
    """Release id and fingerprint that the warehouse, as it stands, was published with; None where it was not."""
    if "published" not in tables_in(warehouse, "gate"):
        return None
    rows = warehouse.execute("select release_id, fingerprint from gate.published").fetchall()
    return (rows[0][0], rows[0][1]) if rows else None


def counts_of_build(run_results: Mapping[str, Any]) -> str:
    """How many seeds, models and checks a build ran, in words."""
    kinds = Counter(result["unique_id"].split(".")[0] for result in run_results["results"])
    failed = Counter(result["status"] for result in run_results["results"])
    bad = failed["fail"] + failed["error"] + failed["warn"]
    checks = kinds["test"] + kinds["unit_test"]
    words = f"{kinds['seed']} seeds, {kinds['model']} models, {checks} checks"
    return words + (f"; {bad} failed, {failed['skipped']} skipped" if bad or failed["skipped"] else "; all passed")


def problems_of_build(
    warehouse: "duckdb.DuckDBPyConnection", run_results: Mapping[str, Any], manifest: Mapping[str, Any]
) -> list[str]:
    """One sentence for each node of a build that failed. Names the failing rows where they are aggregates.

    All failing rows are kept in schema `failures` of the warehouse.
    """
    warehouse.execute(f"drop schema if exists {FAILURES} cascade")
    warehouse.execute(f"create schema {FAILURES}")
    problems, consequences = [], []
    for result in run_results["results"]:
        unique_id, status = result["unique_id"], result["status"]
        if status in ("success", "pass", "skipped", "no-op"):
            continue
        name = unique_id.split(".")[2]
        if unique_id.startswith("test.") and status in ("fail", "warn"):
            node = manifest["nodes"][unique_id]
            relation = f"{FAILURES}.{identifier(node['alias'])}"
            warehouse.execute(f"create table {relation} as {result['compiled_code']}")
            problems.append(
                f"{_check_in_words(node, manifest)}: {result['failures']} found"
                + _failing_rows(warehouse, relation, node, manifest)
            )
        else:
            consequences.append(f"{unique_id.split('.')[0]} {name} could not be built: {result['message']}")
    # What a check found explains what then could not be built.
    return problems + consequences


def without_values(run_results: dict[str, Any]) -> dict[str, Any]:
    """The results of a dbt build with no error in the database's own words, which may quote a respondent's answer."""
    for result in run_results["results"]:
        if result["status"] not in ("success", "pass", "skipped", "no-op", "fail", "warn"):
            unique_id = result["unique_id"]
            result["message"] = reason_of(unique_id, result.get("message") or result["status"])
    return run_results


def reason_of(unique_id: str, message: str) -> str:
    """Why dbt could not build something; of respondents' tables only the kind of error."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip() and not line.strip().startswith(">")]
    if unique_id.startswith("seed.") or lines[0].startswith("Compilation Error"):
        # A row of the corrections may quote a form.
        words = " ".join(line for line in lines[1:] or lines if not line.startswith("Original Line"))
        if unique_id.endswith(".corrections"):
            words = re.sub(r"\"[^\"]*\"|'[^']*'", "...", words)
        return textwrap.shorten(words, 300)
    kind = lines[-1 if len(lines) == 1 else 1].split(":")[0]
    if kind.startswith(CALL_OF_JAVA) and len(lines) > 2 and (error := JAVA_ERROR.match(lines[2])):
        kind = error[1]
    return f"{kind}; its SQL, in dbt/compiled beside the warehouse, says more when it is run by hand."


def _check_in_words(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    on = [manifest["nodes"][d]["name"] if d in manifest["nodes"] else manifest["sources"][d]["name"]
          for d in node["depends_on"]["nodes"]]  # fmt: skip
    kind = (node.get("test_metadata") or {}).get("name")
    if kind:
        column = f".{node['column_name']}" if node.get("column_name") else ""
        attached = (node.get("attached_node") or ".").split(".")[-1] or on[-1]
        others = [name for name in on if name != attached]
        return f"check {kind} of {attached}{column}" + (f" to {', '.join(others)}" if others else "")
    return f"check {node['name']} ({node['description'].rstrip('.')})"


def _failing_rows(
    warehouse: "duckdb.DuckDBPyConnection", relation: str, node: Mapping[str, Any], manifest: Mapping[str, Any]
) -> str:
    kind = (node.get("test_metadata") or {}).get("name")
    layers = {(manifest["nodes"].get(d) or manifest["sources"][d])["schema"] for d in node["depends_on"]["nodes"]}
    if kind and kind not in AGGREGATING and not layers <= {"marts", "crosswalk"}:
        return "."
    cursor = warehouse.execute(f"select * from {relation} limit {ROWS_SHOWN}")
    names = [column[0] for column in cursor.description or []]
    shown = [
        ", ".join(f"{name} {_cell(value)}" for name, value in zip(names, row, strict=True) if value is not None)
        for row in cursor.fetchall()
    ]
    return ":\n" + "\n".join(f"      {row}" for row in shown)


def _cell(value: Any) -> str:
    """A cell of a failing row on one line, and not more of it than tells which it is."""
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}..."


def last_build(warehouse: "duckdb.DuckDBPyConnection") -> Build:
    """The last build of the warehouse. Raises Refusal where there is none."""
    rows: list[tuple[str, str, str, str]] = []
    if "builds" in tables_in(warehouse, "gate"):
        rows = warehouse.execute(
            "select build_id, release_id, fingerprint, dagster_run_id from gate.builds order by rowid desc limit 1"
        ).fetchall()
    if not rows:
        raise Refusal("The warehouse holds no build.", ["Run `cmhs refresh`."])
    return Build(*rows[0])


def expectation_checks(settings: Settings) -> dg.AssetChecksDefinition:
    """One blocking asset check a mart: whether its numbers are fit to publish, by its suite in expectations/."""

    @dg.multi_asset_check(
        name="expectation_suites",
        specs=[
            dg.AssetCheckSpec(
                name="fit_to_publish",
                asset=dg.AssetKey(["marts", suite]),
                blocking=True,
                description=f"Great Expectations suite expectations/{suite}.json",
            )
            for suite in expectations.suite_names()
        ],
    )
    def expectation_suites(
        context: dg.AssetCheckExecutionContext, writer_lock: WriterLock
    ) -> Iterator[dg.AssetCheckResult]:
        with tried_again(context), connect(settings.warehouse) as warehouse:
            build = last_build(warehouse)
            outcomes = expectations.run_suites(warehouse)
            now = datetime.now(UTC).replace(tzinfo=None)
            hashes = content_hashes(warehouse, "marts", {o.suite for o in outcomes})
            warehouse.begin()
            insert(
                warehouse,
                "gate.evidence",
                [
                    [build.build_id, o.check_id, "expectation", hashes[o.suite], o.status, o.failures, now]
                    for o in outcomes
                ],
            )
            warehouse.commit()
        failed = [outcome for outcome in outcomes if outcome.status != "pass"]
        context.log.info(
            f"Great Expectations: {len(hashes)} suites, {len(outcomes)} expectations; "
            + (f"{len(failed)} failed" if failed else "all passed")
        )
        for suite in expectations.suite_names():
            bad = [outcome for outcome in failed if outcome.suite == suite]
            checked = [outcome for outcome in outcomes if outcome.suite == suite]
            yield dg.AssetCheckResult(
                check_name="fit_to_publish",
                asset_key=dg.AssetKey(["marts", suite]),
                passed=not bad,
                severity=dg.AssetCheckSeverity.ERROR,
                description="\n".join(outcome.sentence for outcome in bad) or "Fit to publish.",
                metadata={
                    "expectations": len(checked),
                    "failed": len(bad),
                    "rows": max((outcome.rows for outcome in checked), default=0),
                    "expected and found": dg.MarkdownMetadataValue(expectations.as_markdown(checked)),
                },
            )

        if failed:
            raise Refusal(
                "Great Expectations: the numbers are not fit to publish.", [outcome.sentence for outcome in failed]
            )

    return expectation_suites


def demand_evidence(warehouse: "duckdb.DuckDBPyConnection", settings: Settings) -> Evidence:
    """What tells that everything that had to be checked of the last build was, and passed.

    Raises Refusal with all that is missing, stale, downgraded or failed.
    """
    build = last_build(warehouse)
    manifest_path = settings.dbt_target_dir / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else {}
    there = tables_in(warehouse, "marts")
    hashes = content_hashes(warehouse, "marts", [name for name in PUBLISHED_TABLES if name in there])
    problems = _stale(warehouse, settings, build, hashes)
    if not manifest:
        problems.append("dbt's manifest is gone, so nobody knows what had to be checked: refresh again.")
    elif manifest["metadata"]["invocation_id"] != build.build_id:
        problems.append("dbt's manifest is not the one of this build, so its checks may be others: refresh again.")
    recorded: dict[str, tuple[str, str, int]] = {
        check_id: (status, recorded_hash, failures)
        for check_id, status, recorded_hash, failures in warehouse.execute(
            "select check_id, status, content_hash, failures from gate.evidence where build_id = ? order by rowid",
            [build.build_id],
        ).fetchall()
    }
    problems += _problems_of_dbt_checks(manifest, recorded)
    problems += _problems_of_suites(hashes, recorded)
    if problems:
        raise Refusal(f"Build {build.build_id} may not be published.", problems)
    declared = manifest["nodes"] | manifest["unit_tests"]
    evidence = [
        {
            "check": _name_of_check(declared[check_id], manifest) if check_id in declared else check_id,
            "check_id": check_id,
            "kind": "dbt" if check_id in declared else "expectation",
            "content_hash": recorded_hash,
        }
        for check_id, (_, recorded_hash, _) in sorted(recorded.items())
    ]
    return Evidence(build, evidence, hashes)


def _name_of_check(node: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """A check of dbt by kind, table and column; a generic one's own name changes with its arguments."""
    kind = (node.get("test_metadata") or {}).get("name")
    if not kind:
        return str(node["name"])
    attached = (node.get("attached_node") or node["depends_on"]["nodes"][-1]).split(".")[-1]
    return f"{kind} of {attached}" + (f".{node['column_name']}" if node.get("column_name") else "")


def expected_of_check(node: Mapping[str, Any]) -> str:
    """What a check of dbt expects, in words: its description, or a generic one's name and arguments."""
    if not (test := node.get("test_metadata")):
        return str(node["description"]).strip()
    arguments = {key: value for key, value in test["kwargs"].items() if key not in ("model", "column_name")}
    said = "; ".join(
        f"{key} {', '.join(str(v) for v in value) if isinstance(value, list) else value}"
        for key, value in arguments.items()
    )
    return f"{test['name'].replace('_', ' ')}: {node.get('column_name') or 'table'}" + (f" ({said})" if said else "")


def keys_of_tables(settings: Settings) -> dict[str, list[str]]:
    """The columns that identify a row of each mart, as its check `unique_grain` says."""
    manifest = json.loads((settings.dbt_target_dir / "manifest.json").read_text(encoding="utf-8"))
    keys = {}
    for node in manifest["nodes"].values():
        if (node.get("test_metadata") or {}).get("name") == "unique_grain":
            table = manifest["nodes"][node["attached_node"]]
            if table["schema"] == "marts":
                keys[table["alias"]] = list(node["test_metadata"]["kwargs"]["columns"])
    return keys


def _stale(
    warehouse: "duckdb.DuckDBPyConnection", settings: Settings, build: Build, hashes: Mapping[str, str]
) -> list[str]:
    problems = []
    files = read_registry(settings.registry)
    if fingerprint_of(settings, files) != build.fingerprint:
        problems.append("Registry, crosswalk, models, suites or code changed since this build: refresh again.")
    landed = warehouse.execute("select path, sha256 from raw.files order by path").fetchall()
    if landed != sorted((file.path, file.sha256) for file in files):
        problems.append("The landed files are not the registered ones: refresh again.")
    left = dict(
        warehouse.execute(
            "select table_name, content_hash from gate.tables where build_id = ? and schema_name = 'marts'",
            [build.build_id],
        ).fetchall()
    )
    for table in PUBLISHED_TABLES:
        if table not in left or table not in hashes:
            problems.append(f"marts.{table} was not made by this build.")
        elif hashes[table] != left[table]:
            problems.append(f"marts.{table} is not as the build left it.")
    return problems


def _problems_of_dbt_checks(manifest: Mapping[str, Any], recorded: Mapping[str, tuple[str, str, int]]) -> list[str]:
    problems = []
    declared = {k: v for k, v in manifest.get("nodes", {}).items() if v["resource_type"] == "test"}
    names = Counter(node["name"] for node in declared.values())
    for node in declared.values():
        if names[node["name"]] > 1:
            problems.append(f"Two dbt tests are named {node['name']}; one would hide the other.")
        if (node["config"].get("severity") or "error").lower() != "error":
            problems.append(f"dbt test {node['name']} was downgraded to a warning.")
    for unique_id in [*declared, *manifest.get("unit_tests", {})]:
        status, _, failures = recorded.get(unique_id, ("missing", "", 0))
        if status != "pass":
            what = "has no recorded result" if status == "missing" else f"ended as {status} ({failures} found)"
            problems.append(f"dbt check {unique_id.split('.')[2]} {what} in this build.")
    for nodes in manifest.get("disabled", {}).values():
        problems += [f"dbt {n['resource_type']} {n['name']} is disabled." for n in nodes]
    return sorted(set(problems))


def _problems_of_suites(hashes: Mapping[str, str], recorded: Mapping[str, tuple[str, str, int]]) -> list[str]:
    problems = []
    suites = set(expectations.suite_names())
    expected = set(PUBLISHED_TABLES) - set(WITHOUT_SUITE)
    problems += [f"Table {name} has no suite of expectations." for name in sorted(expected - suites)]
    for suite in sorted(suites & expected):
        check_ids = expectations.check_ids(suite)
        if not check_ids:
            problems.append(f"The suite of {suite} expects nothing.")
        repeated = sorted(check_id for check_id, n in Counter(check_ids).items() if n > 1)
        problems += [f"Two expectations are named {check_id}; one would hide the other." for check_id in repeated]
        for check_id in check_ids:
            status, checked, failures = recorded.get(check_id, ("missing", "", 0))
            if status == "missing":
                problems.append(f"Expectation {check_id} has no recorded result in this build.")
            elif status != "pass":
                problems.append(f"Expectation {check_id} ended as {status} ({failures} found).")
            elif checked != hashes.get(suite):
                problems.append(f"Expectation {check_id} passed, but marts.{suite} changed since.")
    return problems
