"""A release's datapackage.json, held to the Frictionless standard by the library of that name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Warehouse, folder_of
from frictionless import Report, validate

from orchestration import release

Package = dict[str, Any]
MEANS = "means"


def report_on(folder: Path) -> Report:
    return validate(str(folder / "datapackage.json"))


def kinds_of_error(report: Report) -> set[str]:
    return {error.type for error in report.errors} | {error.type for task in report.tasks for error in task.errors}


@pytest.mark.parametrize("survey", ["hand_worked", "six_waves"])
def test_frictionless_finds_every_table_as_the_package_describes_it(
    survey: str, request: pytest.FixtureRequest
) -> None:
    folder = folder_of(request.getfixturevalue(survey))
    tables = release.notes_of(folder)["tables"]
    package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))

    report = report_on(folder)

    assert report.valid, [error.note for task in report.tasks for error in task.errors]
    assert report.warnings == []
    rows = {task.name: task.stats.get("rows", 0) for task in report.tasks}
    assert rows == {name: described["rows"] for name, described in tables.items()}
    for resource in package["resources"]:
        assert resource["hash"].startswith("sha256:")
        assert resource["bytes"] == (folder / resource["path"]).stat().st_size


@pytest.fixture
def copy(hand_worked: Warehouse, tmp_path: Path) -> Path:
    """A release that may be altered."""
    folder = shutil.copytree(folder_of(hand_worked), tmp_path / "release")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def means_in(package: Package) -> dict[str, Any]:
    [means] = [resource for resource in package["resources"] if resource["name"] == MEANS]
    return dict(means)


def drop_a_row(folder: Path, package: Package) -> None:
    table = folder / means_in(package)["path"]
    table.write_text("".join(table.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


def alter_a_digit(folder: Path, package: Package) -> None:
    table = folder / means_in(package)["path"]
    content = table.read_bytes()
    assert content.count(b"2014")
    table.write_bytes(content.replace(b"2014", b"2013", 1))


def name_another_type(folder: Path, package: Package) -> None:
    fields = {field["name"]: field for field in means_in(package)["schema"]["fields"]}
    fields["question_id"]["type"] = "integer"


def name_another_column(folder: Path, package: Package) -> None:
    means_in(package)["schema"]["fields"][-1]["name"] = "other"


SPOILED: dict[str, tuple[Callable[[Path, Package], None], set[str]]] = {
    "a row is gone": (drop_a_row, {"hash-count", "byte-count"}),
    "a digit is another": (alter_a_digit, {"hash-count"}),
    "a column has another type": (name_another_type, {"type-error"}),
    "a column has another name": (name_another_column, {"incorrect-label"}),
}


@pytest.mark.parametrize("fault", SPOILED)
def test_frictionless_sees_where(copy: Path, fault: str) -> None:
    spoil, seen = SPOILED[fault]
    path = copy / "datapackage.json"
    package = json.loads(path.read_text(encoding="utf-8"))
    spoil(copy, package)
    path.write_text(json.dumps(package), encoding="utf-8")

    report = report_on(copy)

    assert not report.valid
    assert seen <= kinds_of_error(report)
    assert {task.name for task in report.tasks if not task.valid} == {MEANS}
