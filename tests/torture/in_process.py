"""A refresh in one process, step by step, that does not build again what a change cannot have touched.

What runs is the product's own: `orchestration` reads registry and files, dbt's seed runner loads the crosswalk, dbt
compiles the SQL that is written from the crosswalk, the rest is the SQL that dbt compiled for the base, the gate puts
failures into words and `expectations` judges the marts. Dagster is left out, and so is the release. A table whose SQL
and whose inputs are the base's is kept, and a check of such tables passes: neither could come out otherwise.
"""

import contextlib
import copy
import io
import itertools
import json
import os
import shutil
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import networkx

import expectations
from orchestration import gate, transform
from orchestration import manifest as manifests
from orchestration.errors import Refusal
from orchestration.fingerprint import fingerprint_of
from orchestration.ingest import land_wave, source_specs, unite_waves, wave_asset
from orchestration.registry import read_registry, verify_files
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.warehouse import connect

# What a refresh that goes through publishes may differ in only by what the files are called and weigh.
ABOUT_THE_FILES = ("path", "format", "encoding", "sha256", "bytes", "rows", "columns")
# An estimate of the base may move by as much, in percentage points, before it counts as restated.
DRIFT = 0.05
FIGURES = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN")
ESTIMATE = "survey_year, geography_level, geography_code, breakdown, category, question_id, response"


@dataclass
class Outcome:
    """How a refresh ended.

    `blocked_by` is `reading`, `a check`, `a model` or `an expectation`; nothing where it would have published. Then
    `moved` says what is other than in the base: `exclusions`, `figures`, `texts`, and `history` where an estimate of
    the base moved by more than the drift that is allowed. `crash` is the traceback of what should not happen.
    """

    blocked_by: str = ""
    message: str = ""
    moved: frozenset[str] = frozenset()
    crash: str = ""
    seconds: float = 0.0
    rebuilt: list[str] = field(default_factory=list)


