"""dbt's documentation in a release: complete, confined to its own file, and true about who reads the marts."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Warehouse, folder_of
from playwright.sync_api import Browser

from orchestration import dbt_docs, gate
from orchestration.release import confined_connection
from orchestration.settings import ROOT
from orchestration.warehouse import connect


@pytest.fixture(scope="session")
def page(hand_worked: Warehouse) -> Path:
    return folder_of(hand_worked) / "report" / "dbt" / "index.html"


@pytest.fixture(scope="session")
def documented(page: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and catalog as the page carries them."""
    text = page.read_text(encoding="utf-8")
    start = re.search(r'\{manifest:(?=\{"metadata")', text)
    assert start is not None
    decoder = json.JSONDecoder()
    manifest, end = decoder.raw_decode(text, start.end())
    between = ",catalog:"
    assert text.startswith(between, end)
    catalog, _ = decoder.raw_decode(text, end + len(between))
    return manifest, catalog


# ---------------------------------------------------------------------------------------- what it says


def test_nothing_is_without_a_description(documented: tuple[dict[str, Any], dict[str, Any]]) -> None:
    manifest, catalog = documented
    assert {key.split(".")[1] for key in manifest["macros"]} == {"cmhs"}
    entries = {
        key: of
        for section in ("nodes", "sources", "macros", "exposures", "unit_tests")
        for key, of in manifest[section].items()
        # A generic check is described where its kind is, among the macros; a unit test by its name.
        if of["resource_type"] != "unit_test" and not of.get("test_metadata")
    }
    assert {of["resource_type"] for of in entries.values()} == {"model", "seed", "test", "source", "macro", "exposure"}
    assert [key for key, of in entries.items() if not of["description"].strip()] == []
    assert [source["name"] for source in manifest["sources"].values() if not source["source_description"]] == []

    real = catalog["nodes"] | catalog["sources"]
    assert real.keys() == {k for k, of in entries.items() if of["resource_type"] in ("model", "seed", "source")}
    columns = {
        (key, name): {n.lower(): c["description"] for n, c in entries[key]["columns"].items()}.get(name.lower())
        for key, table in real.items()
        for name in table["columns"]
    }
    assert len(columns) > 500
    assert [column for column, description in columns.items() if not description] == []


def test_types_are_those_of_the_marts(
    documented: tuple[dict[str, Any], dict[str, Any]], hand_worked: Warehouse
) -> None:
    manifest, catalog = documented
    notes = json.loads((folder_of(hand_worked) / "release.json").read_text(encoding="utf-8"))
    marts = {of["alias"]: catalog["nodes"][key] for key, of in manifest["nodes"].items() if of["schema"] == "marts"}
    assert marts.keys() == notes["tables"].keys()
    for name, table in notes["tables"].items():
        found = sorted(marts[name]["columns"].values(), key=lambda column: column["index"])
        assert [(c["name"], c["type"]) for c in found] == [(c["name"], c["type"]) for c in table["columns"]]


def test_a_raw_column_says_what_the_crosswalk_makes_of_it(
    documented: tuple[dict[str, Any], dict[str, Any]], hand_worked: Warehouse
) -> None:
    columns = documented[0]["sources"]["source.cmhs.raw.responses"]["columns"]
    responses = {name.lower(): column for name, column in columns.items()}
    column, label = (
        hand_worked.query(
            "select raw_column, label from crosswalk.question_map join crosswalk.questions using (question_id) "
            "where question_id = 'contact_care_coordinator' order by survey_year limit 1"
        )
        .iloc[0]
        .to_list()
    )
    assert f"question contact_care_coordinator: {label} (" in responses[column.lower()]["description"]


def read_by_the_page() -> set[str]:
    """The marts in the queries of the indicator page."""
    modules = [path for path in (ROOT / "orchestration" / "report").glob("*.py") if path.stem != "lineage"]
    texts = [path.read_text(encoding="utf-8") for path in modules]
    return {table for text in texts for table in re.findall(r"\b(?:from|join)\s+marts\.([a-z_]+)", text)}


@pytest.mark.parametrize(
    ("name", "reads"), [("published_marts", set(gate.PUBLISHED_TABLES)), ("indicator_page", read_by_the_page())]
)
def test_an_exposure_names_exactly_what_is_read(
    documented: tuple[dict[str, Any], dict[str, Any]], name: str, reads: set[str]
) -> None:
    manifest, _ = documented
    exposure = manifest["exposures"][f"exposure.cmhs.{name}"]
    assert exposure["owner"]["name"]
    assert exposure["maturity"]
    assert len(reads) > 10
    assert sorted(manifest["nodes"][key]["alias"] for key in exposure["depends_on"]["nodes"]) == sorted(reads)


# ---------------------------------------------------------------------------------------- what it does not say


def test_it_names_no_path_and_nothing_of_the_environment(page: Path, hand_worked: Warehouse) -> None:
    text = page.read_text(encoding="utf-8")
    for path in (ROOT, Path.home(), hand_worked.folder):
        assert f"{path}/" not in text
    assert "root_path" not in text
    assert '"env"' not in text
    assert '"user_id"' not in text


# ---------------------------------------------------------------------------------------- in a browser


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("", "How the tables of this release are made"),
        ("#!/model/model.cmhs.contact_care_coordinator", "in charge of their care"),
        ("#!/source/source.cmhs.raw.responses", "question contact_care_coordinator"),
        ("#!/macro/macro.cmhs.wilson", "Wilson interval"),
        ("#!/exposure/exposure.cmhs.published_marts", "Parquet and CSV"),
    ],
)
def test_it_opens_from_disk_and_asks_for_nothing(browser: Browser, page: Path, place: str, words: str) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    tab = browser.new_page()
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))

    tab.goto(f"{page.as_uri()}{place}")
    tab.get_by_text(words).first.wait_for()

    assert [url for url in requests if url.split("#")[0] not in (page.as_uri(), "data:,")] == []
    assert complaints == []
    tab.close()


def test_a_label_with_markup_in_it_runs_nothing(browser: Browser, hand_worked: Warehouse, tmp_path: Path) -> None:
    warehouse = shutil.copy(hand_worked.settings.warehouse, tmp_path / "warehouse.duckdb")
    with connect(warehouse) as connection:
        label = "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>"
        connection.execute("update crosswalk.questions set label = ?", [label])
    page = tmp_path / "index.html"
    with confined_connection(tmp_path, warehouse=warehouse) as connection:
        dbt_docs.write(page, connection, hand_worked.settings.dbt_target_dir / "manifest.json")
    tab = browser.new_page()

    tab.goto(f"{page.as_uri()}#!/model/model.cmhs.stg_responses")
    tab.get_by_text("Raw code given to the question: <img").first.wait_for(state="attached")

    assert tab.title() == "dbt Docs"
    assert tab.locator("script").count() == 1
    tab.close()
