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
import subprocess
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, dbt_assets
from packaging.version import Version

from orchestration import gate
from orchestration.errors import Refusal
from orchestration.fingerprint import dbt_project_digest, fingerprint_of, git_commit
from orchestration.lock import WriterLock
from orchestration.registry import read_registry
from orchestration.release import STORAGE_VERSION
from orchestration.settings import DBT_PID, DBT_PROJECT_DIR, OWNERS, TEMPORARY, Settings
from orchestration.warehouse import connect

WORDS_OF_DBT = 10
# Folders beside the warehouse with what dbt made of the project, by the project's digest.
PARSED = "parsed-"
PARSED_KEPT = 3
PARTIAL = "partial_parse.msgpack"


class WarehouseTranslator(DagsterDbtTranslator):
    """dbt nodes by layer: the key is layer/name, the group is the layer."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))

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
        description = self.get_resource_props(manifest, unique_id).get("description")
        return spec._replace(description=description) if spec and description else spec

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


def prepare_manifest(settings: Settings) -> Path:
    """dbt's manifest of this warehouse's project, made anew where the project changed since; its path.

    Each state of the project has a folder of its own, which appears whole and is not written to again: other runs
    read it while one is building. Raises Refusal with dbt's own words where the project cannot be parsed.
    """
    folder = settings.state_dir / f"{PARSED}{dbt_project_digest(settings)[:16]}"
    manifest = folder / "manifest.json"
    if _is_manifest(manifest):
        return manifest
    not_text = [path.name for path in sorted(settings.seeds_dir.glob("*.csv")) if not _is_utf8(path)]
    if not_text:
        raise Refusal(
            "The crosswalk cannot be read.", [f"{name} is not UTF-8 text: save it as UTF-8." for name in not_text]
        )
    older = sorted(settings.state_dir.glob(f"{PARSED}*"), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory(prefix=f".{PARSED}", dir=settings.state_dir) as aside:
        target = Path(aside) / "target"
        target.mkdir()
        if older:
            with suppress(OSError):
                shutil.copy(older[-1] / PARTIAL, target)
        parsed = subprocess.run(
            ["dbt", "--quiet", "parse", "--project-dir", str(settings.dbt_project_dir), "--target-path", str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
        if parsed.returncode != 0 or not _is_manifest(target / "manifest.json"):
            raise Refusal("The dbt project cannot be parsed.", [parsed.stdout.strip() or parsed.stderr.strip()])
        # A damaged one is in the way; one that another run made meanwhile is as good as ours.
        if not _is_manifest(manifest):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            target.rename(folder)
    for path in older[:-PARSED_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
    return manifest


def _is_manifest(path: Path) -> bool:
    try:
        return "nodes" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _is_utf8(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


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
        dagster_dbt_translator=WarehouseTranslator(),
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
        target.mkdir(parents=True, exist_ok=True)
        (target / "run_results.json").unlink(missing_ok=True)
        # Where dbt writes what it asks of the database, before it does.
        shutil.rmtree(target / "run", ignore_errors=True)
        with suppress(OSError):
            shutil.copy(parsed.with_name(PARTIAL), target)
        build = dbt.cli(["build"], context=context, target_path=target, raise_on_error=False)
        (settings.state_dir / TEMPORARY / DBT_PID).write_text(str(build.process.pid))
        with io.StringIO() as echo, contextlib.redirect_stdout(echo):
            events = list(build.stream())
            said = echo.getvalue().strip().splitlines()
        if not (target / "run_results.json").exists():
            if (target / "run").exists():
                # Its words may quote an answer.
                raise Refusal("dbt left no results of its build.", ["Make room (`df -h`), then refresh."])
            # Nothing was read yet, so they are about the project.
            raise Refusal("dbt stopped before it built anything.", said[-WORDS_OF_DBT:])
        manifest = json.loads((target / "manifest.json").read_text())
        run_results = gate.without_values(json.loads((target / "run_results.json").read_text()))
        (target / "run_results.json").write_text(json.dumps(run_results))
        with connect(settings.warehouse) as warehouse:
            tables = gate.record_build(warehouse, run_results, fingerprint, context.run.run_id)
            problems = gate.problems_of_build(warehouse, run_results, manifest)
        with warnings.catch_warnings():
            # The version of an output's data is a beta parameter of a pinned Dagster.
            warnings.simplefilter("ignore", category=dg.BetaWarning)
            yield from (_with_table(context, event, tables) for event in events)
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


def _with_table(context: dg.AssetExecutionContext, event: Any, tables: Mapping[tuple[str, str], gate.Table]) -> Any:
    """A dbt event with the row count and content hash of the table that it made."""
    if not isinstance(event, dg.Output):
        return event
    key = context.asset_key_for_output(event.output_name)
    table = tables.get((key.path[0], key.path[-1]))
    if table is None:
        return event
    return dg.Output(
        None,
        output_name=event.output_name,
        metadata={**event.metadata, "dagster/row_count": table.rows},
        data_version=dg.DataVersion(table.content_hash) if table.content_hash else None,
    )


def dbt_resource(settings: Settings) -> WarehouseDbt:
    """dbt's command line for this warehouse."""
    return WarehouseDbt(
        project_dir=str(settings.dbt_project_dir),
        profiles_dir=str(DBT_PROJECT_DIR),
        target=settings.target,
    )
