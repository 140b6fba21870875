"""Which raw files there are, and whether they are what was registered.

Belongs here: reading registry.csv and checking files against it. Does not: opening the files' contents (ingest).
"""

import csv
import errno
import hashlib
import re
import stat
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from orchestration.errors import Refusal

ROLES = ("responses", "sampled", "codebook")
FORMATS = ("sav", "dta", "tab", "csv")
ENCODINGS = ("utf-8", "windows-1252")
PROVENANCES = ("synthetic", "deposit")
# What every system that the path passes through takes for a name and nothing else: shells, globs, Dagster, links.
PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
LONGEST_PATH = 200
LARGEST_REGISTRY = 1_000_000
# Goes into the release as it is.
TEXTS = ("study_number", "edition", "licence")
LONGEST_TEXT = 200
# What a disk on the network says while it does not answer; the same call may succeed a moment later.
PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
}


@dataclass(frozen=True)
class RawFile:
    """One registered file; `wave` is its survey year (the first year of a cycle that spans two)."""

    wave: int
    path: str
    role: str
    format: str
    encoding: str
    sha256: str
    bytes: int
    study_number: str
    edition: str
    licence: str
    provenance: str


COLUMNS = [field.name for field in fields(RawFile)]


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_registry(registry: Path) -> list[RawFile]:
    """All registered files, by wave and role. Raises Refusal with everything that is wrong with the list."""
    try:
        found_there = registry.stat()
        if not stat.S_ISREG(found_there.st_mode):
            raise Refusal(f"The registry {registry} cannot be read: it is no file.", ["Restore the file."])
        if found_there.st_size > LARGEST_REGISTRY:
            raise Refusal(
                f"The registry {registry} cannot be read: it has {found_there.st_size:,} bytes; expected a list of "
                f"files, {LARGEST_REGISTRY:,} at most.",
                ["Restore the file."],
            )
        with registry.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            rows = list(reader)
    except (FileNotFoundError, NotADirectoryError):
        raise Refusal(
            f"There is no registry of raw files at {registry}.",
            ["Set CMHS_RAW_DIR to the folder that holds registry.csv, or restore the file."],
        ) from None
    except OSError as error:
        raise Refusal(f"The registry {registry} cannot be read: {error.strerror}.", ["Make it readable."]) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{registry.name} is not a UTF-8 CSV file: {error}.") from None
    if sorted(header) != sorted(COLUMNS):
        raise Refusal(
            f"{registry.name} has the columns {_shown(', '.join(header), 300)}; expected {', '.join(COLUMNS)}."
        )

    problems: list[str] = []
    files: list[RawFile] = []
    for line, row in enumerate(rows, start=2):
        found = _problems_of_row(row)
        problems += [f"{registry.name} line {line}: {problem}" for problem in found]
        if not found:
            typed: dict[str, Any] = {**row, "wave": int(row["wave"]), "bytes": int(row["bytes"])}
            files.append(RawFile(**typed))
    problems += _problems_between_rows(files)
    if not rows:
        problems.append(f"{registry.name} lists no file.")
    if problems:
        raise Refusal("The registry of raw files is not in order; nothing was read.", problems)
    return sorted(files, key=lambda file: (file.wave, file.role, file.path))


def _problems_of_row(row: dict[str, str]) -> list[str]:
    if None in row or None in row.values():
        return [f"has not {len(COLUMNS)} cells."]
    problems = []
    for column, allowed in (
        ("role", ROLES),
        ("format", FORMATS),
        ("encoding", ENCODINGS),
        ("provenance", PROVENANCES),
    ):
        if row[column] not in allowed:
            problems.append(f"{column} is '{_shown(row[column])}'; expected one of {', '.join(allowed)}.")
    if not re.fullmatch("[1-9][0-9]{3}", row["wave"]):
        problems.append(f"wave is '{_shown(row['wave'])}'; expected a whole number of four digits, the year.")
    if not re.fullmatch("[0-9]{1,15}", row["bytes"]):
        problems.append(f"bytes is '{_shown(row['bytes'])}'; expected a whole number.")
    for column in TEXTS:
        if not row[column].isprintable() or len(row[column]) > LONGEST_TEXT:
            problems.append(
                f"{column} is '{_shown(row[column])}'; expected one line, {LONGEST_TEXT} characters at most."
            )
    if row["role"] == "codebook" and row["format"] in ("sav", "dta"):
        problems.append(
            f"format of the codebook is '{_shown(row['format'])}'; expected csv or tab: the others carry their labels."
        )
    path = row["path"]
    if not PATH.fullmatch(path) or {".", ".."} & set(path.split("/")) or len(path) > LONGEST_PATH:
        problems.append(
            f"path is '{_shown(path)}'; expected a path inside the folder of the registry, of letters (a-z), digits, "
            f"'.', '_' and '-', {LONGEST_PATH} characters at most: rename the file."
        )
    if len(row["sha256"]) != 64 or set(row["sha256"]) - set("0123456789abcdef"):
        problems.append("sha256 is not 64 lower-case hexadecimal digits; `sha256sum FILE` prints it.")
    return problems


