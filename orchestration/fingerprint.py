"""What a release is made of: one digest of all inputs, and the commit of the code.

Belongs here: which files count as inputs. Does not: what is done when they changed (refresh).
"""

import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from orchestration.registry import RawFile
from orchestration.settings import DBT_PROJECT_PARTS, EXPECTATIONS_DIR, ROOT, Settings


def digest_of(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, in the given order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files_below(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(path for path in folder.resolve().rglob("*") if path.is_file() and path.suffix in suffixes)


def dbt_project_digest(settings: Settings) -> str:
    """Digest of everything dbt parses: project, profile, models, macros, tests and the crosswalk's CSVs."""
    files: list[Path] = []
    for part in DBT_PROJECT_PARTS:
        path = settings.dbt_project_dir / part
        files += [path] if path.is_file() else _files_below(path, ".sql", ".yml", ".md", ".csv")
    return digest_of(files)


def fingerprint_of(settings: Settings, files: list[RawFile]) -> str:
    """Digest of registry, raw files (by their registered checksums), crosswalk, models, suites, code and lock."""
    digest = hashlib.sha256(settings.target.encode())
    digest.update(settings.registry.read_bytes())
    digest.update("".join(file.sha256 for file in files).encode())
    digest.update(dbt_project_digest(settings).encode())
    code = [*_files_below(ROOT / "orchestration", ".py"), ROOT / "requirements.lock", ROOT / "pyproject.toml"]
    digest.update(digest_of([*code, *_files_below(EXPECTATIONS_DIR, ".py", ".json", ".sql")]).encode())
    return digest.hexdigest()


def git_commit() -> str:
    """The checkout's commit, with "-dirty" where files differ from it; "unknown" outside a git checkout."""

    def git(*arguments: str) -> str:
        ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return ran.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
