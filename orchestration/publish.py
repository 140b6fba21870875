"""Publishing: the marts as a folder that readers can trust, switched in one step.

A release is built aside, verified from its own files, compared with the releases before it, made read-only and
only then becomes `current`; whatever goes wrong before leaves the last release as it was. Belongs here: building
and describing a release, publishing it, going back to an earlier one. Does not: whether it may be published (gate).
"""

import csv
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from orchestration import dbt_docs, gate, report
from orchestration.comparison import (
    Redelivery,
    Restatement,
    allows,
    allows_delivery,
    lost,
    redelivered,
    restated,
    revealed_by,
    reviewed,
    reviewed_deliveries,
    same_people,
    withdrawn,
)
from orchestration.errors import Refusal
from orchestration.ingest import waves_read
from orchestration.lineage import lineage_of_build
from orchestration.lock import WriterLock, tags_of_command, writer_lock
from orchestration.progress import tell
from orchestration.registry import sha256_of
from orchestration.release import (
    BUILDING,
    DATABASE,
    PROVENANCE_IN_WORDS,
    RELEASE_ID,
    STORAGE_VERSION,
    TITLE,
    altered,
    clear_unfinished,
    confined_connection,
    csv_cells,
    current,
    defused,
    demand_no_rollback,
    journal,
    notes_of,
    open_release,
    record,
    releases,
    remove_superseded,
    rows_of,
    switch,
    sync,
    tables_of,
    verify,
)
from orchestration.report.lineage import statuses_of, write_lineage
from orchestration.retry import tried_again
from orchestration.settings import OWNERS, SPARK, Settings
from orchestration.warehouse import connect, literal

if TYPE_CHECKING:
    import duckdb

RELEASE_KEY = dg.AssetKey(["published", "release"])
# The survey is yearly and its deposit may be some weeks late: a release that is older than that misses a wave.
FRESHNESS = dg.FreshnessPolicy.time_window(warn_window=timedelta(days=380), fail_window=timedelta(days=400))
# A run with this tag publishes also what a rollback withdrew.
FORCE_TAG = "force"
DBT_DOCS = "report/dbt/index.html"
RESTATEMENTS = "restatements.csv"
RESTATEMENT_COLUMNS = [*(field.name for field in fields(Restatement)), "difference"]
README = """\
{title}, release {release_id}

{provenance}

report/index.html   the findings as a page; open it in a browser, it needs no network
cmhs_marts.duckdb   all tables, schema marts; open it read-only (DuckDB 1.2 or later)
parquet/, csv/      the same tables as files; in the CSV files a text that begins like a formula has ' before it
restatements.csv    every value in print that this release gives otherwise
report/lineage/     what each column is made of, back to the files as received
datapackage.json    what the tables and columns mean (Frictionless)
release.json        how the release was made: inputs, checks, content hashes
report/dbt/         every model and column, its SQL and its checks: open index.html in a browser (dbt docs)

{history}
"""


def publish(settings: Settings, *, force: bool = False) -> Path:
    """Publish the last build of the warehouse and return the release's folder; needs the warehouse's lock.

    `force` publishes also what a rollback withdrew. Raises Refusal, and leaves everything as it was, where the
    gate lacks evidence, the new files do not verify, or the new release would rewrite history unreviewed.
    """
    with writer_lock(settings.published_dir, "publishing", of="the published folder"):
        return _publish(settings, force)


