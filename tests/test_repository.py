"""What holds of the repository itself: no year in code, no microdata, documentation that fits, forgetting a deposit."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import Warehouse

from orchestration.cli import main
from orchestration.registry import microdata_in_checkout
from orchestration.settings import ROOT

YEAR = re.compile(r"\b(19|20)\d\d\b")
# What looks like a wave's year and is none: "not published", a cited work with its pages or section, a coefficient.
NO_WAVE = re.compile(r"1970-01-01|\b\d{4}, \d+[-.]\d+|\b\d+ \* z \*\* \d\b")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_model_suite_or_module_names_a_year() -> None:
    code = ("orchestration/*.py", "expectations/*.py", "expectations/*.sql", "expectations/*.json")
    files = tracked(*code, "dbt_project/models/**/*.sql", "dbt_project/macros/*.sql")
    assert len(files) > 60
    named = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in files
        for line in path.read_text().splitlines()
        if YEAR.search(NO_WAVE.sub("", line))
    }
    assert named == set()


def test_the_lock_names_no_address_and_hashes_everything() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    requirements = re.findall(r"^([a-z0-9][^\s]*==[^\s]+) \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", lock, re.M)
    assert len(requirements) == len(re.findall(r"^[a-z0-9].*==", lock, re.M)) > 100


def test_every_model_and_every_column_is_described(six_waves: Warehouse) -> None:
    manifest: dict[str, Any] = json.loads((six_waves.settings.dbt_target_dir / "manifest.json").read_text())
    nodes = [n for n in manifest["nodes"].values() if n["resource_type"] in ("model", "seed", "test")]
    nodes += [*manifest["sources"].values(), *manifest["unit_tests"].values()]
    generic = [n for n in nodes if n.get("test_metadata")]
    undescribed = [
        n["name"] for n in nodes if n not in generic and not n["description"] and n["resource_type"] != "unit_test"
    ]
    assert undescribed == []
    columns = [(n["name"], c["name"], c["description"]) for n in nodes for c in n.get("columns", {}).values()]
    assert len(columns) > 250
    assert [(n, c) for n, c, description in columns if not description] == []


def test_the_documented_columns_are_the_real_ones(six_waves: Warehouse) -> None:
    manifest: dict[str, Any] = json.loads((six_waves.settings.dbt_target_dir / "manifest.json").read_text())
    real = six_waves.query("select schema_name, table_name, column_name from duckdb_columns() where not internal")
    for node in manifest["nodes"].values():
        if node["resource_type"] in ("model", "seed") and node["schema"] in ("marts", "crosswalk"):
            mine = real[(real["schema_name"] == node["schema"]) & (real["table_name"] == node["alias"])]
            assert len(mine) > 0, node["name"]
            assert list(mine["column_name"]) == list(node["columns"]), node["name"]


def test_only_registered_synthetic_files_may_lie_under_data_raw(tmp_path: Path) -> None:
    assert microdata_in_checkout(ROOT) == []
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "data" / "raw", checkout / "data" / "raw")
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    assert microdata_in_checkout(checkout) == []
    (checkout / "data" / "raw" / "2012" / "survey.sav").write_bytes(b"real people")
    assert "2012/survey.sav" in "".join(microdata_in_checkout(checkout))
    registry = checkout / "data" / "raw" / "registry.csv"
    registry.write_text(registry.read_text().replace(",synthetic", ",deposit"))
    assert len(microdata_in_checkout(checkout)) == len(list((checkout / "data" / "raw").rglob("*.*"))) - 1


def test_purge_removes_what_a_deposit_left_and_keeps_the_deposit(small: Warehouse) -> None:
    registry = small.raw_dir / "registry.csv"
    registry.write_text(registry.read_text().replace(",synthetic", ",deposit"))
    synthetic = small.published("select release_id from marts.release_info")["release_id"][0]
    small.refresh()
    deposit = small.published("select release_id, provenance from marts.release_info").iloc[0]
    assert deposit["provenance"] == "deposit"
    with small.active() as settings:
        ran = CliRunner().invoke(main, ["purge", "--yes"])
        assert ran.exit_code == 0, ran.output
        assert not settings.warehouse.exists()
        assert not settings.state_dir.exists()
        assert not settings.dagster_home.exists()
        assert not settings.current_release.exists()
        assert [p.name for p in (settings.published_dir / "releases").iterdir()] == [synthetic]
        assert "nothing to remove" in CliRunner().invoke(main, ["purge", "--yes"]).output
    assert registry.exists()


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["refresh"],
        ["releases"],
        ["releases", "show"],
        ["ui"],
        ["purge"],
        ["guard"],
        ["explain"],
        ["wave"],
        ["wave", "register"],
        ["wave", "init"],
        ["wave", "check"],
    ],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    shown = CliRunner().invoke(main, [*command, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output) > 100


def test_releases_are_listed_shown_and_verified_from_the_command_line(six_waves: Warehouse) -> None:
    with six_waves.active() as settings:
        listed = json.loads(CliRunner().invoke(main, ["releases", "list", "--json"]).output)
        assert [row["current"] for row in listed] == [True]
        shown = json.loads(CliRunner().invoke(main, ["releases", "show", "--json"]).output)
        assert shown["release_id"] == listed[0]["release_id"] == settings.current_release.resolve().name
        assert "Overall experience, score 10" in CliRunner().invoke(main, ["releases", "show"]).output
        assert "are as published" in CliRunner().invoke(main, ["releases", "verify"]).output
        unknown = CliRunner().invoke(main, ["releases", "verify", "nonsense"])
        assert unknown.exit_code == 1


def test_a_refusal_is_words_and_an_exit_code_and_no_traceback(tmp_path: Path) -> None:
    nowhere = Warehouse(tmp_path, tmp_path / "nowhere", tmp_path / "nowhere")
    ran = subprocess.run(
        [Path(sys.executable).parent / "cmhs", "refresh"], env=nowhere.environment, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "There is no registry of raw files" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_readme_names_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"\bmake ([a-z-]+)", readme))
    assert {"refresh", "test", "ui"} <= named <= targets
    for document in tracked("README.md", "docs/*.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_the_recovery_page_knows_every_refusal() -> None:
    headlines = set()
    for path in tracked("orchestration/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.IfExp) else None
            if called and {"Refusal", "Busy"} & {n.id for n in ast.walk(called) if isinstance(n, ast.Name)}:
                headline = node.args[0]
                parts = headline.values if isinstance(headline, ast.JoinedStr) else [headline]
                headlines.add("".join(str(p.value) if isinstance(p, ast.Constant) else "..." for p in parts))
    page = re.sub(r"```.*?```", "", (ROOT / "docs" / "recovery.md").read_text(), flags=re.DOTALL)
    quoted = {words.strip(".") for words in re.findall(r"`([^`]+)`", page)}

    assert len(headlines) > 40
    assert {headline for headline in headlines if headline.strip(".") not in quoted} == set()
