"""dbt's documentation site of a build as one page that opens from disk: what `dbt docs generate --static` makes.

The page is dbt's own, filled with the manifest that the build left and with a catalog made by dbt's own classes, so
that dbt need not be started again. Belongs here: what of both the page may show. Does not: the descriptions
themselves (dbt_project).
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    from dbt_common.contracts.metadata import CatalogTable

# What the page shows of an entry of the manifest. Whatever else dbt writes down, paths of the machine, stays out.
SHOWN = (
    "access", "alias", "arguments", "attached_node", "column_name", "columns", "compiled_code", "config", "constraints",
    "contract", "database", "depends_on", "description", "docs", "expect", "fqn", "given", "group", "identifier",
    "label", "language", "loader", "macro_sql", "maturity", "meta", "model", "name", "original_file_path", "owner",
    "package_name", "raw_code", "refs", "resource_type", "schema", "source_description", "source_name", "tags",
    "test_metadata", "type", "unique_id", "url", "version",
)  # fmt: skip
# Sections of the manifest that the page asks for and the project has not.
NOT_USED = ("disabled", "functions", "groups", "metrics", "saved_queries", "selectors", "semantic_models")
SHOWN_OF_CONFIG = ("enabled", "materialized", "meta", "severity", "tags")
SHOWN_OF_COLUMN = ("name", "description", "constraints", "meta", "tags")
SHOWN_OF_METADATA = (
    "dbt_schema_version",
    "dbt_version",
    "generated_at",
    "invocation_id",
    "project_name",
    "adapter_type",
)
# The page may load and run what dbt wrote into it: nothing from elsewhere, and nothing that a description might hold.
POLICY = (
    "default-src 'none'; script-src 'sha256-{script}' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:"
)
SCRIPT = re.compile('<script defer="defer">(.*?)</script>', re.DOTALL)
# Placeholders that a browser takes for the addresses of files.
PLACEHOLDERS = {
    "${require('./assets/favicons/favicon.ico')}": "data:,",
    'xlink:href="{{': 'ng-attr-xlink:href="{{',
}

# What the crosswalk makes of each raw column, in which waves: role of the file, column in lower case, sentence.
RAW_COLUMNS = """
with uses as (
    select survey_year, 'responses' as file_role, raw_column, 'question ' || question_id || ': ' || label as use
    from warehouse.crosswalk.question_map left join warehouse.crosswalk.questions using (question_id)
    union all
    select survey_year, file_role, raw_column, 'key variable ' || variable from warehouse.crosswalk.key_variables
    union all
    select survey_year, file_role, raw_column, 'not used, ' || reason from warehouse.crosswalk.ignored_columns
), by_use as (
    select file_role, lower(trim(raw_column)) as raw_column, use,
        string_agg(survey_year::varchar, ', ' order by survey_year) as waves
    from uses group by all
)
select file_role, raw_column, string_agg(use || ' (' || waves || ')', '; ' order by waves, use) || '.'
from by_use group by all
"""
# The columns of stg_responses that are written from the crosswalk, one or two a question.
ANSWER_COLUMNS = """
select 'answer_' || question_id, 'Raw code given to the question: ' || label || '.' from warehouse.crosswalk.questions
union all
select 'past_' || question_id, 'Whether a filter sends the person past the question: ' || label || '.'
from warehouse.crosswalk.questions
"""


def write(page_path: Path, connection: "duckdb.DuckDBPyConnection", manifest_path: Path) -> None:
    """Write the page of the build that left this manifest, with its tables attached as `warehouse`, to a file."""
    from dbt.artifacts.schemas.catalog import CatalogArtifact
    from dbt.task.docs import DOCS_INDEX_FILE_PATH

    shown = _shown(json.loads(manifest_path.read_text(encoding="utf-8")))
    tables = _tables(connection, shown["nodes"] | shown["sources"])
    _describe_columns(connection, shown, tables)
    catalog = CatalogArtifact.from_results(
        generated_at=datetime.fromisoformat(shown["metadata"]["generated_at"]),
        nodes={key: table for key, table in tables.items() if key in shown["nodes"]},
        sources={key: table for key, table in tables.items() if key in shown["sources"]},
        compile_results=None,
        errors=None,
    )
    contents = {"MANIFEST": shown, "CATALOG": catalog.to_dict(omit_none=True) | {"metadata": shown["metadata"]}}
    page = Path(DOCS_INDEX_FILE_PATH).read_text(encoding="utf-8")
    for name, content in contents.items():
        inline = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        # Within a script no text may end it.
        page = page.replace(f'"{name}.JSON INLINE DATA"', inline.replace("<", r"\u003c"), 1)
    for placeholder, instead in PLACEHOLDERS.items():
        page = page.replace(placeholder, instead)
    [script] = SCRIPT.findall(page)
    policy = POLICY.format(script=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode())
    head, rest = page.split('<meta charset="utf-8">', 1)
    page = f'{head}<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">{rest}'
    page_path.parent.mkdir(parents=True, exist_ok=True)
    page_path.write_text(page, encoding="utf-8")


def _shown(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of the project alone, without dbt's own macros, each entry with what the page shows of it."""
    project = manifest["metadata"]["project_name"]
    macros = {key: of for key, of in manifest["macros"].items() if of["package_name"] == project}

    def entry(of: Mapping[str, Any]) -> dict[str, Any]:
        entry = {key: of[key] for key in SHOWN if key in of}
        if "config" in entry:
            entry["config"] = {key: of["config"][key] for key in SHOWN_OF_CONFIG if key in of["config"]}
        if "depends_on" in entry:
            entry["depends_on"] = of["depends_on"] | {"macros": [m for m in of["depends_on"]["macros"] if m in macros]}
        entry["columns"] = {
            name: {key: column[key] for key in SHOWN_OF_COLUMN if key in column}
            for name, column in of.get("columns", {}).items()
        }
        return entry

    return {
        "metadata": {key: manifest["metadata"][key] for key in SHOWN_OF_METADATA}
        | {"send_anonymous_usage_stats": False},
        "macros": {key: entry(of) for key, of in macros.items()},
        "docs": {key: of for key, of in manifest["docs"].items() if of["package_name"] == project},
        **{
            # What is done at the start of a build is no table.
            section: {key: of for key, of in manifest[section].items() if not key.startswith("operation.")}
            for section in ("parent_map", "child_map")
        },
        **{
            section: {key: entry(of) for key, of in manifest[section].items() if of["resource_type"] != "operation"}
            for section in ("nodes", "sources", "exposures", "unit_tests")
        },
        **{section: {} for section in NOT_USED},
    }


