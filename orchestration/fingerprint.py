"""What a release is made of: one digest of all inputs, and the commit of the code.

Belongs here: which files count as inputs. Does not: what is done when they changed (refresh).
"""

import hashlib
import subprocess
from pathlib import Path

from orchestration.registry import RawFile
from orchestration.settings import DBT_PROJECT_PARTS, EXPECTATIONS_DIR, ROOT, SPARK, Settings


def digest_of(*roots: Path) -> str:
    """SHA-256 over the files at or below these paths: where they lie, and what is in them."""
    digest = hashlib.sha256()
    for root in roots:
        below = [root] if root.is_file() else sorted(p for p in root.resolve().rglob("*") if p.is_file())
        for path in below:
            if path.suffix != ".pyc":
                place = path.name if path == root else path.relative_to(root.resolve())
                digest.update(f"{root.name}/{place}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def dbt_project_digest(settings: Settings) -> str:
    """Digest of everything dbt parses: project, profile, models, macros, tests and the crosswalk's CSVs."""
    return digest_of(*(settings.dbt_project_dir / part for part in DBT_PROJECT_PARTS))


def fingerprint_of(settings: Settings, files: list[RawFile]) -> str:
    """Digest of registry, raw files (by their registered checksums), crosswalk, models, suites, code and lock."""
    digest = hashlib.sha256(settings.target.encode())
    digest.update(settings.registry.read_bytes())
    digest.update("".join(file.sha256 for file in files).encode())
    digest.update(dbt_project_digest(settings).encode())
    code = [ROOT / "orchestration", EXPECTATIONS_DIR, ROOT / "requirements.lock", ROOT / "pyproject.toml"]
    code += [ROOT / "requirements-spark.lock"] if settings.target == SPARK else []
    digest.update(digest_of(*code).encode())
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