def _publish(settings: Settings, force: bool) -> Path:
    import duckdb

    clear_unfinished(settings)
    tell("release: looking for the evidence of every check")
    with connect(settings.warehouse, read_only=True) as warehouse:
        evidence = gate.demand_evidence(warehouse, settings)
        build = evidence.build
        published_before = gate.published_as(warehouse) == (build.release_id, build.fingerprint)
        lineage, statuses = lineage_of_build(settings, warehouse), statuses_of(warehouse)
        read, reused = waves_read(warehouse, build.dagster_run_id)
    if settings.current_release.exists() and not settings.current_release.is_symlink():
        raise Refusal(
            f"{settings.current_release} is no link, so it cannot be switched to a new release.",
            ["Move it away; the next refresh makes the link."],
        )
    if not force:
        demand_no_rollback(settings, build.fingerprint)
    folder = settings.published_dir / "releases" / build.release_id
    if folder.exists():
        if published_before and folder != current(settings):
            raise Refusal(
                f"This build was published before, as {folder.name}, and is no longer current.",
                ["Make a new release with `cmhs refresh --force`."],
            )
        # Otherwise it was cut off between its last two steps, and only the switch is left to do.
        if problems := verify(folder):
            raise Refusal(f"Release {folder.name} is there already and damaged.", problems)
        if notes_of(folder)["dbt_invocation_id"] != build.build_id:
            raise Refusal(
                f"Release {folder.name} is there already and was made by another build.",
                ["The clock went back to the same second: refresh again."],
            )
        _finish(settings, folder, build)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(settings.published_dir.stat().st_mode & 0o777)
    aside = folder.parent / f"{BUILDING}{build.release_id}"
    aside.mkdir()
    try:
        with confined_connection(aside, warehouse=settings.warehouse) as connection:
            _copy_tables(connection, aside)
            tell("release: describing it")
            dbt_docs.write(aside / DBT_DOCS, connection, settings.dbt_target_dir / "manifest.json")
        tables, info = tables_of(aside), _release_info(aside) | {"waves_read": read, "waves_reused": reused}
        checked = evidence.content_hashes
        if changed := [name for name, table in tables.items() if table["content_hash"] != checked.get(name)]:
            raise Refusal(
                f"The new release {build.release_id} does not verify.",
                [f"marts.{name} changed after it was checked: refresh again." for name in changed],
            )
        earlier = _last_whole(settings, info["provenance"])
        revisions = _revisions(settings)
        history = _history(revisions, earlier, aside, info["restatement_tolerance"])
        with open_release(aside) as connection:
            write_lineage(connection, aside, lineage, statuses, gate.PUBLISHED_TABLES, info)
        _describe(settings, aside, evidence, tables, info, history, _unused(settings, revisions))
        tell("release: verifying it")
        problems = verify(aside)
        if sorted(notes_of(aside)["tables"]) != sorted(gate.PUBLISHED_TABLES):
            problems.append(f"It holds other tables than {', '.join(gate.PUBLISHED_TABLES)}.")
        if problems:
            raise Refusal(f"The new release {build.release_id} does not verify.", problems)
        tell("release: comparing it with what is in print")
        _demand_continuity(settings, aside, history)
        _seal(aside)
        aside.rename(folder)
    except duckdb.Error as error:
        raise Refusal(f"The release could not be written ({type(error).__name__}).") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _finish(settings, folder, build)
    return folder


def _finish(settings: Settings, folder: Path, build: gate.Build) -> None:
    """Show readers a release that is whole, and write down that it was published."""
    import duckdb

    before = current(settings)
    if folder != before:
        event = {"notes_sha256": sha256_of(folder / "release.json"), "before": before and before.name}
        # A run that was killed between the journal and the switch has told it already.
        if not any(event.items() <= known.items() for known in journal(settings.published_dir)[-1:]):
            record(settings, "published", folder.name, **event, dagster_run_id=build.dagster_run_id)
        switch(settings, folder)
    # A build that cannot be marked, since another program has the warehouse open, is only made again.
    with suppress(Refusal, duckdb.Error), connect(settings.warehouse) as warehouse:
        gate.mark_published(warehouse, build)
    # What cannot be removed now is removed after the next release.
    with suppress(OSError):
        remove_superseded(settings, settings.keep_releases)


def _copy_tables(connection: "duckdb.DuckDBPyConnection", aside: Path) -> None:
    connection.execute(f"attach {literal(aside.resolve() / DATABASE)} as release (storage_version '{STORAGE_VERSION}')")
    # One transaction: each of its own would wait for the disk, for each comment of a column.
    connection.begin()
    connection.execute("create schema release.marts")
    for kind in ("parquet", "csv"):
        (aside / kind).mkdir()
    for done, table in enumerate(gate.PUBLISHED_TABLES):
        tell("release: writing tables", done, len(gate.PUBLISHED_TABLES))
        connection.execute(
            f"create table release.marts.{table} as from (select * from warehouse.marts.{table} order by all)"
        )
        # A table that is written in an order is read in it.
        source = f"(from release.marts.{table})"
        for column, comment in _comments(connection, table):
            target = f"column release.marts.{table}.{column}" if column else f"table release.marts.{table}"
            connection.execute(f"comment on {target} is {literal(comment)}")
        described = connection.execute(f"describe {source}").fetchall()
        columns = [{"name": name, "type": kind} for name, kind, *_ in described]
        for kind, query, options in (
            ("parquet", source, "format parquet"),
            ("csv", f"(select {csv_cells(columns)} from {source})", "format csv, header"),
        ):
            path = literal(aside.resolve() / kind / f"{table}.{kind}")
            connection.execute(f"copy {query} to {path} ({options})")
    connection.commit()
    connection.execute("checkpoint release")
    connection.execute("detach release")


