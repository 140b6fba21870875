"""The indicator page of a release: what a reader opens first, made from the release's own marts.

`report/index.html` works from disk and needs nothing from elsewhere; beside it lies the data of its tables. Belongs
here: writing the page. Does not: its parts (findings, context), how it looks (html, charts, templates).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestration.errors import Refusal
from orchestration.release import open_release
from orchestration.report import context, findings
from orchestration.report.html import HERE, environment, render
from orchestration.report.marts import Marts
from orchestration.report.sections import Section
from orchestration.report.tables import Cell, Table, count, figure, words

PAGE = "report"
# Pages of a release that this one leads to, where they were made before it.
NEIGHBOURS = {
    "lineage/index.html": "Where each published column comes from, step by step back to the raw files",
    "dbt/index.html": "Every model with its description, columns and checks",
}


def write(release: Path, restates: Mapping[str, Any]) -> None:
    """Write the page into a release that is being built.

    `restates` is what release.json says of the release before. Raises Refusal where the page cannot be written.
    """
    folder = release / PAGE
    try:
        with open_release(release) as connection:
            marts = Marts(connection)
            found = [
                finding for of in (findings.experience, findings.support, findings.contact) if (finding := of(marts))
            ]
            sections = [section for _, section in found]
            for of_context in (
                context.response,
                context.trusts,
                context.people,
                context.exclusions,
                context.agreement,
                context.guideline,
                context.questions,
            ):
                if section := of_context(marts):
                    sections.append(section)
            about = _about(marts)
            html = render(
                environment().get_template("index.html.jinja"),
                marts.info,
                script=(HERE / "page.js").read_text(encoding="utf-8"),
                marts=marts,
                headlines=[headline for headline, _ in found],
                sections=sections,
                about=about,
                restates=restates,
                neighbours={path: says for path, says in NEIGHBOURS.items() if (folder / path).is_file()},
                published=marts.rows(
                    "select table_name as name, comment as says from duckdb_tables() where schema_name = 'marts' "
                    "order by 1"
                ),
            )
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for table in [*about, *_tables(sections)]:
            if table.data:
                table.write(folder / "data")
        (folder / "index.html").write_text(html, encoding="utf-8")
    except Refusal:
        raise
    except Exception as error:
        raise Refusal(
            f"The indicator page could not be written ({type(error).__name__}: {error}).",
            ["Nothing was published. This is a fault of the page, not of the data: report it with the message above."],
        ) from error


def _tables(sections: list[Section]) -> list[Table]:
    return [table for section in sections for part in section.parts for table in part.tables]


def _about(marts: Marts) -> list[Table]:
    """The waves, the raw files with their checksums, and what was corrected in them."""
    sources = marts.rows("from marts.source_files order by path")
    corrections = marts.rows("from marts.corrections order by survey_year, correction")
    tables = [
        Table(
            "waves",
            "The waves of this release",
            ["Wave", "Name", "Comparable block", "Minimum age", "Trusts", "Drawn", "Responded", "Questions"],
            [
                [
                    words(wave["survey_year"]),
                    words(wave["wave_label"]),
                    words(wave["comparable_block"]),
                    words(wave["minimum_age"]),
                    count(wave["trusts"]),
                    figure(wave["sampled"], 0, "not known"),
                    count(wave["responded"]),
                    count(wave["questions"]),
                ]
                for wave in marts.waves
            ],
            marts.waves,
        ),
        Table(
            "source_files",
            "The raw files it was made from",
            ["File", "Wave", "Study", "Edition", "Licence", "Provenance", "Rows", "Bytes", "SHA-256"],
            [
                [
                    words(source["path"]),
                    words(source["survey_year"]),
                    words(source["study_number"]),
                    words(source["edition"]),
                    words(source["licence"]),
                    words(source["provenance"]),
                    count(source["rows"]),
                    count(source["bytes"]),
                    words(source["sha256"]),
                ]
                for source in sources
            ],
            sources,
            folded=f"{len(sources)} raw files with their checksums",
        ),
    ]
    if corrections:
        tables.append(
            Table(
                "corrections",
                "Known errors of the raw files that were corrected",
                ["Correction", "Wave", "File", "Column", "What is done", "Reason", "Source", "Reviewed"],
                [
                    [
                        words(row["correction"]),
                        words(row["survey_year"]),
                        words(row["file_role"]),
                        words(row["raw_column"]),
                        words(row["action"].replace("_", " ")),
                        words(row["reason"]),
                        words(row["source"]),
                        Cell(row["reviewer"], [str(row["reviewed_on"])]),
                    ]
                    for row in corrections
                ],
                corrections,
                folded=f"{len(corrections)} corrected errors of the raw files",
            )
        )
    return tables
