"""The `cmhs` command.

Belongs here: arguments, printing, exit codes. Does not: doing anything.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestration.errors import Refusal
from orchestration.process import run
from orchestration.settings import ROOT, Settings
from orchestration.terminal import progress, refusal_in_words

if TYPE_CHECKING:
    from orchestration.refresh import Refreshed


# Where a command keeps that it was asked for JSON.
JSON_WANTED = "cmhs.json"
# What the shell says, too, of a program that Ctrl-C ended.
INTERRUPTED = 130


class Commands(click.Group):
    """Turns a refusal into words and exit code 1, and Ctrl-C into words and 130: nobody is shown a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (Refusal, OSError) as refusal:
            if isinstance(refusal, BrokenPipeError) and ctx.invoked_subcommand != "refresh":
                raise  # Nobody reads any further, as in `| head`: click ends without a word.
            if ctx.meta.get(JSON_WANTED):
                click.echo(json.dumps(_refused(refusal), indent=2))
            else:
                click.echo("\n" + refusal_in_words(refusal, _what_stays(ctx)), err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("\n" + "\n".join(["Interrupted.", *_what_stays(ctx)]), err=True)
            sys.exit(INTERRUPTED)


def _refused(refusal: Refusal | OSError) -> dict[str, Any]:
    if not isinstance(refusal, Refusal):
        return {"refused": str(refusal), "problems": []}
    return {"refused": refusal.headline, "problems": refusal.reasons}


def _what_stays(ctx: click.Context) -> list[str]:
    """After a refresh that did not end well: what readers see, and how to go on."""
    from orchestration import release

    if ctx.invoked_subcommand != "refresh":
        return []
    try:
        folder = release.current(Settings.from_environment())
    except OSError as trouble:
        stays = f"Which release stays cannot be seen: {trouble.strerror}: {trouble.filename}."
    else:
        stays = f"The last release stays: {folder.name}." if folder else "No release is published yet."
    return [stays, "To go on: make refresh"]


def _keep(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.meta[JSON_WANTED] = value
    return value


AS_JSON = click.option(
    "--json", "as_json", is_flag=True, callback=_keep, help="Print one JSON document, also where it is refused."
)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Data warehouse of the Community Mental Health Survey.

    Where things lie is set by CMHS_RAW_DIR, CMHS_SEEDS_DIR, CMHS_WAREHOUSE, CMHS_PUBLISHED_DIR, CMHS_TARGET and
    DAGSTER_HOME; by default everything is inside the checkout.
    """


@main.command()
@click.option(
    "--force", is_flag=True, help="Run where nothing changed, too, and publish again what a rollback withdrew."
)
@click.option("--quiet", "-q", is_flag=True, help="No progress: print the result alone.")
@AS_JSON
def refresh(force: bool, quiet: bool, as_json: bool) -> None:
    """Raw files in, a verified release out: the whole job.

    Does nothing where nothing changed since the last run that published. Where something keeps it from publishing
    it says what, and what to do about it; the last release then stays.

    \b
    Exit code 0    the release is up to date
              1    refused: the reasons are on standard error
              2    the command was typed wrongly
              130  interrupted (Ctrl-C)
    """
    from orchestration.refresh import refresh as bring_up_to_date

    settings = Settings.from_environment()
    started = time.monotonic()
    with progress(quiet=quiet or as_json) as say:
        done = bring_up_to_date(settings, say, force=force)
    if as_json:
        click.echo(json.dumps(_as_document(done, time.monotonic() - started), indent=2))
        return
    if done.changed:
        click.echo(f"\nPublished release {done.folder.name}")
    else:
        click.echo("\nnothing changed: the published release is made of exactly these inputs")
    click.echo(f"{_shown(settings.current_release)} -> {_shown(done.folder)}\n")
    click.echo(headline(done.folder))


def _as_document(done: "Refreshed", seconds: float) -> dict[str, Any]:
    from orchestration import release

    notes = release.notes_of(done.folder)
    read, reused = notes["waves_read"], notes["waves_reused"]
    if not done.changed:
        read, reused = [], sorted([*read, *reused])
    return {
        "release_id": done.folder.name,
        "folder": str(done.folder),
        "changed": done.changed,
        "provenance": notes["provenance"],
        "waves": notes["waves"],
        "waves_read": read,
        "waves_reused": reused,
        "counts": {
            "files": len(notes["inputs"]),
            "checks_passed": notes["checks_passed"],
            "rows": {table: described["rows"] for table, described in notes["tables"].items()},
        },
        "headline": headline_figures(done.folder),
        "seconds": {"total": round(seconds, 1), "steps": dict(done.seconds)},
    }


@main.command()
@click.option("--read-only", is_flag=True, help="For auditors: nothing can be started or changed.")
@click.option("--port", default=3000, show_default=True, help="Port on 127.0.0.1.")
def ui(read_only: bool, port: int) -> None:
    """Dagster's UI on this machine: lineage, checks, runs, schedule and sensors."""
    from orchestration.records import in_postgresql, open_records

    settings = Settings.from_environment()
    settings.export()
    settings.prepare()
    if not read_only or in_postgresql(settings.dagster_home):
        # That they cannot be used is said in words, before a process of Dagster's says it in a traceback.
        with open_records(settings.dagster_home):
            pass
    where = ["-w", str(ROOT / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(port)]
    command = ["dagster-webserver", "--read-only", *where] if read_only else ["dagster", "dev", *where]
    os.chdir(ROOT)
    click.echo(f"http://127.0.0.1:{port}  (stop with Ctrl-C)")
    # Dagster does at SIGTERM what it finds for SIGINT, which a shell has ignored in what it starts in the background.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(command[0], command)


@main.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(yes: bool) -> None:
    """Remove everything that was derived from a deposit.

    That is the warehouse with dbt's artifacts, Dagster's records, also those in PostgreSQL, and every release made of
    deposited data. Raw files stay, and back-ups: they are yours.
    """
    from orchestration.purge import derived_from_deposit, remove, runs_in_database

    settings = Settings.from_environment()
    settings.export()
    doomed = derived_from_deposit(settings)
    runs = runs_in_database(settings)
    for path in doomed:
        click.echo(_shown(path))
    if runs is not None:
        click.echo(f"Dagster's records in PostgreSQL: {runs} runs with their checks")
    if not doomed and not runs:
        click.echo("nothing to remove")
    elif yes or click.confirm("Remove all of these?"):
        remove(settings, doomed, in_database=runs is not None)
        click.echo(f"removed {len(doomed) + (runs is not None)}")


@main.command()
def guard() -> None:
    """Refuse a checkout that holds raw files which are not registered as synthetic."""
    from orchestration.registry import microdata_in_checkout

    if found := microdata_in_checkout(ROOT):
        raise Refusal("Only files registered as synthetic may be in the repository.", found)
    click.echo("data/raw holds registered synthetic files only")


@main.command()
@click.argument("number", metavar="MART.COLUMN")
@click.option("--where", "conditions", multiple=True, help="Which row: comparisons with constants; may be repeated.")
@click.option("--release", "release_id", default="current", show_default=True, help="Id of the release.")
@AS_JSON
def explain(number: str, conditions: tuple[str, ...], release_id: str, as_json: bool) -> None:
    """Who and what is behind one published number, from its release alone.

    As in: cmhs explain estimates.pct --where "question_id = 'listened_to' and breakdown = 'all'" --where response=yes
    """
    from orchestration.explain import explain as behind
    from orchestration.explain import in_words

    explained = behind(_folder(release_id), number, conditions)
    click.echo(json.dumps(explained, indent=2, default=str) if as_json else in_words(explained))


@main.group()
def wave() -> None:
    """Bring in a new wave: register its files, draft its crosswalk, see what is left to decide."""


YEAR = click.argument("year", type=click.IntRange(1000, 9999))


@wave.command("register")
@YEAR
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--study-number", default="", help="Number of the study in the archive.")
@click.option("--edition", default="1", show_default=True, help="Edition of the deposit.")
@click.option("--licence", help="Licence; by default that of the registered files.")
@click.option(
    "--provenance",
    type=click.Choice(["synthetic", "deposit"]),
    help="Made up or of real people; by default deposit where the registered files are, else it has to be said.",
)
@click.option(
    "--role",
    type=click.Choice(["responses", "sampled", "codebook"]),
    help="What one file is, where it is not seen by its header, its name or its size.",
)
@AS_JSON
def register_files(
    year: int,
    files: tuple[Path, ...],
    study_number: str,
    edition: str,
    licence: str | None,
    provenance: str | None,
    role: str | None,
    as_json: bool,
) -> None:
    """Add the files of a wave to registry.csv.

    They have to lie below CMHS_RAW_DIR. Role, format and encoding are told from the files, which are read once as a
    refresh reads them; the registry is written only where all is well.
    """
    from dataclasses import asdict

    from orchestration.wave.register import register

    if role and len(files) > 1:
        raise click.UsageError("--role is about one file.")
    settings = Settings.from_environment()
    added = register(
        settings,
        year,
        files,
        role=role,
        study_number=study_number,
        edition=edition,
        licence=licence,
        provenance=provenance,
    )
    if as_json:
        click.echo(json.dumps([asdict(file) for file in added], indent=2))
        return
    click.echo(f"added to {_shown(settings.registry)}:\n")
    for file in added:
        click.echo(f"  {file.path}  {file.role}, {file.format}, {file.encoding}, {file.bytes:,} bytes")
        click.echo(f"      SHA-256 {file.sha256}")
        click.echo(f"      {file.provenance}, licence {file.licence or 'not named'}")
    click.echo(f"\nNext: cmhs wave init {year}")


@wave.command("init")
@YEAR
@AS_JSON
def init_wave(year: int, as_json: bool) -> None:
    """Draft the crosswalk of a wave from the one before, by the labels and answers of its files.

    Rows are added to the seeds in CMHS_SEEDS_DIR; none that is there is changed. Each has a line in drafts.csv, with
    what it rests on; nothing is published until somebody reviewed all of them. Refused where the wave has rows already.
    """
    from orchestration.wave.draft import init

    settings = Settings.from_environment()
    drafted = init(settings, year)
    counts = drafted.counts()
    if as_json:
        undecided = drafted.undecided
        document = {"wave": drafted.wave, "before": drafted.before, "rows": counts, "undecided_columns": undecided}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"drafted wave {year} from {drafted.before} into {_shown(settings.seeds_dir)}:\n")
    click.echo(f"  {'rows':<22}{'likely':>8}{'uncertain':>11}")
    for seed, by_certainty in counts.items():
        click.echo(f"  {seed + '.csv':<22}{by_certainty['likely']:>8}{by_certainty['uncertain']:>11}")
    for role, columns in drafted.undecided.items():
        click.echo(f"\n{len(columns)} columns of the {role} file are like none of before: {', '.join(columns)}")
    click.echo(
        "\nNext: compare each row that drafts.csv lists with the questionnaire, correct it in its seed, and fill in "
        f"reviewer and reviewed_on. `cmhs wave check {year}` lists what is left."
    )


@wave.command("check")
@YEAR
@AS_JSON
def check_wave(year: int, as_json: bool) -> None:
    """What is left to do about a wave: its files, the crosswalk and the wave before side by side.

    Reads the registered files and the crosswalk, writes nothing, and takes seconds. First comes what would block a
    release: what the checks of the refresh find, and the bounds of waves.csv as far as they are known before the
    weights are. Then what a person should look at, such as labels, options and shares that are not those of the wave
    before; then what is good to know. Checks of estimates and of figures in print wait for the refresh.

    \b
    Exit code 0    nothing of it blocks a release
              1    something does, or a file is missing, altered or not registered
              2    the command was typed wrongly
    """
    from orchestration.wave import check

    checked = check.check(Settings.from_environment(), year)
    click.echo(json.dumps(check.as_document(checked), indent=2) if as_json else check.in_words(checked))
    sys.exit(1 if checked.blocks else 0)


@main.group()
def releases() -> None:
    """Look at published releases, compare them, go back to an earlier one."""


@releases.command("list")
@AS_JSON
def list_releases(as_json: bool) -> None:
    """All releases in the order they were published; * is the current one."""
    from orchestration import release

    settings = Settings.from_environment()
    now = release.current(settings)
    rows = []
    for folder in release.releases(settings):
        try:
            notes = release.notes_of(folder)
        except Refusal:
            notes = {}
        described = {key: notes.get(key, "damaged") for key in ("published_at", "waves", "provenance")}
        rows.append(
            {
                "release_id": folder.name,
                **described,
                "current": folder == now,
                "pinned": release.is_pinned(folder),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    for row in [] if as_json else rows:
        mark = "*" if row["current"] else " "
        pinned = "  pinned" if row["pinned"] else ""
        click.echo(f"{mark} {row['release_id']}  {row['published_at']}  {row['waves']}  {row['provenance']}{pinned}")


@releases.command("show")
@click.argument("release_id", default="current")
@AS_JSON
def show_release(release_id: str, as_json: bool) -> None:
    """How a release was made, what it restates, and its headline figures."""
    from orchestration import release

    folder = _folder(release_id)
    notes = release.notes_of(folder)
    if as_json:
        click.echo(json.dumps(notes, indent=2))
        return
    for key in (
        "release_id",
        "published_at",
        "waves",
        "provenance_in_words",
        "git_commit",
        "dbt_invocation_id",
        "dagster_run_id",
    ):
        click.echo(f"{key.replace('_', ' '):>20}  {notes[key]}")
    click.echo(f"{'checks passed':>20}  " + ", ".join(f"{n} {kind}" for kind, n in notes["checks_passed"].items()))
    click.echo(f"{'rows':>20}  " + ", ".join(f"{t} {d['rows']:,}" for t, d in notes["tables"].items()))
    if restates := notes.get("restates"):
        click.echo(f"{'restated values':>20}  {restates['values']:,} (against {restates['release_id']})")
    click.echo("\n" + headline(folder))


@releases.command("verify")
@click.argument("release_id", default="current")
@AS_JSON
def verify_release(release_id: str, as_json: bool) -> None:
    """Recompute checksums and content hashes from the release's files alone. Exits with 1 where it is damaged."""
    from orchestration import release

    folder = _folder(release_id)
    problems = release.verify(folder)
    if as_json:
        click.echo(json.dumps({"release_id": folder.name, "problems": problems}, indent=2))
        sys.exit(1 if problems else 0)
    if problems:
        raise Refusal(f"Release {folder.name} is damaged.", problems)
    notes = release.notes_of(folder)
    click.echo(f"{folder.name}: {len(notes['files'])} files and {len(notes['tables'])} tables are as published")


@releases.command("diff")
@click.argument("earlier")
@click.argument("later", default="current")
@AS_JSON
def diff_releases(earlier: str, later: str, as_json: bool) -> None:
    """Which rows of which tables appeared, vanished or changed from one release to another, and by how much."""
    from orchestration.comparison import difference, in_words

    found = difference(_folder(earlier), _folder(later))
    click.echo(json.dumps(found, indent=2, default=str) if as_json else in_words(found))


@releases.command("rollback")
@click.argument("release_id")
@click.option("--reason", default="", help="Why; it is kept in the journal.")
def rollback(release_id: str, reason: str) -> None:
    """Show readers an earlier release again, in one step. The journal and Dagster keep a record of it."""
    from orchestration.publish import observe, roll_back
    from orchestration.records import open_records

    settings = Settings.from_environment()
    settings.export()
    settings.prepare()
    folder = _folder(release_id)
    roll_back(settings, folder, reason)
    try:
        with open_records(settings.dagster_home) as instance:
            observe(instance, folder, "Rolled back to", reason=reason or "none")
    except Exception as error:
        click.echo(f"not noted in Dagster ({type(error).__name__}); the journal has it", err=True)
    click.echo(f"{_shown(settings.current_release)} -> {_shown(folder)}")


@releases.command("pin")
@click.argument("release_id", default="current")
def pin(release_id: str) -> None:
    """Never remove this release, however many newer ones there are."""
    _set_pinned(release_id, True)


@releases.command("unpin")
@click.argument("release_id", default="current")
def unpin(release_id: str) -> None:
    """Let this release be removed when newer ones have taken its place."""
    _set_pinned(release_id, False)


def _set_pinned(release_id: str, pinned: bool) -> None:
    from orchestration import release
    from orchestration.lock import writer_lock

    settings = Settings.from_environment()
    with writer_lock(settings.published_dir, "pinning" if pinned else "unpinning", of="the published folder"):
        folder = _folder(release_id)
        release.set_pinned(settings, folder, pinned)
    click.echo(f"{folder.name} is {'pinned' if pinned else 'no longer pinned'}")


@releases.command("history")
@AS_JSON
def history(as_json: bool) -> None:
    """What happened to the releases, the oldest event first: published, rolled back, pinned, unpinned, removed."""
    from orchestration import release

    events = release.journal(Settings.from_environment().published_dir)
    if as_json:
        click.echo(json.dumps(events, indent=2))
    for event in [] if as_json else events:
        reason = f"  ({event['reason']})" if event.get("reason") else ""
        click.echo(f"{event['at']}  {event['event']:<12} {event['release_id']}  by {event['by']}{reason}")


def _folder(release_id: str) -> Path:
    from orchestration import release

    settings = Settings.from_environment()
    if release_id == "current":
        folder = release.current(settings)
        if folder is None:
            raise Refusal("Nothing is published yet.", ["Run `cmhs refresh`."])
        return folder
    known = {folder.name: folder for folder in release.releases(settings)}
    if release_id not in known:
        raise Refusal(f"There is no release {release_id}.", [f"There are: {', '.join(known) or 'none'}."])
    return known[release_id]


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def headline_figures(folder: Path) -> list[dict[str, Any]]:
    """The three published indicators of a release: one entry a wave and line, `pct` in percent or None where hidden."""
    from orchestration import release

    series = [
        ("overall_experience", "Overall experience, score {}", "score"),
        ("support_not_received", "Wanted support, not received: {}", "area"),
        ("contact_care_coordinator", "Does not know how to contact the person in charge", "''"),
    ]
    with release.open_release(folder) as connection:
        return [
            {"indicator": label.format(str(name).replace("_", " ")), "survey_year": year, "pct": pct}
            for table, label, key in series
            for name, year, pct in connection.execute(
                f"select {key}, survey_year, pct from marts.{table} order by all"
            ).fetchall()
        ]


def headline(folder: Path) -> str:
    """The three published indicators of a release as a text table, percent, one column a wave."""
    from orchestration import release

    figures: dict[str, dict[int, float | None]] = {}
    for figure in headline_figures(folder):
        figures.setdefault(figure["indicator"], {})[figure["survey_year"]] = figure["pct"]
    with release.open_release(folder) as connection:
        provenance, waves = connection.execute("select provenance, waves from marts.release_info").fetchall()[0]
        agreed, compared = connection.execute(
            "select count(*) filter (where agrees), count(*) from marts.reconciliation where vintage_status = 'final'"
        ).fetchall()[0]
    years = sorted({year for values in figures.values() for year in values})
    width = max((len(label) for label in figures), default=0)
    lines = [f"{'percent':<{width}}" + "".join(f"{year:>8}" for year in years)] if figures else []
    for label, values in figures.items():
        cells = (f"{pct:8.1f}" if (pct := values.get(year)) is not None else f"{'-':>8}" for year in years)
        lines.append(f"{label:<{width}}" + "".join(cells))
    lines.append(f"\nwaves {waves}; {agreed} of {compared} final published figures reproduced")
    lines.append(release.PROVENANCE_IN_WORDS[provenance])
    return "\n".join(lines)


def program() -> None:
    """The command as a program of its own."""
    run(main)


if __name__ == "__main__":
    program()
