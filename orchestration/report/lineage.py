"""The lineage of a release: a page that leads from every published column to the raw columns, and the same as JSON.

Belongs here: choosing and writing what a release tells of its lineage. Does not: working it out, which is
orchestration.lineage.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.lineage import of_tables
from orchestration.report.html import HERE, environment, render

if TYPE_CHECKING:
    import duckdb

FOLDER = Path("report/lineage")
DATA = FOLDER / "lineage.json"
PAGE = FOLDER / "index.html"
# Columns of the staging layer that there are for every question, with what they hold.
OF_A_QUESTION = {
    "answer_{}": "The code in the file: {}.",
    "past_{}": "Whether an earlier answer sends the person past the question: {}.",
}
# Expressions shown of how a column is made in one model; its SQL has them all.
STEPS = 20


def statuses_of(warehouse: "duckdb.DuckDBPyConnection") -> dict[str, str]:
    """What each status of an answer means."""
    return dict(
        warehouse.execute("select status, description from crosswalk.exclusion_reasons order by position").fetchall()
    )


def write_lineage(
    release: "duckdb.DuckDBPyConnection",
    folder: Path,
    relations: Mapping[str, Any],
    statuses: Mapping[str, str],
    tables: Iterable[str],
    info: Mapping[str, Any],
) -> None:
    """Write the lineage of some marts into a release that is being built, as page and as JSON.

    The JSON has `relations` (see lineage_of_build), marts among them with the `questions` that they have rows of, and
    `statuses`, which say why an answer does not count. `info` is the row of release_info.
    """
    published = [f"marts.{table}" for table in tables]
    shown = of_tables(relations, published)
    labels = dict(release.execute("select distinct question_id, question_label from marts.question_wording").fetchall())
    described = {
        column.format(question): words.format(label)
        for question, label in labels.items()
        for column, words in OF_A_QUESTION.items()
    }
    for relation in shown.values():
        for name, made in relation["columns"].items():
            made["description"] = made["description"] or described.get(name, "")
            more = len(made.get("how", [])) - STEPS
            if more > 0:
                made["how"] = [*made["how"][:STEPS], ["", f"and {more} more expressions", ""]]
    for table in published:
        if "question_id" in shown[table]["columns"]:
            asked = release.execute(
                f"select distinct question_id from {table} where question_id is not null order by question_id"
            ).fetchall()
            shown[table]["questions"] = {question: labels.get(question, question) for (question,) in asked}
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / DATA).write_text(
        json.dumps({"relations": shown, "statuses": statuses}, separators=(",", ":")), encoding="utf-8"
    )
    template = environment().get_template("lineage.html.jinja")
    script = (HERE / "lineage.js").read_text(encoding="utf-8")
    page = render(template, info, script, relations=shown, marts=sorted(published))
    (folder / PAGE).write_text(page, encoding="utf-8")