def _comments(connection: "duckdb.DuckDBPyConnection", table: str) -> list[tuple[str, str]]:
    """Comments of a warehouse table ('' as column) and of its columns, with their units."""
    return connection.execute(
        "select '', comment from duckdb_tables() where database_name = 'warehouse' and schema_name = 'marts' "
        "and table_name = $1 and comment is not null union all "
        "select column_name, comment || coalesce(' Unit: ' || nullif(unit, '') || '.', '') from duckdb_columns() "
        "left join warehouse.marts.column_dictionary using (table_name, column_name) "
        "where database_name = 'warehouse' and schema_name = 'marts' and table_name = $1 and comment is not null",
        [table],
    ).fetchall()


# ---------------------------------------------------------------------------------------- what was in print before


def _last_whole(settings: Settings, provenance: str) -> Path | None:
    """The release that the next one is held against: the current one or, where it is damaged or about other people,
    the last one that is neither.

    Whole are its notes and Parquet files, from which releases are compared: a client that opened the database for
    writing spoils that file alone.
    """  # fmt: skip
    now = current(settings)
    for folder in [*([now] if now else []), *reversed(releases(settings))]:
        if not altered(folder, "parquet/") and notes_of(folder)["provenance"] == provenance:
            return folder
    return None


def _revisions(settings: Settings) -> list[dict[str, str]]:
    """The rows of the revisions seed that name a release of ours; from the file, which the evidence covers."""
    with (settings.seeds_dir / "revisions.csv").open(encoding="utf-8-sig", newline="") as file:
        return [row for row in csv.DictReader(file) if RELEASE_ID.fullmatch(row["vintage"])]


def _unused(settings: Settings, revisions: Sequence[Mapping[str, str]]) -> list[str]:
    """Releases that revisions name and that were never published here: such rows allow nothing."""
    known = {event["release_id"] for event in journal(settings.published_dir)}
    return sorted({row["vintage"] for row in revisions} - known - {folder.name for folder in releases(settings)})


@dataclass(frozen=True)
class History:
    """What a release that is being built changes of what is in print: against which release, which waves have other
    files, which values are other ones, and the rows of the revisions seed that are about that release.
    """  # fmt: skip

    earlier: Path | None
    redeliveries: Sequence[Redelivery] = ()
    restatements: Sequence[Restatement] = ()
    revisions: Sequence[Mapping[str, str]] = ()

    @property
    def gone(self) -> set[int]:
        """Waves of the earlier release that are withdrawn."""
        return {redelivery.survey_year for redelivery in self.redeliveries if redelivery.withdrawn}


def _history(revisions: Sequence[Mapping[str, str]], earlier: Path | None, aside: Path, tolerance: float) -> History:
    """What is in print and changes, with the revisions that allow it."""
    if earlier is None:
        return History(None)
    ours = [row for row in revisions if row["vintage"] == earlier.name]
    with open_release(aside) as connection:
        sources = rows_of(connection, "select * from marts.source_files")
    found = History(earlier, reviewed_deliveries(redelivered(earlier, sources), ours), revisions=ours)
    return replace(found, restatements=reviewed(restated(earlier, aside, tolerance), ours, found.gone))


def _files(redelivery: Redelivery) -> list[str]:
    """How a review names the files that it is about; none where there is no new one."""
    return [f"(files {' '.join(redelivery.digits)})"] if redelivery.digits else []


def _by_question(restatements: Sequence[Restatement]) -> list[tuple[tuple[int, str], list[Restatement]]]:
    def key(restatement: Restatement) -> tuple[int, str]:
        return restatement.survey_year, restatement.question_id or ""

    return [(of, list(group)) for of, group in groupby(sorted(restatements, key=key), key)]