class InProcess:
    """The refresh of a survey that lies in `folder`, beginning from the published warehouse of the base.

    Raw files and crosswalk below the folder may be changed between two runs; `restore` makes them the base's again.
    """

    def __init__(self, folder: Path, base: Settings) -> None:
        self.folder, self.base = folder, base
        self.parsed = False
        self.settings = Settings(
            raw_dir=folder / "raw",
            seeds_dir=folder / "seeds",
            warehouse=folder / "warehouse" / "warehouse.duckdb",
            published_dir=folder / "published",
            dagster_home=folder / "dagster",
            target=base.target,
            keep_releases=base.keep_releases,
        )
        restore(self.settings, base)
        # dbt takes the paths from the environment; the umask that `prepare` sets is this process's from now on.
        self.settings.export()
        self.settings.prepare()
        target = self.settings.dbt_target_dir
        self._forget_parsing()
        self.manifest: dict[str, Any] = json.loads((target / "manifest.json").read_text())
        results = json.loads((target / "run_results.json").read_text())["results"]
        self.compiled = {r["unique_id"]: r["compiled_code"] for r in results if r.get("compiled_code")}
        self._start_dbt()
        self._know_the_base()

    # ------------------------------------------------------------------------------------ setting up

    def _forget_parsing(self) -> None:
        """dbt's manifest is that of the base."""
        target = self.settings.dbt_target_dir
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for name in ("manifest.json", "run_results.json"):
            shutil.copy(self.base.dbt_target_dir / name, target / name)

    def _start_dbt(self) -> None:
        from dbt.adapters.factory import get_adapter_by_type
        from dbt.cli.flags import Flags
        from dbt.cli.main import dbtRunner
        from dbt.cli.types import Command
        from dbt.compilation import Compiler
        from dbt.flags import set_flags

        places = {
            "project_dir": str(self.settings.dbt_project_dir),
            "profiles_dir": str(DBT_PROJECT_DIR),
            "target_path": str(self.folder / "dbt"),
            "log_path": str(self.folder / "dbt"),
        }
        options = [word for name, value in places.items() for word in (f"--{name.replace('_', '-')}", value)]
        shutil.copy(self.base.warehouse, self._warehouse())
        parsed = dbtRunner().invoke(["--quiet", "--log-level", "none", "--log-level-file", "none", "parse", *options])
        if not parsed.success or parsed.exception:
            raise RuntimeError(f"dbt cannot parse the base: {parsed.exception}")
        set_flags(Flags.from_dict(Command.BUILD, places | {"quiet": True, "log_level": "none"}))
        self.dbt_manifest: Any = parsed.result
        self.adapter: Any = get_adapter_by_type("duckdb")
        self.compiler = Compiler(self.adapter.config)
        with contextlib.redirect_stdout(io.StringIO()):
            graph = self.compiler.compile(self.dbt_manifest, write=False, add_test_edges=True).graph
        self.predecessors = {node: set(graph.predecessors(node)) for node in graph}
        self.order = [
            node
            for node in networkx.topological_sort(graph)
            if not node.startswith(("source.", "exposure.", "operation."))
        ]

    def _warehouse(self) -> Path:
        self.settings.warehouse.parent.mkdir(parents=True, exist_ok=True)
        return self.settings.warehouse

    def _know_the_base(self) -> None:
        written = "macro.cmhs.crosswalk_rows"
        calls = {name: set(macro["depends_on"]["macros"]) for name, macro in self.manifest["macros"].items()}

        def reaches(macros: set[str], seen: frozenset[str] = frozenset()) -> bool:
            return written in macros or any(reaches(calls[m], seen | {m}) for m in macros - seen if m in calls)

        self.from_crosswalk = {
            unique_id
            for unique_id, node in self.manifest["nodes"].items()
            if reaches(set(node.get("depends_on", {}).get("macros", [])))
        }
        self.relations = {
            unique_id: f'"{node["schema"]}"."{node.get("alias") or node["name"]}"'
            for unique_id, node in (self.manifest["nodes"] | self.manifest["sources"]).items()
            if not unique_id.startswith(("test.", "operation."))
        }
        with duckdb.connect(str(self.base.warehouse), read_only=True) as base:
            self.digests = {unique_id: digest(base, relation) for unique_id, relation in self.relations.items()}
            self.columns = {unique_id: columns(base, relation) for unique_id, relation in self.relations.items()}
            self.frames = {name: digest(base, f"({suite_sql(name)})") for name in expectations.suite_names()}
        self.reads: dict[str, set[str]] = {}
        self.seed_names = {path.name for path in self.base.seeds_dir.iterdir()}

    # ------------------------------------------------------------------------------------ running

    def run(self) -> Outcome:
        """Refresh from the raw files and the crosswalk as they now lie there."""
        started = time.perf_counter()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                outcome = self._run()
        except Exception:
            outcome = Outcome(crash=traceback.format_exc())
        finally:
            self._close()
        outcome.seconds = time.perf_counter() - started
        return outcome

    def _run(self) -> Outcome:
        settings = self.settings
        try:
            files = read_registry(settings.registry)
            verify_files(settings.raw_dir, files)
            fingerprint_of(settings, files)
            source_specs(settings.raw_dir, files)
            waves = [list(group) for _, group in itertools.groupby(files, key=lambda file: file.wave)]
            for wave in waves:
                wave_asset(settings, wave)
            with self._parsing_only_where_names_changed():
                manifest = manifests.prepare_manifest(settings)
        except Refusal as refusal:
            return Outcome("reading", str(refusal))
        shutil.copy(self.base.warehouse, settings.warehouse)
        refusals = []
        with connect(settings.warehouse) as warehouse:
            for wave in waves:
                try:
                    land_wave(warehouse, settings.raw_dir, wave)
                except Refusal as refusal:
                    refusals.append(str(refusal))
            if not refusals:
                unite_waves(warehouse, [wave[0].wave for wave in waves])
        if refusals:
            return Outcome("reading", str(Refusal("Nothing was published.", refusals)))
        try:
            transform.check_crosswalk(settings, manifest)
        except Refusal as refusal:
            return Outcome("reading", str(refusal))
        # dbt parses a project in which only checks name a seed that is gone; it stops where it compiles them.
        if gone := sorted(self.seed_names - {path.name for path in self.settings.seeds_dir.iterdir()}):
            return Outcome("reading", f"dbt stopped before it built anything.\n  - {', '.join(gone)}")
        warehouse = self._cursor()
        results, changed = self._build(warehouse)
        run_results = gate.without_values({"results": results})
        problems = gate.problems_of_build(warehouse, run_results, self.manifest)
        rebuilt = sorted(changed)
        if problems:
            checked = any(r["status"] in ("fail", "warn") for r in results)
            message = str(Refusal(f"dbt: {gate.counts_of_build(run_results)}. Nothing was published.", problems))
            return Outcome("a check" if checked else "a model", message, rebuilt=rebuilt)
        failed = self._failed_expectations(warehouse, changed)
        if failed:
            message = str(Refusal("Great Expectations: the numbers are not fit to publish.", failed))
            return Outcome("an expectation", message, rebuilt=rebuilt)
        return Outcome(moved=self._moved(warehouse, changed), rebuilt=rebuilt)

    def _cursor(self) -> Any:
        """A cursor on the warehouse beside dbt's own, which come and go with each node."""
        with self.adapter.connection_named("refresh"):
            _ = self.adapter.connections.get_thread_connection().handle
        return type(self.adapter.connections).env().conn.cursor()

    @contextlib.contextmanager
    def _parsing_only_where_names_changed(self) -> Iterator[None]:
        """dbt parses the names of the crosswalk's files, not what is in them."""
        if {path.name for path in self.settings.seeds_dir.iterdir()} != self.seed_names:
            self.parsed = True
            yield
            return

        def parse(command: list[str], **_: Any) -> Any:
            shutil.copy(self.base.dbt_target_dir / "manifest.json", command[command.index("--target-path") + 1])
            dbt = mock.MagicMock()
            dbt.__enter__.return_value.communicate.return_value = ("", "")
            dbt.__enter__.return_value.returncode = 0
            return dbt

        with (
            mock.patch.object(manifests, "Popen", parse),
            # Nobody damages the copy, and reading it takes longer than most refreshes here.
            mock.patch.object(manifests, "_is_manifest", Path.exists),
        ):
            yield

    def _close(self) -> None:
        """Let go of the warehouse, so that the next refresh begins from the base's."""
        connections = type(self.adapter.connections)
        self.adapter.cleanup_connections()
        if connections._ENV is not None:
            connections._ENV.close()
            connections._ENV = None
        self.adapter.cache.clear()
        if self.parsed:
            self._forget_parsing()
            self.parsed = False
        for path in self.settings.warehouse.parent.glob(f"{self.settings.warehouse.name}.wal"):
            path.unlink()

    # ------------------------------------------------------------------------------------ building

    def _build(self, warehouse: Any) -> tuple[list[dict[str, Any]], set[str]]:
        """What dbt's build would say of each node, and the nodes whose tables are not the base's."""
        seeds = {
            unique_id
            for unique_id, node in self.manifest["nodes"].items()
            if node["resource_type"] == "seed" and self._seed_changed(node)
        }
        changed = {
            unique_id
            for unique_id in self.manifest["sources"]
            if digest(warehouse, self.relations[unique_id]) != self.digests[unique_id]
        }
        bad: set[str] = set()
        results = []
        for unique_id in self.order:
            if self.predecessors[unique_id] & bad:
                bad.add(unique_id)
                results.append({"unique_id": unique_id, "status": "skipped"})
                continue
            kind = unique_id.split(".")[0]
            if kind == "seed":
                result = self._seed(unique_id) if unique_id in seeds else {"status": "success"}
            elif kind == "unit_test":
                result = self._unit_test(warehouse, unique_id, changed)
            else:
                result = self._node(warehouse, unique_id, changed, bool(seeds))
            if result["status"] not in ("success", "pass"):
                bad.add(unique_id)
            elif (
                kind in ("seed", "model")
                and result.pop("built", kind == "seed" and unique_id in seeds)
                and digest(warehouse, self.relations[unique_id]) != self.digests[unique_id]
            ):
                changed.add(unique_id)
            results.append({"unique_id": unique_id} | result)
        return results, changed

    def _seed_changed(self, node: dict[str, Any]) -> bool:
        name = Path(node["original_file_path"]).name
        mine, base = self.settings.seeds_dir / name, self.base.seeds_dir / name
        return base.exists() and mine.read_bytes() != base.read_bytes()

    def _seed(self, unique_id: str) -> dict[str, Any]:
        from dbt.task.seed import SeedRunner

        node = copy.deepcopy(self.dbt_manifest.nodes[unique_id])
        result = SeedRunner(self.adapter.config, self.adapter, node, 1, 1).safe_run(self.dbt_manifest)
        return {"status": str(result.status), "message": result.message}

    def _unit_test(self, warehouse: Any, unique_id: str, changed: set[str]) -> dict[str, Any]:
        """A unit test brings its own rows; of the warehouse it only needs the columns of the tables it stands for."""
        from dbt.task.test import TestRunner

        node = self.dbt_manifest.unit_tests[unique_id]
        inputs = {on for model in node.depends_on.nodes for on in self.manifest["nodes"][model]["depends_on"]["nodes"]}
        if all(columns(warehouse, self.relations[on]) == self.columns[on] for on in inputs & changed):
            return {"status": "pass", "failures": 0}
        result = TestRunner(self.adapter.config, self.adapter, node, 1, 1).safe_run(self.dbt_manifest)
        return {"status": str(result.status), "message": result.message, "failures": result.failures}

    def _node(self, warehouse: Any, unique_id: str, changed: set[str], crosswalk_changed: bool) -> dict[str, Any]:
        from dbt_common.exceptions import DbtRuntimeError

        node = self.manifest["nodes"][unique_id]
        is_test = node["resource_type"] == "test"
        code = self.compiled[unique_id]
        try:
            if crosswalk_changed and unique_id in self.from_crosswalk:
                code = self._compile(unique_id)
            if code == self.compiled[unique_id] and not self._reads(unique_id) & changed:
                return {"status": "pass" if is_test else "success", "failures": 0}
            try:
                if is_test:
                    return self._test(warehouse, code)
                kind = "view" if node["config"]["materialized"] == "view" else "table"
                relation = self.relations[unique_id]
                warehouse.execute(f"create or replace {kind} {relation} as {code}")
                if node["config"]["contract"]["enforced"] and columns(warehouse, relation) != self.columns[unique_id]:
                    raise DbtRuntimeError("This model has an enforced contract that failed.")
            except duckdb.Error as error:
                raise DbtRuntimeError(str(error)) from error
        except DbtRuntimeError as error:
            if error.node is None:
                error.add_node(self.dbt_manifest.nodes[unique_id])
            return {"status": "error", "message": str(error)}
        return {"status": "success", "built": True}

    def _reads(self, unique_id: str) -> set[str]:
        """What a node reads in the base: what dbt says, and what its SQL names."""
        if unique_id not in self.reads:
            named = {on for on, relation in self.relations.items() if relation in self.compiled[unique_id]}
            self.reads[unique_id] = named | set(self.manifest["nodes"][unique_id]["depends_on"]["nodes"])
        return self.reads[unique_id]

    def _compile(self, unique_id: str) -> str:
        node = copy.deepcopy(self.dbt_manifest.nodes[unique_id])
        with self.adapter.connection_named("compiling", node):
            code: str = self.compiler.compile_node(node, self.dbt_manifest, {}, write=False).compiled_code
        return code

    def _test(self, warehouse: Any, code: str) -> dict[str, Any]:
        """A check as dbt judges it: it fails where it returns rows."""
        [(failures,)] = warehouse.execute(f"select count(*) from ({code}\n) as failing").fetchall()
        return {"status": "fail" if failures else "pass", "failures": failures, "compiled_code": code}

    # ------------------------------------------------------------------------------------ judging

    def _failed_expectations(self, warehouse: Any, changed: set[str]) -> list[str]:
        """Sentences of the expectations that failed; suites that see what they saw in the base passed there."""
        tables = [self.relations[node].replace('"', "") for node in changed]
        differ = [
            name
            for name, base in self.frames.items()
            if any(table in suite_sql(name) for table in tables) and digest(warehouse, f"({suite_sql(name)})") != base
        ]
        if not differ:
            return []
        with mock.patch.object(expectations, "suite_names", lambda: differ):
            outcomes = expectations.run_suites(warehouse)
        return [outcome.sentence for outcome in outcomes if outcome.status != "pass"]

    def _moved(self, warehouse: Any, changed: set[str]) -> frozenset[str]:
        """What of the marts is other than in the base."""
        marts = {node.split(".")[2]: self.relations[node] for node in changed if '"marts".' in self.relations[node]}
        if not marts:
            return frozenset()
        warehouse.execute(f"attach '{self.base.warehouse}' as base (read_only)")
        try:
            moved = {found for name, relation in marts.items() for found in self._moved_in(warehouse, name, relation)}
            moved |= {"history"} if "estimates" in marts and self._rewritten(warehouse) else set()
        finally:
            warehouse.execute("detach base")
        return frozenset(moved)

    def _moved_in(self, warehouse: Any, name: str, relation: str) -> set[str]:
        described = [c for c in columns(warehouse, relation) if name != "source_files" or c[0] not in ABOUT_THE_FILES]
        figures = [f'"{column}"' for column, kind in described if kind.startswith(FIGURES)]
        everything = [f'"{column}"' for column, _ in described]

        def differ(these: list[str]) -> bool:
            mine, base = (f"select {', '.join(these)} from {database}.{relation}" for database in ("warehouse", "base"))
            return bool(
                warehouse.execute(
                    f"select 1 from (({mine} except all {base}) union all ({base} except all {mine})) limit 1"
                ).fetchall()
            )

        if figures and differ(figures):
            return {"exclusions" if name == "exclusions" else "figures"}
        return {"texts"} if differ(everything) else set()

    def _rewritten(self, warehouse: Any) -> bool:
        """Whether an estimate of the base is gone, hidden, shown or moved further than the drift."""
        [(rows,)] = warehouse.execute(
            f"select count(*) from base.marts.estimates as earlier left join warehouse.marts.estimates as later "
            f"using ({ESTIMATE}) where later.base is distinct from earlier.base and (later.base is null or "
            f"earlier.base is null) or coalesce(abs(later.pct - earlier.pct) > {DRIFT}, "
            "(later.pct is null) <> (earlier.pct is null))"
        ).fetchall()
        return bool(rows)