def _shown(text: str, longest: int = 60) -> str:
    """A text of the registry as a message shows it: on one line, and not more of it than tells which it is."""
    line = "".join(character if character.isprintable() else "?" for character in text[:longest])
    return line + ("..." if len(text) > longest else "")


def _problems_between_rows(files: list[RawFile]) -> list[str]:
    problems = []
    by_role: dict[tuple[int, str], list[str]] = {}
    by_path: dict[str, list[RawFile]] = {}
    for file in files:
        by_role.setdefault((file.wave, file.role), []).append(file.path)
        by_path.setdefault(file.path, []).append(file)
    for (wave, role), paths in by_role.items():
        if len(paths) > 1:
            problems.append(
                f"wave {wave} has {len(paths)} files of role {role} ({', '.join(paths)}); "
                "expected one: remove the row of the file that was replaced."
            )
    by_content: dict[str, set[str]] = {}
    for file in files:
        by_content.setdefault(file.sha256, set()).add(file.path)
    for paths_of_content in by_content.values():
        if len(paths_of_content) > 1:
            problems.append(
                f"{' and '.join(sorted(paths_of_content))} have the same checksum: one is a copy of the other."
            )
    for path, rows in by_path.items():
        if len(rows) > 1:
            problems.append(f"{path} is registered {len(rows)} times; expected once.")
    for wave in sorted({file.wave for file in files}):
        if (wave, "responses") not in by_role:
            problems.append(f"wave {wave} has no file of role responses.")
    provenances = sorted({file.provenance for file in files})
    if len(provenances) > 1:
        problems.append(
            f"the registry mixes {' and '.join(provenances)} files; a release never mixes the two: "
            "keep deposits and synthetic files in separate folders (CMHS_RAW_DIR)."
        )
    return problems


def problem_of_file(raw_dir: Path, file: RawFile) -> str | None:
    """What is wrong with a registered file as it lies on disk, or None. Reads the whole file.

    Raises OSError where the disk does not answer (`PASSING`): that says nothing about the file.
    """
    place = f"{file.path} (wave {file.wave}, {file.role})"
    try:
        return _problem_on_disk(raw_dir, file, place)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in PASSING:
            raise OSError(error.errno, error.strerror, file.path) from None
        # A link that leads to itself is a RuntimeError to this Python's pathlib.
        reason = error.strerror if isinstance(error, OSError) else "a link that leads to itself"
        return f"{place} cannot be read: {reason}. Restore it from the deposit."


def _problem_on_disk(raw_dir: Path, file: RawFile, place: str) -> str | None:
    path = raw_dir / file.path
    if not path.resolve().is_relative_to(raw_dir.resolve()):
        return f"{place} leads out of the folder of the registry."
    if not path.is_file():
        return f"{place} is missing; expected it beside registry.csv: restore it from the deposit."
    size = path.stat().st_size
    if size != file.bytes:
        word = "truncated" if size < file.bytes else "longer than registered"
        return (
            f"{place} has {size} bytes; registered are {file.bytes}: it is {word} or was altered. "
            "Restore it, or register the new edition with its checksum."
        )
    if (found := sha256_of(path)) != file.sha256:
        return (
            f"{place} has SHA-256 {found[:12]}...; registered is {file.sha256[:12]}...: it was altered. "
            "Restore it, or register the new edition with its checksum."
        )
    return None


def unregistered(raw_dir: Path, files: list[RawFile]) -> list[str]:
    """Files in the folder of the registry that it does not list, one sentence each; those that begin with a dot do
    not count.
    """  # fmt: skip
    registered = {raw_dir / file.path for file in files} | {raw_dir / "registry.csv"}
    return [
        f"{_shown(str(path.relative_to(raw_dir)), LONGEST_PATH)} is not registered; "
        "add its row to registry.csv or move it away."
        for path in sorted(raw_dir.rglob("*"))
        if path.is_file() and path not in registered and not path.name.startswith(".")
    ]


def verify_files(raw_dir: Path, files: list[RawFile]) -> None:
    """Check every registered file's size and checksum, and that no other file lies there.

    Raises Refusal naming each file that is missing, altered or not registered.
    """
    problems = [problem for file in files if (problem := problem_of_file(raw_dir, file))]
    problems += unregistered(raw_dir, files)
    if problems:
        raise Refusal("The raw files are not the registered ones; nothing was read.", problems)


def microdata_in_checkout(root: Path) -> list[str]:
    """Files below data/raw that git would carry and that are not registered as synthetic, one sentence each."""
    raw_dir = root / "data" / "raw"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", str(raw_dir)],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    synthetic = {
        file.path
        for file in read_registry(raw_dir / "registry.csv")
        if file.provenance == "synthetic" and problem_of_file(raw_dir, file) is None
    }
    carried = (Path(name).relative_to("data/raw").as_posix() for name in listed.stdout.split("\0") if name)
    return [
        f"data/raw/{name} is not a file registered as synthetic: keep deposits outside the checkout (CMHS_RAW_DIR)."
        for name in sorted(carried)
        if name not in synthetic and name != "registry.csv"
    ]