def _tables(
    connection: "duckdb.DuckDBPyConnection", entries: Mapping[str, Mapping[str, Any]]
) -> "dict[str, CatalogTable]":
    """The tables and views that entries of the manifest stand for, as dbt's catalog has them."""
    from dbt_common.contracts.metadata import CatalogTable, ColumnMetadata, TableMetadata

    columns: dict[tuple[str, str], dict[str, ColumnMetadata]] = {}
    for schema, table, name, index, kind in connection.execute(
        "select schema_name, table_name, column_name, column_index, data_type from duckdb_columns() "
        "where database_name = 'warehouse' order by schema_name, table_name, column_index"
    ).fetchall():
        columns.setdefault((schema, table), {})[name] = ColumnMetadata(type=kind, index=index, name=name)
    found = {}
    for unique_id, of in entries.items():
        key = of["schema"], of.get("alias") or of["identifier"]
        if key in columns and of["resource_type"] != "test":
            metadata = TableMetadata(of["config"].get("materialized", "view"), *key, database=of["database"])
            found[unique_id] = CatalogTable(metadata, columns[key], stats={}, unique_id=unique_id)
    return found


def _describe_columns(
    connection: "duckdb.DuckDBPyConnection", shown: Mapping[str, Any], tables: "Mapping[str, CatalogTable]"
) -> None:
    """Describe columns that no file of the project does: what follows from the crosswalk, and what is passed on."""
    project, parents = shown["metadata"]["project_name"], shown["parent_map"]
    entries = shown["nodes"] | shown["sources"]
    written = {f"model.{project}.stg_responses": dict(connection.execute(ANSWER_COLUMNS).fetchall())}
    for role, column, sentence in connection.execute(RAW_COLUMNS).fetchall():
        written.setdefault(f"source.{project}.raw.{role}", {})[column] = sentence

    def description(unique_id: str, column: str) -> str:
        if unique_id not in tables or column not in tables[unique_id].columns:
            return ""
        of = entries[unique_id]
        own = of["columns"].get(column, {}).get("description") or written.get(unique_id, {}).get(column.lower())
        return own or next((text for parent in parents[unique_id] if (text := description(parent, column))), "")

    for unique_id, table in tables.items():
        for column in table.columns:
            described = entries[unique_id]["columns"].setdefault(column, {"name": column})
            described["description"] = description(unique_id, column)
