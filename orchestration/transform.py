"""The dbt build as Dagster assets: seeds, staging, intermediate, marts, with every dbt test as an asset check.

Belongs here: how dbt is run and how its nodes look in Dagster. Does not: what the models say (dbt_project) or
whether the result may be published (gate).
"""

import contextlib
import csv
import io
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, dbt_assets
from packaging.version import Version

import expectations
from orchestration import gate, spark
from orchestration.errors import Refusal
from orchestration.fingerprint import fingerprint_of, git_commit
from orchestration.lineage import ROWS, VALUE, lineage_of_build
from orchestration.lock import WriterLock
from orchestration.manifest import DBT, PARTIAL, prepare_manifest
from orchestration.progress import tell
from orchestration.registry import read_registry
from orchestration.release import STORAGE_VERSION
from orchestration.report import charts
from orchestration.settings import DBT_PID, DBT_PROJECT_DIR, OWNERS, SPARK, TEMPORARY, Settings
from orchestration.warehouse import connect

if TYPE_CHECKING:
    import duckdb

WORDS_OF_DBT = 10


class WarehouseTranslator(DagsterDbtTranslator):
    """dbt nodes by layer: the key is layer/name, the group is the layer."""

    def __init__(self, project_dir: Path) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))
        self.project_dir = project_dir

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Layer and the name of the table, as in ["marts", "estimates"]."""
        return dg.AssetKey(
            [dbt_resource_props["schema"], dbt_resource_props.get("alias") or dbt_resource_props["name"]]
        )

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """The layer."""
        return str(dbt_resource_props["schema"])

    def get_asset_check_spec(
        self, asset_spec: dg.AssetSpec, manifest: Mapping[str, Any], unique_id: str, project: Any
    ) -> dg.AssetCheckSpec | None:
        """A dbt test as a check that says what it expects."""
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        return spec and spec._replace(description=gate.expected_of_check(self.get_resource_props(manifest, unique_id)))

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """What the table holds, by which rule, and where its source and licence stand."""
        path = dbt_resource_props["original_file_path"]
        if dbt_resource_props["resource_type"] == "seed":
            rule = f"Rule: {path} of the crosswalk, written by people, one fact a row."
        else:
            rule = (
                f"Rule: {path} of the dbt project. Source and licence: marts/source_files, and the assets in the "
                "group files that its lineage leads to."
            )
        return f"{dbt_resource_props['description'].strip()}\n\n{rule}"

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """dbt's columns and types, and the file that says how the table is made."""
        path = dbt_resource_props["original_file_path"]
        code = dg.LocalFileCodeReference(file_path=str(self.project_dir / path), label=path)
        return {
            **super().get_metadata(dbt_resource_props),
            "dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[code]),
        }

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """One team owns the warehouse."""
        return OWNERS


class WarehouseDbt(DbtCliResource):
    """dbt's command line, without two things at each call that cost seconds and give nothing here.

    The stock resource asks `dbt --version` and makes an adapter of its own for fetching metadata, which
    would also open the warehouse while dbt writes to it. A test holds these two hooks to the pinned version.
    """

    @cached_property
    def _cli_version(self) -> Version:
        return Version(version("dbt-core"))

    def _initialize_dbt_core_adapter(self, args: Any) -> Any:
        return None