def _demand_continuity(settings: Settings, aside: Path, history: History) -> None:
    """Raise Refusal where a new release rewrites history, loses something, or gives away what another one hides."""
    earlier, problems = history.earlier, []
    if earlier is not None:
        problems += [
            f"The files of wave {each.survey_year} are not those of release {earlier.name}: {each.sentence}. If "
            "that is meant, add this line to revisions.csv, with your words for those in capitals:\n"
            f"    ,{each.survey_year},,{earlier.name},{' '.join(['REASON', *_files(each)])},REVIEWER,YYYY-MM-DD"
            for each in history.redeliveries
            if each.reason is None
        ]
    # All values of a wave that is gone stand or fall with it.
    unreviewed = [r for r in history.restatements if r.reason is None and r.survey_year not in history.gone]
    for (year, question), values in _by_question(unreviewed):
        problems.append(
            f"{len(values)} values in print of {question or 'no question'} in wave {year} differ from release "
            f"{earlier and earlier.name}, for example {values[0].sentence}. If the new ones are right, say why in "
            f"revisions.csv: question_id {question or '(blank)'}, survey_year {year}, response (blank for all), "
            f"vintage {earlier and earlier.name}, with reason, reviewer and date."
        )
    if earlier is not None:
        problems += [
            f"revisions.csv allows values of {row['question_id'] or 'no question'}, survey_year {row['survey_year']}, "
            f"response {row['response'] or '(all)'} to differ from release {earlier.name}, but none does: correct or "
            "remove the row."
            for row in history.revisions
            if not any(allows(row, restatement, history.gone) for restatement in history.restatements)
            and not any(allows_delivery(row, redelivery) for redelivery in history.redeliveries)
        ]
        allowed = withdrawn(earlier.name)
        problems += [
            f"{kind} {name} of release {earlier.name} is gone or of another type. If that is meant, add it to "
            "expectations/withdrawn.csv, with that release, reason, reviewer and date."
            for kind, name in lost(earlier, aside)
            if (kind, name) not in allowed
        ]
    elif any(same_people(folder, aside) for folder in releases(settings)):
        problems.append(
            "No earlier release is whole, so that nothing can be compared with what is in print: restore one from a "
            "back-up, or remove the damaged ones."
        )
    given_away = [sentence for folder in releases(settings) for sentence in revealed_by(folder, aside)]
    if given_away:
        problems += [
            "The new release and an earlier one together give away rows that one of them hides.",
            *given_away,
            "Find out why other rows are hidden now. If that is right, withdraw the earlier release (remove its "
            "folder, and the link `current` where it leads there) and refresh again.",
        ]
    if problems:
        raise Refusal("The new release does not go with what is in print.", problems)


# ---------------------------------------------------------------------------------------- describing it


