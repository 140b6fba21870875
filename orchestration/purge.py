"""Forgetting a deposit: what was made of it, and its removal.

Belongs here: which files hold something derived from deposited data. Does not: the raw files themselves.
"""

import shutil
from pathlib import Path

from orchestration import release
from orchestration.errors import Refusal
from orchestration.lock import writer_lock
from orchestration.records import forget_in_postgresql, in_postgresql, runs_in_postgresql
from orchestration.settings import DAGSTER_YAML_HEADER, Settings


def derived_from_deposit(settings: Settings) -> list[Path]:
    """Everything that may hold a trace of deposited data.

    The warehouse with what belongs to it and Dagster's records always count, since a damaged warehouse could
    not tell what it was made of; a DAGSTER_HOME that somebody else set up is not ours to remove. Where the records
    are in PostgreSQL, dagster.yaml stays: without it the next refresh would keep them elsewhere. A release counts
    unless it says that its data are synthetic.
    """
    beside = [settings.warehouse, *settings.warehouse.parent.glob(f"{settings.warehouse.name}.*")]
    if records_are_ours(settings):
        if in_postgresql(settings.dagster_home):
            beside += [path for path in sorted(settings.dagster_home.iterdir()) if path.name != "dagster.yaml"]
        else:
            beside.append(settings.dagster_home)
    found = [path for path in beside if path.exists()]
    for folder in release.releases(settings):
        try:
            synthetic = release.notes_of(folder)["provenance"] == "synthetic"
        except Refusal:
            synthetic = False
        if not synthetic:
            found.append(folder)
    unfinished = [
        path
        for kind in (release.BUILDING, release.REMOVING)
        for path in (settings.published_dir / "releases").glob(f"{kind}*")
    ]
    return [*found, *sorted(unfinished)]


def records_are_ours(settings: Settings) -> bool:
    """Whether the warehouse set up Dagster's records, or somebody by its deployment/dagster.yaml."""
    configuration = settings.dagster_home / "dagster.yaml"
    return configuration.exists() and DAGSTER_YAML_HEADER in configuration.read_text(encoding="utf-8")


def runs_in_database(settings: Settings) -> int | None:
    """How many runs are in PostgreSQL; None where the records are not there or not ours."""
    return runs_in_postgresql(settings.dagster_home) if records_are_ours(settings) else None


def remove(settings: Settings, paths: list[Path], *, in_database: bool = False) -> None:
    """Remove these files and folders, the link to a release that is among them, and Dagster's records in PostgreSQL.

    Raises Refusal, with everything still there, where another run writes or PostgreSQL does not answer.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with (
        writer_lock(settings.state_dir, "purge"),
        writer_lock(settings.published_dir, "purge", of="the published folder"),
    ):
        if in_database:
            forget_in_postgresql(settings.dagster_home)
        if release.current(settings) in paths:
            settings.current_release.unlink()
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                path.with_name(f"{path.name}.pinned").unlink(missing_ok=True)
            else:
                path.unlink()
        shutil.rmtree(settings.state_dir, ignore_errors=True)
