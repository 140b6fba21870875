"""Forgetting a deposit: what was made of it, and its removal.

Belongs here: which files hold something derived from deposited data. Does not: the raw files themselves.
"""

import shutil
from pathlib import Path

from orchestration import release
from orchestration.errors import Refusal
from orchestration.lock import writer_lock
from orchestration.settings import DAGSTER_YAML_HEADER, Settings


def derived_from_deposit(settings: Settings) -> list[Path]:
    """Everything that may hold a trace of deposited data.

    The warehouse with what belongs to it and Dagster's records always count, since a damaged warehouse could
    not tell what it was made of; a DAGSTER_HOME that somebody else set up is not ours to remove. A release counts
    unless it says that its data are synthetic.
    """
    beside = [settings.warehouse, *settings.warehouse.parent.glob(f"{settings.warehouse.name}.*")]
    configuration = settings.dagster_home / "dagster.yaml"
    if configuration.exists() and DAGSTER_YAML_HEADER in configuration.read_text(encoding="utf-8"):
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


def remove(settings: Settings, paths: list[Path]) -> None:
    """Remove these files and folders, and the link to a release that is among them."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with (
        writer_lock(settings.state_dir, "purge"),
        writer_lock(settings.published_dir, "purge", of="the published folder"),
    ):
        if release.current(settings) in paths:
            settings.current_release.unlink()
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                path.with_name(f"{path.name}.pinned").unlink(missing_ok=True)
            else:
                path.unlink()
        shutil.rmtree(settings.state_dir, ignore_errors=True)