def restore(settings: Settings, base: Settings) -> None:
    """Raw files and crosswalk as they are in the base."""
    for mine, theirs in ((settings.raw_dir, base.raw_dir), (settings.seeds_dir, base.seeds_dir)):
        shutil.rmtree(mine, ignore_errors=True)
        shutil.copytree(theirs, mine)


def suite_sql(name: str) -> str:
    """What a suite looks at."""
    return (expectations.FOLDER / f"{name}.sql").read_text(encoding="utf-8").strip().rstrip(";")


def columns(warehouse: Any, relation: str) -> list[tuple[str, str]]:
    """Names and types of a relation's columns."""
    found = warehouse.execute(f"describe select * from {relation}").fetchall()
    return [(name, kind) for name, kind, *_ in found]


def digest(warehouse: Any, relation: str) -> tuple[Any, ...]:
    """What a relation holds, in whatever order its rows lie: columns, rows and the sum of the rows' hashes."""
    sums = warehouse.execute(f"select count(*), sum(hash(r)::hugeint) from (select * from {relation}) as r").fetchall()
    return (*columns(warehouse, relation), *sums[0])


def base_settings(folder: Path, raw_dir: Path, seeds_dir: Path) -> Settings:
    """Settings of the base: everything it makes lies below `folder`."""
    return Settings(
        raw_dir=raw_dir,
        seeds_dir=seeds_dir,
        warehouse=folder / "warehouse" / "warehouse.duckdb",
        published_dir=folder / "published",
        dagster_home=folder / "dagster",
        target=os.environ.get("CMHS_TARGET") or "duckdb",
        keep_releases=20,
    )
