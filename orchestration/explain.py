"""One published number, explained from its release alone: who was counted, how weighted, from which raw columns.

Belongs here: finding the row, gathering what the release says of it, putting it in words. Does not: working anything
out again; whoever wants that finds every step in docs/audit.md.
"""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.errors import Refusal
from orchestration.lineage import CHOICE, ROWS, VALUE, in_order, raw_columns, upstream
from orchestration.release import DATABASE, confined_connection, notes_of, rows_of
from orchestration.report.lineage import DATA

if TYPE_CHECKING:
    import duckdb

SHOWN = 8
WIDTH = 112
KINDS = {VALUE: "made of", CHOICE: "decides which rows count"}
# Columns that say how sure a value is; where a table has them they belong to its values.
PRECISION = ("se", "ci_low", "ci_high", "base", "effective_base", "design_effect")
REMARKS = ("no_interval_reason", "interval_caution", "suppression_reason")


def explain(folder: Path, name: str, conditions: Sequence[str]) -> dict[str, Any]:
    """What a release says of one number: a column (MART.COLUMN) of the one row for which all conditions hold.

    Has `value`, `row` (its key), `precision`, `remarks`, `waves` (each with statuses, weights, wording, files, raw
    columns and the corrected errors of these) and `lineage`. Raises Refusal where there is no such column, a condition
    is no comparison of a column with constants, or not exactly one row is left.
    """
    notes = notes_of(folder)
    table, column = _column_of(notes, name)
    try:
        lineage = json.loads((folder / DATA).read_text(encoding="utf-8"))
        relations, meanings = lineage["relations"], lineage["statuses"]
    except (OSError, ValueError, KeyError):
        raise Refusal(f"Release {folder.name} tells no lineage.", [f"It was made before there was {DATA}."]) from None
    with confined_connection(release=folder / DATABASE) as connection:
        connection.execute("use release")
        described = notes["tables"][table]
        row = _only_row(connection, table, described, conditions)
        question = row.get("question_id")
        steps = upstream(relations, f"marts.{table}", column, question)
        raw = raw_columns(relations, steps)
        waves = [row[key] for key in ("survey_year", "from_year", "to_year") if row.get(key) is not None]
        [(unit, description)] = connection.execute(
            "select unit, description from marts.column_dictionary where table_name = ? and column_name = ?",
            [table, column],
        ).fetchall()
        return {
            "release": notes["release_id"],
            "provenance": notes["provenance_in_words"],
            "number": f"{table}.{column}",
            "description": description,
            "unit": unit or None,
            "row": {key: row[key] for key in described["key"]},
            "value": row[column],
            "suppressed": row.get("suppressed", False),
            "precision": {key: row[key] for key in PRECISION if key in row and key != column},
            "remarks": [row[key] for key in REMARKS if row.get(key)],
            "waves": [
                _wave(connection, wave, question, row, meanings, raw)
                # Releases made before source errors were corrected have no such table.
                | {"corrections": _corrections(connection, wave, raw) if "corrections" in notes["tables"] else []}
                for wave in waves
            ],
            "lineage": [
                {
                    "table": at,
                    "kind": relations[at]["kind"],
                    "rule": relations[at]["description"],
                    "file": relations[at].get("file"),
                    "columns": {name: kind for (of, name), kind in steps.items() if of == at},
                }
                for at in in_order(relations, dict.fromkeys(at for at, _ in steps))
                if relations[at]["kind"] != "file"
            ],
        }


def _column_of(notes: Mapping[str, Any], name: str) -> tuple[str, str]:
    table, _, column = name.removeprefix("marts.").partition(".")
    if table not in notes["tables"]:
        raise Refusal(f"There is no table {table}.", [f"There are: {', '.join(sorted(notes['tables']))}."])
    columns = [each["name"] for each in notes["tables"][table]["columns"]]
    if column not in columns:
        raise Refusal(f"{table} has no column '{column}'.", [f"It has: {', '.join(columns)}."])
    return table, column


def _only_row(
    connection: "duckdb.DuckDBPyConnection", table: str, described: Mapping[str, Any], conditions: Sequence[str]
) -> dict[str, Any]:
    """The one row for which all conditions hold, by column."""
    import duckdb

    columns = [column["name"] for column in described["columns"]]
    filters = " and ".join(f"({_filter(table, condition, columns)})" for condition in conditions) or "true"
    try:
        cursor = connection.execute(f"select * from marts.{table} where {filters} order by all")
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise Refusal(f"The condition cannot be used on {table}: {reason}") from None
    rows = [dict(zip(columns, values, strict=True)) for values in cursor.fetchall()]
    key = described["key"] or columns
    if not rows:
        there = connection.execute(f"select {', '.join(key)} from marts.{table}").fetchall()
        values = _differing([dict(zip(key, row, strict=True)) for row in there])
        raise Refusal(f"No row of {table} is so.", [f"The table has {each}." for each in values])
    if len(rows) > 1:
        values = _differing([{name: row[name] for name in key} for row in rows])
        raise Refusal(
            f"{len(rows):,} rows of {table} are so; one is needed.", [f"Narrow it down by {each}." for each in values]
        )
    return rows[0]