def _describe(
    settings: Settings,
    aside: Path,
    evidence: gate.Evidence,
    tables: dict[str, dict[str, Any]],
    info: Mapping[str, Any],
    history: History,
    unused_revisions: Sequence[str],
) -> None:
    """Write the page, release.json, datapackage.json, the restatements and the readme into a release that is being
    built.
    """  # fmt: skip
    keys = gate.keys_of_tables(settings)
    for table, description in tables.items():
        description["key"] = keys.get(table, [])
    with open_release(aside) as connection:
        sources = rows_of(connection, "select * from marts.source_files order by path")
        suppressed = {
            table: _suppressed(connection, table, description["columns"])
            for table, description in tables.items()
            if any(column["name"] == "suppressed" for column in description["columns"])
        }
    release_id, provenance, commit = info["release_id"], info["provenance"], info["git_commit"]
    published_at, tolerance = info["published_at"], info["restatement_tolerance"]
    with (aside / RESTATEMENTS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, RESTATEMENT_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for restatement in history.restatements:
            writer.writerow({name: defused(getattr(restatement, name)) for name in RESTATEMENT_COLUMNS})
    summary = [
        {
            "survey_year": year,
            "question_id": question or None,
            "values": len(values),
            "largest_difference": max((abs(v.difference) for v in values if v.difference is not None), default=None),
            "reasons": sorted({f"{v.reason} ({v.reviewer}, {v.reviewed_on})" for v in values}),
        }
        for (year, question), values in _by_question(history.restatements)
    ]
    restates = {
        "release_id": history.earlier and history.earlier.name,
        "tolerance": tolerance,
        "values": len(history.restatements),
        "by_question": summary,
    }
    report.write(aside, restates)
    (aside / "README.txt").write_text(
        README.format(
            title=TITLE,
            release_id=release_id,
            provenance=PROVENANCE_IN_WORDS[provenance],
            history=_history_in_words(history, tolerance, summary),
        ),
        encoding="utf-8",
    )
    (aside / "datapackage.json").write_text(
        json.dumps(_datapackage(aside, release_id, provenance, published_at, tables), indent=2),
        encoding="utf-8",
    )
    notes = {
        "release_id": release_id,
        "title": TITLE,
        "provenance": provenance,
        "provenance_in_words": PROVENANCE_IN_WORDS[provenance],
        "waves": info["waves"],
        "waves_read": info["waves_read"],
        "waves_reused": info["waves_reused"],
        "published_at": published_at.replace(tzinfo=UTC).isoformat(),
        "git_commit": commit,
        "git_clean": None if commit == "unknown" else not commit.endswith("-dirty"),
        "fingerprint": evidence.build.fingerprint,
        "dbt_invocation_id": evidence.build.build_id,
        "dagster_run_id": evidence.build.dagster_run_id,
        "checks_passed": {
            kind: sum(check["kind"] == kind for check in evidence.checks) for kind in ("dbt", "expectation")
        },
        "suppressed_rows": suppressed,
        "restates": restates,
        "redelivered": [asdict(redelivery) for redelivery in history.redeliveries],
        "unused_revisions": unused_revisions,
        "storage_version": STORAGE_VERSION,
        "versions": {"python": platform.python_version()}
        | {
            p: version(p)
            for p in (
                "dagster",
                "dagster-dbt",
                "dbt-core",
                "dbt-duckdb",
                "duckdb",
                "great-expectations",
                "pandas",
                "pyreadstat",
                "sqlglot",
                "vl-convert-python",
                *(("dbt-spark", "pyspark") if settings.target == SPARK else ()),
            )
        },
        "registry_sha256": sha256_of(settings.registry),
        "inputs": sources,
        "tables": tables,
        "evidence": evidence.checks,
        "files": {
            str(path.relative_to(aside)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(aside.rglob("*"))
            if path.is_file()
        },
    }
    (aside / "release.json").write_text(json.dumps(notes, indent=2, default=str), encoding="utf-8")


def _release_info(aside: Path) -> dict[str, Any]:
    """The one row of release_info of a release that is being built."""
    with open_release(aside) as connection:
        return rows_of(connection, "select * from marts.release_info")[0]


def _suppressed(
    connection: "duckdb.DuckDBPyConnection", table: str, columns: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """How many rows of a table are hidden, by reason."""
    reason = "suppression_reason" if any(c["name"] == "suppression_reason" for c in columns) else "'hidden'"
    return dict(
        connection.execute(
            f"select {reason}, count(*) from marts.{table} where suppressed group by 1 order by 1"
        ).fetchall()
    )


def _history_in_words(history: History, tolerance: float, summary: Sequence[Mapping[str, Any]]) -> str:
    """The release notes: what of the release before was delivered again, and what is given otherwise."""
    if history.earlier is None:
        return "No earlier release of these data is kept: nothing was compared."
    lines = []
    if history.redeliveries:
        lines += [f"Files delivered again, or withdrawn, since release {history.earlier.name}:"]
        lines += [
            f"- wave {each.survey_year}: {each.sentence}; {each.reason} ({each.reviewer}, {each.reviewed_on})"
            for each in history.redeliveries
        ]
    if not summary:
        return "\n".join([*lines, f"No value of release {history.earlier.name} moved by more than {tolerance:g}."])
    lines += [f"Restated since release {history.earlier.name} (each value in restatements.csv):"]
    lines += [
        f"- wave {row['survey_year']}, {row['question_id'] or 'no question'}: {row['values']} values; "
        + "; ".join(row["reasons"])
        for row in summary
    ]
    return "\n".join(lines)


FRICTIONLESS_TYPES = {
    "BOOLEAN": "boolean",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "DOUBLE": "number",
    "VARCHAR": "string",
    "DATE": "date",
    "TIMESTAMP": "datetime",
}


def _datapackage(
    aside: Path, release_id: str, provenance: str, published_at: datetime, tables: Mapping[str, Any]
) -> dict[str, Any]:
    """The release as a Frictionless data package over its CSV files."""
    return {
        "name": "community-mental-health-survey",
        "id": release_id,
        "title": TITLE,
        "description": PROVENANCE_IN_WORDS[provenance],
        "created": published_at.replace(tzinfo=UTC).isoformat(),
        "profile": "tabular-data-package",
        "resources": [
            {
                "name": table,
                "path": f"csv/{table}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "encoding": "utf-8",
                "bytes": (aside / "csv" / f"{table}.csv").stat().st_size,
                "hash": f"sha256:{sha256_of(aside / 'csv' / f'{table}.csv')}",
                "rows": description["rows"],
                "schema": {
                    "fields": [
                        {
                            "name": column["name"],
                            "type": FRICTIONLESS_TYPES[column["type"]],
                            "description": column["description"],
                        }
                        | ({"format": "any"} if column["type"] == "TIMESTAMP" else {})
                        for column in description["columns"]
                    ],
                    "missingValues": [""],
                    **({"primaryKey": description["key"]} if description["key"] else {}),
                },
            }
            for table, description in tables.items()
        ],
    }


def _seal(aside: Path) -> None:
    """Make a release's files readable for all and writable for nobody, and put them on the disk."""
    for path in [*sorted(aside.rglob("*"), reverse=True), aside]:
        path.chmod(0o444 if path.is_file() else 0o755)
        sync(path)


# ---------------------------------------------------------------------------------------- going back


def roll_back(settings: Settings, folder: Path, reason: str) -> None:
    """Show readers an earlier release again, and write down in the journal who did so.

    Raises Refusal where that release is damaged or is the current one already.
    """
    with writer_lock(settings.published_dir, "rolling back", of="the published folder"):
        now = current(settings)
        if folder == now:
            raise Refusal(f"Release {folder.name} is the current one already.")
        if problems := verify(folder):
            raise Refusal(f"Release {folder.name} is damaged; the current one stays.", problems)
        fingerprint = None
        if now is not None:
            with suppress(Refusal):
                fingerprint = notes_of(now).get("fingerprint")
        record(
            settings,
            "rolled back",
            folder.name,
            before=now and now.name,
            fingerprint=fingerprint,
            to_fingerprint=notes_of(folder).get("fingerprint"),
            reason=reason,
        )
        switch(settings, folder)


def observe(instance: dg.DagsterInstance, folder: Path, found: str, **metadata: str) -> None:
    """Have Dagster show what was found of a release, or done with it, as an observation of the release."""
    instance.report_runless_asset_event(
        dg.AssetObservation(
            RELEASE_KEY, description=f"{found} {folder.name}.", metadata={"release": folder.name, **metadata}
        )
    )


def release_asset(settings: Settings) -> dg.AssetsDefinition:
    """The published release as the last asset of the lineage."""

    @dg.asset(
        key=RELEASE_KEY,
        deps=[dg.AssetKey(["marts", table]) for table in gate.PUBLISHED_TABLES],
        group_name="published",
        kinds={"duckdb", "parquet", "csv"},
        owners=OWNERS,
        freshness_policy=FRESHNESS,
        description=(
            "What readers see: the marts as a read-only folder behind the link data/published/current. Published "
            "only where every declared check has a recorded pass of this very build; otherwise the last release "
            "stays."
        ),
    )
    def release(context: dg.AssetExecutionContext, writer_lock: WriterLock) -> dg.MaterializeResult:
        with tried_again(context):
            folder = publish(settings, force=tags_of_command(context.run).get(FORCE_TAG) == "true")
        notes = notes_of(folder)
        # By these the run of a release is found in Dagster's UI.
        tags = {"release": notes["release_id"], "git_commit": notes["git_commit"], "waves": notes["waves"]}
        context.instance.add_run_tags(context.run_id, tags)
        context.log.info(f"published {folder.name}")
        if unused := notes.get("unused_revisions"):
            context.log.info(f"revisions.csv names releases that were never published here: {', '.join(unused)}")
        return dg.MaterializeResult(
            metadata={
                "release": notes["release_id"],
                "provenance": notes["provenance_in_words"],
                "waves": notes["waves"],
                "waves read in this run": ", ".join(map(str, notes["waves_read"])) or "none",
                "waves reused as landed": ", ".join(map(str, notes["waves_reused"])) or "none",
                "commit": notes["git_commit"],
                "checks passed": notes["checks_passed"],
                "rows": {table: described["rows"] for table, described in notes["tables"].items()},
                "dagster/uri": (folder / DATABASE).as_uri(),
            },
            data_version=dg.DataVersion(notes["fingerprint"]),
        )

    return release
