"""Adding the files of a new wave to the registry.

Belongs here: what role, format and encoding a file has, and its row. Does not: what makes a row valid (registry), a
file that takes the place of another (docs/operations.md, A new edition of a file).
"""

import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from orchestration.errors import Refusal
from orchestration.registry import COLUMNS, ENCODINGS, FORMATS, RawFile, problem_of_file, read_registry, sha256_of
from orchestration.settings import Settings
from orchestration.wave import additions

# Counts of persons drawn have a column each for trust, age, gender and outcome, and one for the count; a questionnaire
# has many more.
MOST_COLUMNS_OF_SAMPLED = 10
NAMES_OF_ROLES = {"sampled": "sampled", "codebook": "codebook", "respondents": "responses", "responses": "responses"}


def register(
    settings: Settings,
    wave: int,
    paths: Sequence[Path],
    *,
    role: str | None = None,
    study_number: str = "",
    edition: str = "1",
    licence: str | None = None,
    provenance: str | None = None,
) -> list[RawFile]:
    """Add the files of a wave to registry.csv and return their rows, as they were added.

    Role, format and encoding are told from the files; licence and provenance are those of the rows that are there,
    where these have one, but that a file is synthetic has to be said. Every file is read as a refresh will read it.
    Raises Refusal, with the registry as it was, where one cannot be read, is registered, lies elsewhere, or has a role
    of which the wave has a file.
    """
    there = read_registry(settings.registry) if settings.registry.exists() else []
    # No registry holds files of two provenances, so that a licence is taken over from files of the same one alone.
    licence = licence if licence is not None else _common(there, "licence", "--licence")
    provenance = provenance if provenance is not None else _provenance(there)
    _demand_new(settings, wave, paths, there)
    files = [
        RawFile(
            wave=wave,
            path=path.resolve().relative_to(settings.raw_dir).as_posix(),
            role=role or _role_of(path),
            format=_format_of(path),
            encoding=_encoding_of(path),
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            study_number=study_number,
            edition=edition,
            licence=licence,
            provenance=provenance,
        )
        for path in paths
    ]
    for file in files:
        if taken := next((other for other in there if (other.wave, other.role) == (wave, file.role)), None):
            raise Refusal(
                f"Wave {wave} has a file of role {file.role} already: {taken.path}; nothing was registered.",
                [
                    f"If {file.path} takes its place, change the row: docs/operations.md, A new edition of a file. "
                    "If it has another role, say so with --role."
                ],
            )
    content = _with_rows(settings.registry, files)
    with tempfile.TemporaryDirectory() as folder:
        # Under the name that messages know; what is wrong with the list is said by the one who reads it.
        candidate = Path(folder) / settings.registry.name
        candidate.write_bytes(content)
        registered = read_registry(candidate)
    if problems := [problem for file in files if (problem := problem_of_file(settings.raw_dir, file))]:
        raise Refusal(f"Wave {wave} was not read.", problems)
    _demand_readable(settings, [file for file in registered if file.wave == wave])
    additions.write({settings.registry: content})
    return files


def _common(files: Sequence[RawFile], field: str, option: str) -> str:
    """What all registered files have in common."""
    found = sorted({getattr(file, field) for file in files})
    if len(found) != 1:
        rows = f"the registered files have {', '.join(found)}" if found else "no file is registered yet"
        raise Refusal(f"The {field} of the new files is not known: {rows}.", [f"Say which with {option}."])
    return str(found[0])


def _provenance(there: Sequence[RawFile]) -> str:
    """That of the registered files where they are deposits: a deposit must never be taken for a made-up file."""
    found = _common(there, "provenance", "--provenance")
    if found == "synthetic":
        raise Refusal(
            "The provenance of the new files is not known: the registered files are synthetic, which is not assumed of "
            "others.",
            [
                "If they are made up, say --provenance synthetic.",
                "A deposit belongs in a folder of its own (CMHS_RAW_DIR): docs/operations.md, Real deposits.",
            ],
        )
    return found


def _demand_new(settings: Settings, wave: int, paths: Sequence[Path], there: Sequence[RawFile]) -> None:
    known = {file.path: file for file in there}
    problems = []
    for path in paths:
        place = path.resolve()
        if not place.is_file():
            problems.append(f"{path} is no file.")
        elif not place.is_relative_to(settings.raw_dir):
            problems.append(f"{path} is not below {settings.raw_dir}: copy it there, into a folder of the wave.")
        elif old := known.get(place.relative_to(settings.raw_dir).as_posix()):
            problems.append(f"{path} is registered already, as {old.role} of wave {old.wave}.")
    if len({path.resolve() for path in paths}) < len(paths):
        problems.append("a file is named twice.")
    if problems:
        raise Refusal(f"The files cannot be registered for wave {wave}; nothing was.", problems)


def _format_of(path: Path) -> str:
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise Refusal(
            f"{path.name} has the suffix '{suffix}'; expected one of {', '.join(FORMATS)}.",
            ["Rename the file by what it is: SPSS, Stata, tab-delimited or comma-separated text."],
        )
    return suffix


def _encoding_of(path: Path) -> str:
    """UTF-8 where a text file reads as it; SPSS and Stata files name theirs themselves."""
    if path.suffix.lower() in (".sav", ".dta"):
        return "utf-8"
    content = path.read_bytes()
    for encoding in ENCODINGS:
        try:
            content.decode("cp1252" if encoding == "windows-1252" else encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    raise Refusal(
        f"{path.name} is neither {' nor '.join(ENCODINGS)} text.", ["Ask for it again, in one of these encodings."]
    )


def _role_of(path: Path) -> str:
    """By the header of a codebook, then by the name, then by the number of columns."""
    from orchestration.ingest import CODEBOOK_HEADER, DELIMITERS

    named = [role for word, role in NAMES_OF_ROLES.items() if word in path.stem.lower()]
    form = _format_of(path)
    if form not in DELIMITERS:
        return named[0] if named and named[0] != "codebook" else "responses"
    text = path.read_bytes().decode("cp1252" if _encoding_of(path) == "windows-1252" else "utf-8-sig")
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[form]), [])
    except csv.Error as error:
        raise Refusal(
            f"The header of {path.name} cannot be read: {error}.",
            ["Is a quote in its first line not closed? Ask for the file again."],
        ) from None
    if [name.strip().lower() for name in header] == CODEBOOK_HEADER:
        return "codebook"
    if named and named[0] != "codebook":
        return named[0]
    return "sampled" if len(header) <= MOST_COLUMNS_OF_SAMPLED else "responses"


def _with_rows(registry: Path, files: Sequence[RawFile]) -> bytes:
    rows = [{name: str(value) for name, value in asdict(file).items()} for file in files]
    if registry.exists():
        return additions.with_rows(registry, rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def _demand_readable(settings: Settings, files: Sequence[RawFile]) -> None:
    """Raise Refusal where a refresh could not read the wave; nobody else sees what is read here."""
    import duckdb

    from orchestration.ingest import land_wave

    with duckdb.connect() as connection:
        land_wave(connection, settings.raw_dir, files)