def _differing(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns in which some rows differ, each with its values in words."""
    said = []
    for name in rows[0] if rows else ():
        values = sorted({row[name] for row in rows}, key=lambda value: (value is None, value))
        if len(values) > 1:
            more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
            said.append(f"{name}: {', '.join(map(str, values[:SHOWN]))}{more}")
    return said


def _filter(table: str, condition: str, columns: Sequence[str]) -> str:
    """A condition as SQL, made anew from what was understood: comparisons of columns with constants, nothing else."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError

    allowed = (
        exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Neg, exp.Paren, exp.And, exp.Or, exp.Not,
        exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In, exp.Between, exp.Is, exp.Like, exp.ILike,
    )  # fmt: skip
    expected = "Expected comparisons of columns with constants, as in question_id = 'listened_to' and response = 'yes'"
    try:
        tree: exp.Expr = parse_one(condition, dialect="duckdb", into=exp.Condition)
    except SqlglotError:
        raise Refusal(f"'{condition}' is no condition.", [f"{expected}."]) from None
    for node in tree.walk():
        if not isinstance(node, allowed):
            raise Refusal(f"'{condition}' has more than a condition may: {node.sql('duckdb')}.", [f"{expected}."])
    for named in [*tree.find_all(exp.Column)]:
        if named.name in columns and not named.table:
            continue
        # A word that is compared with a column is a text, quotes or not.
        if isinstance(named.parent, exp.EQ | exp.NEQ) and named.arg_key == "expression" and not named.table:
            named.replace(exp.Literal.string(named.name))
        else:
            raise Refusal(f"{table} has no column '{named.sql('duckdb')}'.", [f"It has: {', '.join(columns)}."])
    return tree.sql("duckdb", comments=False)


def _wave(
    connection: "duckdb.DuckDBPyConnection",
    wave: int,
    question: str | None,
    row: Mapping[str, Any],
    meanings: Mapping[str, str],
    raw: Mapping[tuple[str, str], Mapping[int, list[str]]],
) -> dict[str, Any]:
    """What the release says of a wave: its statuses and wording of a question, weights, files and raw columns."""

    def rows(query: str, *parameters: Any) -> list[dict[str, Any]]:
        return rows_of(connection, query, parameters)

    trust = row["geography_code"] if row.get("geography_level") == "trust" else row.get("trust")
    [weights] = rows(
        "select waves.weighting_scheme as scheme, waves.weighting_scheme_label as in_words, "
        "min(weight) as smallest, max(weight) as largest, "
        "sum(weight * cells.responded) / sum(cells.responded) filter (where weight is not null) as mean, "
        "count(weight) as cells, count(*) filter (where suppressed) as hidden_cells "
        "from marts.waves left join marts.weight_cells as cells "
        "on waves.survey_year = cells.survey_year and coalesce(cells.trust = $2, true) "
        "where waves.survey_year = $1 group by all",
        wave,
        trust,
    )
    if trust is None and row.get("breakdown", "all") == "all" and row.get("response") is not None:
        for effect in rows(
            "select design_effect from marts.weighting_effect "
            "where survey_year = ? and question_id = ? and response = ? and is_published_scheme",
            wave,
            question,
            row["response"],
        ):
            weights |= effect
    return {
        "survey_year": wave,
        "statuses": [
            {**status, "meaning": meanings.get(status["status"], "")}
            for status in rows(
                "select status, n from marts.exclusions where survey_year = ? and question_id = ? "
                "order by status_position",
                wave,
                question,
            )
        ],
        "weights": {"trust": trust, **weights},
        "wording": rows(
            "select raw_column, wording, filter, comparability, comparability_note from marts.question_wording "
            "where survey_year = ? and question_id = ?",
            wave,
            question,
        ),
        "files": rows(
            "select path, file_role, sha256, rows, study_number, edition, licence from marts.source_files "
            "where survey_year = ? order by file_role, path",
            wave,
        ),
        "raw_columns": {f"{at}.{name}": by_wave[wave] for (at, name), by_wave in raw.items() if wave in by_wave},
    }


def _corrections(
    connection: "duckdb.DuckDBPyConnection", wave: int, raw: Mapping[tuple[str, str], Mapping[int, list[str]]]
) -> list[dict[str, Any]]:
    """The corrected errors of a wave in some raw columns."""
    read = {(at, header.strip().lower()) for (at, _), by_wave in raw.items() for header in by_wave.get(wave, [])}
    return [
        row
        for row in rows_of(
            connection, "select * from marts.corrections where survey_year = ? order by correction", [wave]
        )
        if (f"staging.stg_{row['file_role']}", row["raw_column"].lower()) in read
    ]


def in_words(explained: Mapping[str, Any]) -> str:
    """An explanation as text for people."""
    unit = f" {explained['unit']}" if explained["unit"] else ""
    lines = [
        f"{explained['number']}, release {explained['release']}",
        explained["description"],
        "  " + ", ".join(f"{key} {value}" for key, value in explained["row"].items()),
        "",
        "hidden: " + "; ".join(explained["remarks"])
        if explained["suppressed"]
        else f"value  {_shown(explained['value'])}{unit}",
    ]
    if not explained["suppressed"]:
        precision = {key: value for key, value in explained["precision"].items() if value is not None}
        if precision:
            lines.append("       " + ", ".join(f"{key} {_shown(value)}" for key, value in precision.items()))
        lines += [f"       {remark}" for remark in explained["remarks"]]
    for wave in explained["waves"]:
        lines += ["", f"WAVE {wave['survey_year']}", *_wave_in_words(wave)]
    lines += ["", "LINEAGE, from the number back to the files"]
    for step in explained["lineage"]:
        lines.append(f"  {step['table']}" + (f"  ({step['file']})" if step["file"] else ""))
        # The grain; the lineage page of the release has the whole rule.
        lines += [f"      {line}" for line in textwrap.wrap(re.split(r"(?<=\.) ", step["rule"])[0], WIDTH)]
        for kind, label in KINDS.items():
            names = [name for name, of_kind in step["columns"].items() if of_kind == kind and name != ROWS]
            if names and step["kind"] != "raw":
                lines += textwrap.wrap(
                    ", ".join(names), WIDTH, initial_indent=f"      {label}: ", subsequent_indent="        "
                )
    return "\n".join([*lines, "", explained["provenance"]])


def _wave_in_words(wave: Mapping[str, Any]) -> list[str]:
    lines = []
    for wording in wave["wording"]:
        asked = f"; after {wording['filter']}" if wording["filter"] else ""
        note = f" ({wording['comparability_note']})" if wording["comparability_note"] else ""
        lines += [
            f'  asked as      "{wording["wording"]}" (column {wording["raw_column"]}{asked})',
            f"                {wording['comparability']}{note}",
        ]
    if wave["statuses"]:
        lines.append(
            "  who counts    all rows of the wave's responses file by status; those answered can be in the base"
        )
        lines += [f"    {s['n']:>9,}  {s['status']:<18} {s['meaning']}".rstrip() for s in wave["statuses"]]
        lines.append(f"    {sum(s['n'] for s in wave['statuses']):>9,}  altogether")
    weights = wave["weights"]
    lines.append(f"  weights       {weights['scheme']}: {weights['in_words']}")
    if weights["cells"]:
        lines.append(
            f"                cells{' of trust ' + weights['trust'] if weights['trust'] else ''}, rounded: from "
            f"{weights['smallest']:.1f} to {weights['largest']:.1f}, mean {weights['mean']:.2f}; "
            f"shown {weights['cells']:,}, hidden {weights['hidden_cells']:,}"
        )
    if weights.get("design_effect") is not None:
        lines.append(f"                design effect {weights['design_effect']:.2f}")
    if wave["raw_columns"]:
        lines.append("  raw columns")
        for read, headers in wave["raw_columns"].items():
            wrapped = textwrap.wrap(", ".join(headers), WIDTH - 62)
            lines += [f"    {read if at == 0 else '':<58} {part}" for at, part in enumerate(wrapped)]
    if wave["corrections"]:
        lines.append("  corrected     known errors of these columns, before anything was counted")
        for of in wave["corrections"]:
            of_what = f"{of['correction']}: {of['raw_column']} ({of['file_role']}), {of['action']}"
            lines += textwrap.wrap(
                f"{of_what}; {of['reason']} ({of['source']})", WIDTH, initial_indent="    ", subsequent_indent="      "
            )
    lines.append("  files")
    for file in wave["files"]:
        lines += [
            f"    {file['path']}  {file['file_role']}, {file['rows']:,} rows",
            f"      study {file['study_number'] or 'unknown'}, edition {file['edition']}, licence {file['licence']}",
            f"      sha256 {file['sha256']}",
        ]
    return lines


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