def check_crosswalk(settings: Settings, manifest_path: Path) -> None:
    """Raise Refusal where a CSV of the crosswalk has not exactly the columns that the project describes."""
    manifest = json.loads(manifest_path.read_text())
    problems = []
    for node in manifest["nodes"].values():
        if node["resource_type"] != "seed":
            continue
        path = settings.dbt_project_dir / node["original_file_path"]
        header = next(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")), [])
        expected = Counter(list(node["columns"]))
        if Counter(header) != expected:
            missing = ", ".join(expected - Counter(header)) or "none"
            unknown = ", ".join(Counter(header) - expected) or "none"
            problems.append(f"{path.name}: columns missing: {missing}; columns unknown or repeated: {unknown}.")
    if problems:
        raise Refusal("The crosswalk cannot be read; nothing was built.", problems)


def transform_assets(settings: Settings) -> dg.AssetsDefinition:
    """All seeds and models of the dbt project as assets, built by one `dbt build`."""

    @dbt_assets(
        manifest=prepare_manifest(settings),
        dagster_dbt_translator=WarehouseTranslator(settings.dbt_project_dir),
        name="dbt_build",
    )
    def dbt_build(context: dg.AssetExecutionContext, dbt: WarehouseDbt, writer_lock: WriterLock) -> Iterator[Any]:
        started = datetime.now(UTC)
        fingerprint = fingerprint_of(settings, read_registry(settings.registry))
        os.environ["CMHS_RELEASE_ID"] = f"{started:%Y%m%dT%H%M%SZ}-{fingerprint[:8]}"
        os.environ["CMHS_PUBLISHED_AT"] = f"{started:%Y-%m-%d %H:%M:%S}"
        os.environ["CMHS_GIT_COMMIT"] = git_commit()
        os.environ["CMHS_STORAGE_VERSION"] = STORAGE_VERSION
        parsed = prepare_manifest(settings)
        check_crosswalk(settings, parsed)
        target = settings.dbt_target_dir
        if target.is_file():
            target.unlink()
        target.mkdir(parents=True, exist_ok=True)
        (target / "run_results.json").unlink(missing_ok=True)
        # Where dbt writes what it asks of the database, before it does.
        shutil.rmtree(target / "run", ignore_errors=True)
        with suppress(OSError):
            shutil.copy(parsed.with_name(PARTIAL), target)
        with spark.session_for(settings, parsed) if settings.target == SPARK else contextlib.nullcontext():
            tell("dbt: starting")
            build = dbt.cli(["build"], context=context, target_path=target, raise_on_error=False)
            (settings.state_dir / TEMPORARY / DBT_PID).write_text(str(build.process.pid))
            # What the next steps need takes seconds to import and to start; dbt is a process of its own meanwhile.
            Thread(target=_get_ready).start()
            with io.StringIO() as echo, contextlib.redirect_stdout(echo):
                events = []
                for event in build.stream():
                    events.append(event)
                    tell("dbt", len(events), len(context.selected_asset_keys) + len(context.selected_asset_check_keys))
                tell("dbt: writing down what it found")
                said = echo.getvalue().strip().splitlines()
            if not (target / "run_results.json").exists():
                if (target / "run").exists():
                    # Its words may quote an answer.
                    raise Refusal("dbt left no results of its build.", ["Make room (`df -h`), then refresh."])
                # Nothing was read yet, so they are about the project.
                raise Refusal("dbt stopped before it built anything.", said[-WORDS_OF_DBT:])
            manifest = json.loads((target / "manifest.json").read_text())
            run_results = gate.without_values(json.loads((target / "run_results.json").read_text()))
            if settings.target == SPARK:
                with connect(settings.warehouse) as warehouse:
                    spark.bring_back(warehouse, settings, manifest, run_results)
                (target / "manifest.json").write_text(json.dumps(manifest))
            (target / "run_results.json").write_text(json.dumps(run_results))
        with connect(settings.warehouse) as warehouse:
            tables = gate.record_build(warehouse, run_results, fingerprint, context.run.run_id)
            problems = gate.problems_of_build(warehouse, run_results, manifest)
            lineage = {} if problems else lineage_of_build(settings, warehouse)
            exclusions = "" if problems else _exclusions(warehouse)
        with warnings.catch_warnings():
            # The version of an output's data is a beta parameter of a pinned Dagster.
            warnings.simplefilter("ignore", category=dg.BetaWarning)
            yield from (_recorded(context, event, tables, lineage, exclusions) for event in events)
        counts = gate.counts_of_build(run_results)
        context.log.info(f"dbt: {counts}")
        if problems:
            raise Refusal(f"dbt: {counts}. Nothing was published.", problems)
        reported = {context.asset_key_for_output(e.output_name) for e in events if isinstance(e, dg.Output)}
        if unreported := context.selected_asset_keys - reported:
            # Dagster would skip what comes after them, the release included, and call that a success.
            names = ", ".join(sorted(key.to_user_string() for key in unreported))
            raise Refusal("dbt did not report all that it was to build; nothing was published.", [f"Missing: {names}."])

    return dbt_build


def _get_ready() -> None:
    expectations.great_expectations()
    charts.warm_up()


def _recorded(
    context: dg.AssetExecutionContext,
    event: Any,
    tables: Mapping[tuple[str, str], gate.Table],
    lineage: Mapping[str, Mapping[str, Any]],
    exclusions: str,
) -> Any:
    """A dbt event with what an auditor asks of it.

    Of a table its rows, content hash, columns and what they are made of, and of the exclusions what they are; of a
    check what it found beside what it expects.
    """
    if isinstance(event, dg.AssetCheckResult):
        broken = event.metadata["status"].value == "error"
        failures = event.metadata["dagster_dbt/failed_row_count"].value
        found = {"expected": "no row", "found": "it could not be run" if broken else f"{failures} rows"}
        return event._replace(metadata={**event.metadata, **{k: dg.TextMetadataValue(v) for k, v in found.items()}})
    if not isinstance(event, dg.Output):
        return event
    key = context.asset_key_for_output(event.output_name)
    relation = ".".join(key.path)
    table = tables.get((key.path[0], key.path[-1]))
    metadata = {**event.metadata, **(_columns(lineage[relation]) if relation in lineage else {})}
    if table is not None:
        metadata["dagster/row_count"] = table.rows
    if relation == "marts.exclusions" and exclusions:
        metadata["statuses by wave and question"] = dg.MarkdownMetadataValue(exclusions)
    return dg.Output(
        None,
        output_name=event.output_name,
        metadata=metadata,
        data_version=dg.DataVersion(table.content_hash) if table and table.content_hash else None,
    )


def _columns(relation: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a table as Dagster's metadata: types, words, and one step of lineage.

    Dagster's own kind of column lineage does not tell values from what decides which rows count, and its open-source
    UI does not show it: so it is a table in words, too.
    """
    columns = relation["columns"]
    metadata: dict[str, Any] = {
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn(name, made["type"], made["description"]) for name, made in columns.items()]
        )
    }
    if relation["kind"] == "model":
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                name: [
                    dg.TableColumnDep(dg.AssetKey(source.split(".")), column)
                    for source, column in dict.fromkeys((s, c) for s, c, *_ in made["sources"] if c != ROWS)
                ]
                for name, made in columns.items()
            }
        )
        metadata["made of"] = dg.MarkdownMetadataValue(
            "\n".join(
                [
                    "| column | made of | rows counted by |",
                    "|---|---|---|",
                    *(f"| {name} | {_listed(made, True)} | {_listed(made, False)} |" for name, made in columns.items()),
                ]
            )
        )
    return metadata


def _listed(made: Mapping[str, Any], values: bool) -> str:
    """The sources of a column by table, as text of one line; of its value, or of what decides which rows count."""
    by_table: dict[str, list[str]] = {}
    for relation, column, kind, _ in made["sources"]:
        if (kind == VALUE) == values and column not in by_table.setdefault(relation, []):
            by_table[relation].append(column)
    said = "; ".join(
        f"{relation}: {', '.join('its rows' if name == ROWS else expectations.as_text(name) for name in names)}"
        for relation, names in by_table.items()
    )
    return said or ("constants" if values and not made["sources"] else "-")


def _exclusions(warehouse: "duckdb.DuckDBPyConnection") -> str:
    """How many rows of each wave's file have which status, by question, as a table for people."""
    rows = warehouse.execute(
        "select survey_year, question_id, status, n from marts.exclusions order by survey_year, question_id"
    ).fetchall()
    statuses = [
        status
        for (status,) in warehouse.execute(
            "select status from marts.exclusions group by status order by min(status_position)"
        ).fetchall()
    ]
    counts: dict[tuple[int, str], dict[str, int]] = {}
    for wave, question, status, n in rows:
        counts.setdefault((wave, question), {})[status] = n
    return "\n".join(
        [
            f"| wave | question | {' | '.join(expectations.as_text(status) for status in statuses)} |",
            f"|---|---|{'---|' * len(statuses)}",
            *(
                f"| {wave} | {expectations.as_text(question)} | {' | '.join(str(of.get(s, 0)) for s in statuses)} |"
                for (wave, question), of in counts.items()
            ),
        ]
    )


def dbt_resource(settings: Settings) -> WarehouseDbt:
    """dbt's command line for this warehouse."""
    return WarehouseDbt(
        project_dir=str(settings.dbt_project_dir),
        profiles_dir=str(DBT_PROJECT_DIR),
        target=settings.target,
        dbt_executable=DBT[0],
        global_config_flags=DBT[1:],
    )
