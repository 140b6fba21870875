"""dbt's manifest of a warehouse's project: every model, seed and check, before anything is built.

Belongs here: having dbt parse the project, and keeping what it made of it. Does not: building (transform), or anything
that needs Dagster, which is imported while dbt parses.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen

from orchestration.errors import Refusal
from orchestration.fingerprint import dbt_project_digest
from orchestration.settings import Settings

# The command that is dbt.
DBT = [sys.executable, "-P", "-m", "orchestration.dbt"]
# How dbt begins to say that it met a fault of the machine, which its last line names.
TRACEBACK = "Traceback (most recent call last):"
# Folders beside the warehouse with what dbt made of the project, by the project's digest.
PARSED = "parsed-"
PARSED_KEPT = 3
PARTIAL = "partial_parse.msgpack"


def prepare_manifest(settings: Settings) -> Path:
    """dbt's manifest of this warehouse's project, made anew where the project changed since; its path.

    Raises Refusal with dbt's own words where the project cannot be parsed.
    """
    with parsing(settings) as (manifest, finish):
        if finish:
            finish()
    return manifest


@contextmanager
def parsing(settings: Settings) -> Iterator[tuple[Path, Callable[[], None] | None]]:
    """Have dbt parse the project, in a process of its own, where it changed since. Yields where the manifest is then,
    and what waits for it; None where there is nothing to wait for.

    Each state of the project has a folder of its own, which appears whole and is not written to again: other runs
    read it while one is building. A dbt that nobody waited for ends with the block. Raises Refusal where a CSV of the
    crosswalk is no text, and, waiting, with dbt's own words where the project cannot be parsed.
    """  # fmt: skip
    folder = settings.state_dir / f"{PARSED}{dbt_project_digest(settings)[:16]}-{settings.target}"
    manifest = folder / "manifest.json"
    if _is_manifest(manifest):
        yield manifest, None
        return
    not_text = [path.name for path in sorted(settings.seeds_dir.glob("*.csv")) if not _is_utf8(path)]
    if not_text:
        raise Refusal(
            "The crosswalk cannot be read.", [f"{name} is not UTF-8 text: save it as UTF-8." for name in not_text]
        )
    older = sorted(settings.state_dir.glob(f"{PARSED}*"), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory(prefix=f".{PARSED}", dir=settings.state_dir) as aside:
        target = Path(aside) / "target"
        target.mkdir()
        if older:
            with suppress(OSError):
                shutil.copy(older[-1] / PARTIAL, target)
        project = ["--project-dir", str(settings.dbt_project_dir), "--target", settings.target]
        # With the options of the build: dbt parses all anew where they are others than they were.
        command = [*DBT, "--quiet", "--no-use-colors", "parse", *project, "--target-path", str(target)]
        with Popen(command, stdout=PIPE, stderr=PIPE, text=True) as dbt:

            def finish() -> None:
                said, said_of_errors = dbt.communicate()
                if dbt.returncode != 0 or not _is_manifest(target / manifest.name):
                    words, _, traceback = (said.strip() or said_of_errors.strip()).partition(TRACEBACK)
                    raise Refusal("The dbt project cannot be parsed.", [words.strip(), *traceback.splitlines()[-1:]])
                # A damaged one is in the way; one that another run made meanwhile is as good as ours.
                if not _is_manifest(manifest):
                    shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):
                    target.rename(folder)
                for path in older[:-PARSED_KEPT]:
                    shutil.rmtree(path, ignore_errors=True)

            try:
                yield manifest, finish
            finally:
                dbt.kill()


def _is_manifest(path: Path) -> bool:
    try:
        return "nodes" in json.loads(path.read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _is_utf8(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True
