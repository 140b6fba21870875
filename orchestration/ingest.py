"""Raw files into the warehouse, as received: one table a file, every value as text, nothing dropped.

Belongs here: reading SPSS, Stata and delimited text, landing it with its codebook, and the Dagster assets that do
so. Does not: recoding, cleaning or any rule of the survey (dbt). Errors name files and places, never values.
"""

import csv
import io
import itertools
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from orchestration.errors import Refusal
from orchestration.gate import mark_changed
from orchestration.lock import WriterLock
from orchestration.progress import tell
from orchestration.registry import RawFile, problem_of_file, read_registry, verify_files
from orchestration.retry import tried_again
from orchestration.settings import OWNERS, TEMPORARY, Settings, state_dir_of
from orchestration.warehouse import connect, identifier, insert, literal

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

RESERVED = ("_row", "survey_year")
CODEBOOK_HEADER = ["variable", "label", "code", "value_label"]
DELIMITERS = {"csv": ",", "tab": "\t"}

REGISTERED = [
    "path",
    "file_role",
    "format",
    "encoding",
    "sha256",
    "bytes",
    "study_number",
    "edition",
    "licence",
    "provenance",
]

SCHEMA = """
create schema if not exists raw;
create table if not exists raw.files (
    survey_year integer, path varchar, file_role varchar, format varchar, encoding varchar, sha256 varchar,
    bytes bigint, row_count bigint, column_count integer, study_number varchar, edition varchar,
    licence varchar, provenance varchar, landed_by varchar
);
-- Made before it was kept.
alter table raw.files add column if not exists landed_by varchar;
create table if not exists raw.variables (
    survey_year integer, file_role varchar, raw_column varchar, position integer, label varchar
);
create table if not exists raw.value_labels (
    survey_year integer, file_role varchar, raw_column varchar, code varchar, label varchar
);
"""


@dataclass
class Codebook:
    """What a file says of its own columns."""

    labels: dict[str, str] = field(default_factory=dict)
    value_labels: list[tuple[str, str, str]] = field(default_factory=list)  # column, code, label


def land_wave(
    connection: "duckdb.DuckDBPyConnection", raw_dir: Path, files: Sequence[RawFile], run_id: str | None = None
) -> bool:
    """Land all files of one wave in one transaction; False where exactly these files are there already.

    Makes raw.responses_<wave> and, where there is such a file, raw.sampled_<wave>: one row per row of the
    file with its 1-based number `_row`, every column as text, missing as NULL; what the files say of their
    columns in raw.variables and raw.value_labels; one row a file in raw.files, with the run that landed it.
    Raises Refusal where a file is missing, altered or cannot be read; the warehouse is then as it was.
    """
    import duckdb

    connection.execute(SCHEMA)
    wave = files[0].wave
    if problems := [problem for file in files if (problem := problem_of_file(raw_dir, file))]:
        raise Refusal(f"Wave {wave} was not read.", problems)
    landed = connection.execute(
        f"select {', '.join(REGISTERED)} from raw.files where survey_year = ? order by file_role", [wave]
    ).fetchall()
    if landed == [_registered(file) for file in sorted(files, key=lambda file: file.role)]:
        return False
    connection.begin()
    try:
        drop_wave(connection, wave)
        described = [_read_codebook(raw_dir / file.path, file) for file in files if file.role == "codebook"]
        for file in files:
            if file.role == "codebook":
                rows, columns = len(described[0].value_labels), len(CODEBOOK_HEADER)
            else:
                land = _land_text if file.format in DELIMITERS else _land_statistical
                header, codebook = land(connection, raw_dir / file.path, file)
                if file.role == "responses" and described:
                    codebook = described[0]
                _land_codebook(connection, file, header, codebook)
                rows = connection.execute(f"select count(*) from {_table(file)}").fetchall()[0][0]
                columns = len(header)
                if rows == 0:
                    raise Refusal(f"{file.path} (wave {wave}) has no rows; expected one per person.")
            connection.execute(
                f"insert into raw.files ({', '.join(REGISTERED)}, survey_year, row_count, column_count, landed_by) "
                f"values ({', '.join('?' for _ in range(len(REGISTERED) + 4))})",
                [*_registered(file), wave, rows, columns, run_id],
            )
        mark_changed(connection)
        connection.commit()
    except BaseException:
        # A commit that fails has ended the transaction itself.
        with suppress(duckdb.TransactionException):
            connection.rollback()
        raise
    return True


def drop_wave(connection: "duckdb.DuckDBPyConnection", wave: int) -> None:
    """Remove everything landed of one wave."""
    for role in ("responses", "sampled"):
        connection.execute(f"drop table if exists raw.{role}_{wave}")
    for table in ("files", "variables", "value_labels"):
        connection.execute(f"delete from raw.{table} where survey_year = ?", [wave])


def waves_read(connection: "duckdb.DuckDBPyConnection", run_id: str) -> tuple[list[int], list[int]]:
    """The waves whose files a run read, and those that it used as an earlier one had landed them."""
    landed = connection.execute(
        "select survey_year, coalesce(bool_or(landed_by = ?), false) from raw.files group by 1 order by 1", [run_id]
    ).fetchall()
    return [wave for wave, read in landed if read], [wave for wave, read in landed if not read]


def waves_in_words(read: Sequence[int], reused: Sequence[int]) -> str:
    """What `waves_read` gives, as words: as in `read: 2; reused as landed: 1`."""
    said = (("read", read), ("reused as landed", reused))
    return "; ".join(f"{what}: {', '.join(str(wave) for wave in waves)}" for what, waves in said if waves)


def unite_waves(connection: "duckdb.DuckDBPyConnection", waves: Sequence[int]) -> None:
    """Make the views raw.responses and raw.sampled over the waves' tables; drop waves no longer registered.

    One row per raw row; `survey_year` and `_row` identify it. A column that a wave has not is NULL there.
    """
    connection.execute(SCHEMA)
    connection.begin()
    for (wave,) in connection.execute("select distinct survey_year from raw.files").fetchall():
        if wave not in waves:
            drop_wave(connection, wave)
            mark_changed(connection)
    for role in ("responses", "sampled"):
        landed = connection.execute(
            "select survey_year from raw.files where file_role = ? order by survey_year", [role]
        ).fetchall()
        branches = [f"select {wave}::integer as survey_year, * from raw.{role}_{wave}" for (wave,) in landed]
        nothing = "select null::integer as survey_year, null::bigint as _row where false"
        body = " union all by name ".join(branches) or nothing
        connection.execute(f"create or replace view raw.{role} as {body}")
    connection.commit()


def _registered(file: RawFile) -> tuple[str | int, ...]:
    return (
        file.path, file.role, file.format, file.encoding, file.sha256, file.bytes, file.study_number,
        file.edition, file.licence, file.provenance,
    )  # fmt: skip


def _table(file: RawFile) -> str:
    return f"raw.{file.role}_{file.wave}"


def _place(file: RawFile) -> str:
    return f"{file.path} (wave {file.wave}, {file.role}, {file.format}, {file.encoding})"


def _read_text(path: Path, file: RawFile) -> str:
    """The file's text by its registered encoding, which must fit. Raises Refusal with the place where not."""
    content = path.read_bytes()
    codec = "cp1252" if file.encoding == "windows-1252" else "utf-8-sig"
    try:
        text = content.decode(codec)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refusal(
            f"{_place(file)} is not {file.encoding} text: line {line} has a byte that this encoding has not.",
            ["Register the encoding the file really has, or ask for the file again."],
        ) from None
    if "\0" in text:
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise Refusal(
            f"{_place(file)} is not {file.encoding} text: line {line} has a NUL byte, which no text has.",
            ["The file is damaged or has another encoding: ask for it again."],
        )
    if file.encoding == "windows-1252" and not content.isascii():
        with suppress(UnicodeDecodeError):
            content.decode("utf-8")
            raise Refusal(
                f"{_place(file)} reads as UTF-8, so windows-1252 would garble its accented letters.",
                ["Register its encoding as utf-8."],
            )
    return text


def _rows_of_text(text: str, file: RawFile) -> Iterator[list[str]]:
    """Header and rows of delimited text. Raises Refusal at the first line with another number of cells."""
    lines = io.StringIO(text, newline="")
    if file.format == "csv":
        reader = csv.reader(lines, delimiter=DELIMITERS[file.format])
    else:
        reader = csv.reader(lines, delimiter=DELIMITERS[file.format], quoting=csv.QUOTE_NONE)
    width = 0
    try:
        for row in reader:
            width = width or len(row)
            if len(row) != width:
                raise Refusal(
                    f"{_place(file)} line {reader.line_num} has {len(row)} cells; the header has {width}.",
                    ["The file is damaged or has another delimiter than its format says."],
                )
            yield row
    except csv.Error:
        raise Refusal(f"{_place(file)} line {reader.line_num} is not delimited text.") from None


def _check_header(header: Sequence[str], file: RawFile) -> None:
    lowered = [name.lower() for name in header]
    repeated = sorted({name for name in lowered if lowered.count(name) > 1})
    # Positions, no names: where the header is missing, the first line is somebody's answers.
    problems = [
        f"columns {' and '.join(str(at) for at, other in enumerate(lowered, start=1) if other == name)} have one name"
        for name in repeated
        if name
    ]
    problems += [f"column {lowered.index(name) + 1} is named '{name}'" for name in RESERVED if name in lowered]
    problems += [f"column {at} has no name" for at, name in enumerate(lowered, start=1) if not name]
    if problems or not header:
        raise Refusal(f"The header of {_place(file)} cannot be used.", problems or ["the file is empty"])


@contextmanager
def _as_utf8(connection: "duckdb.DuckDBPyConnection", path: Path, file: RawFile, text: str) -> Iterator[Path]:
    """A file with this text that DuckDB can read: the raw file, or a private copy of it beside the warehouse."""
    if file.encoding == "utf-8":
        yield path
        return
    (warehouse,) = connection.execute(
        "select path from duckdb_databases() where database_name = current_database()"
    ).fetchall()[0]
    private = state_dir_of(Path(warehouse)) / TEMPORARY if warehouse else None
    with tempfile.NamedTemporaryFile(
        "w", dir=private if private and private.is_dir() else None, suffix=".txt", encoding="utf-8", newline=""
    ) as copy:
        copy.write(text)
        copy.flush()
        yield Path(copy.name)


def _land_text(connection: "duckdb.DuckDBPyConnection", path: Path, file: RawFile) -> tuple[list[str], "Codebook"]:
    import duckdb

    text = _read_text(path, file)
    rows = _rows_of_text(text, file)
    header = [name.strip() for name in next(rows, [])]
    _check_header(header, file)
    expected = sum(1 for _ in rows)
    with _as_utf8(connection, path, file, text) as readable:
        quote = '"' if file.format == "csv" else ""
        names = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
        try:
            connection.execute(
                f"create table {_table(file)} as select row_number() over () as _row, * from read_csv(?, "
                f"delim = ?, quote = ?, escape = ?, header = true, auto_detect = false, parallel = false, "
                f"null_padding = false, columns = {{{names}}})",
                [str(readable), DELIMITERS[file.format], quote, quote],
            )
        except (duckdb.IOException, duckdb.TransactionException):
            raise  # It is about the warehouse.
        except duckdb.Error as error:
            # DuckDB's message quotes the line; only its number may leave.
            line = re.search(r"Line:? (\d+)", str(error))
            where = f" at line {line[1]}" if line else ""
            raise Refusal(f"{_place(file)} is not delimited text{where}.") from None
    landed = connection.execute(f"select count(*) from {_table(file)}").fetchall()[0][0]
    if landed != expected:
        raise Refusal(f"{_place(file)} has {expected} rows, of which {landed} could be read.")
    return header, Codebook()


def _land_statistical(
    connection: "duckdb.DuckDBPyConnection", path: Path, file: RawFile
) -> tuple[list[str], "Codebook"]:
    import pyreadstat

    options: dict[str, Any] = {"user_missing": True, "disable_datetime_conversion": True}
    if file.encoding != "utf-8":
        options["encoding"] = file.encoding.upper()
    try:
        if file.format == "sav":
            frame, meta = pyreadstat.read_sav(path, **options)
        else:
            frame, meta = pyreadstat.read_dta(path, **options)
    except Exception as error:
        # Whatever the reader says may quote the file; its kind is enough to go by.
        raise Refusal(
            f"{_place(file)} cannot be read as {file.format} ({type(error).__name__}).",
            ["Its checksum is the registered one, so the deposit itself is damaged or has another format."],
        ) from None
    header = [str(name).strip() for name in frame.columns]
    _check_header(header, file)
    frame.columns = header
    texts = [f"{_text_of(frame, name)} as {identifier(name)}" for name in header]
    connection.register("received", frame)
    try:
        connection.execute(
            f"create table {_table(file)} as select row_number() over () as _row, {', '.join(texts)} from received"
        )
    finally:
        connection.unregister("received")
    codebook = Codebook(
        labels={name: label for name, label in meta.column_names_to_labels.items() if label},
        value_labels=[
            (name, _code_text(code), str(label))
            for name, labels in meta.variable_value_labels.items()
            for code, label in labels.items()
        ],
    )
    return header, codebook


def _text_of(frame: "pd.DataFrame", name: str) -> str:
    """SQL for a column as text: whole numbers without a decimal point, others in their shortest form."""
    import pandas as pd

    column = identifier(name)
    if frame[name].dtype.kind == "f":
        whole = f"isfinite({column}) and {column} = trunc({column}) and abs({column}) < 1e15"
        number = f"case when {whole} then {column}::bigint::varchar else {column}::varchar end"
        return f"case when not isnan({column}) then {number} end"
    if frame[name].dtype.kind == "O":
        # A column of codes has few different ones.
        text = lru_cache(None, typed=True)(lambda value: None if pd.isna(value) else _code_text(value))
        frame[name] = pd.Series([text(value) for value in frame[name]], frame.index, dtype=object)
    return f"{column}::varchar"


def _code_text(code: object) -> str:
    """A value or code as the same text that its column is landed as."""
    if isinstance(code, float):
        return str(int(code)) if code.is_integer() and abs(code) < 1e15 else repr(code)
    return str(code)


def _read_codebook(path: Path, file: RawFile) -> "Codebook":
    rows = _rows_of_text(_read_text(path, file), file)
    header = next(rows, [])
    if [name.strip().lower() for name in header] != CODEBOOK_HEADER:
        raise Refusal(f"{_place(file)} does not begin with the columns {', '.join(CODEBOOK_HEADER)}.")
    codebook = Codebook()
    for variable, label, code, value_label in rows:
        codebook.labels.setdefault(variable, label)
        if code:
            codebook.value_labels.append((variable, code, value_label))
    return codebook


def _land_codebook(
    connection: "duckdb.DuckDBPyConnection", file: RawFile, header: Sequence[str], codebook: "Codebook"
) -> None:
    labels = {name.strip().lower(): label for name, label in codebook.labels.items()}
    insert(
        connection,
        "raw.variables",
        [
            [file.wave, file.role, name, position, labels.get(name.strip().lower())]
            for position, name in enumerate(header, start=1)
        ],
    )
    insert(
        connection,
        "raw.value_labels",
        [[file.wave, file.role, *value_label] for value_label in codebook.value_labels],
    )


def source_specs(raw_dir: Path, files: Sequence[RawFile]) -> list[dg.AssetSpec]:
    """The raw files themselves, so that lineage starts at what was received."""
    return [
        dg.AssetSpec(
            key=_file_key(file),
            group_name="files",
            description=f"Raw file of role {file.role}, as received; never edited.",
            kinds={file.format},
            owners=OWNERS,
            metadata={
                "wave": file.wave,
                "path": file.path,
                "format": file.format,
                "encoding": file.encoding,
                "sha256": file.sha256,
                "bytes": file.bytes,
                "study number": file.study_number or "unknown",
                "edition": file.edition,
                "licence": file.licence,
                "provenance": file.provenance,
                "dagster/uri": (raw_dir / file.path).as_uri(),
            },
        )
        for file in files
    ]


def _file_key(file: RawFile) -> dg.AssetKey:
    return dg.AssetKey(["files", *Path(file.path).parts])


def _land_and_describe(
    context: dg.AssetExecutionContext,
    warehouse: "duckdb.DuckDBPyConnection",
    raw_dir: Path,
    files: Sequence[RawFile],
) -> tuple[dict[str, Any], dg.DataVersion]:
    """Land a wave in a run, say so in its log, and describe what was landed as Dagster keeps it."""
    wave = files[0].wave
    tell(f"wave {wave}: reading {len(files)} files")
    read = land_wave(warehouse, raw_dir, files, context.run_id)
    sizes = warehouse.execute(
        "select path, row_count, column_count from raw.files where survey_year = ? order by path", [wave]
    ).fetchall()
    context.log.info(
        f"wave {wave}: {'read' if read else 'unchanged, not read again'}; "
        + ", ".join(f"{path} {rows:,} rows x {columns}" for path, rows, columns in sizes)
    )
    metadata = {
        "dagster/row_count": max(rows for _, rows, _ in sizes),
        "read in this run": read,
        **{
            f"{file.role}: {label}": value
            for file in files
            for label, value in (
                ("file", file.path),
                ("sha256", file.sha256),
                ("rows", next(rows for path, rows, _ in sizes if path == file.path)),
                ("columns", next(columns for path, _, columns in sizes if path == file.path)),
                ("study number", file.study_number or "unknown"),
                ("edition", file.edition),
                ("licence", file.licence),
                ("provenance", file.provenance),
            )
        },
    }
    return metadata, dg.DataVersion("-".join(file.sha256[:12] for file in files))


def wave_asset(settings: Settings, files: Sequence[RawFile]) -> dg.AssetsDefinition:
    """The asset that lands one wave's files."""
    wave = files[0].wave

    @dg.asset(
        key=["raw", f"wave_{wave}"],
        deps=[_file_key(file) for file in files],
        group_name="raw",
        kinds={"duckdb"},
        owners=OWNERS,
        code_version=",".join(file.sha256[:12] for file in files),
        description=(
            f"The files of wave {wave} as received: raw.responses_{wave} and, where the persons drawn come in "
            f"a file of their own, raw.sampled_{wave}. Every value is text; nothing is recoded or dropped.\n\n"
            "Source and licence: "
            + "; ".join(
                dict.fromkeys(
                    f"study {file.study_number or 'unknown'}, edition {file.edition}, {file.licence}" for file in files
                )
            )
            + "."
        ),
    )
    def land(context: dg.AssetExecutionContext, writer_lock: WriterLock) -> dg.MaterializeResult:
        registered = [file for file in read_registry(settings.registry) if file.wave == wave]
        if not registered:
            raise Refusal(f"Wave {wave} is no longer registered.", ["Reload the code location, then refresh."])
        with tried_again(context), connect(settings.warehouse) as warehouse:
            metadata, data_version = _land_and_describe(context, warehouse, settings.raw_dir, registered)
        return dg.MaterializeResult(metadata=metadata, data_version=data_version)

    return land


UNITED = {
    "responses": "One row per row of a responses file, all waves one above the other, as received.",
    "sampled": "One row per row of a file of role sampled, all waves one above the other, as received.",
    "files": "One row per landed file, with checksum, size and provenance.",
    "variables": "One row per column of a landed file, with its label.",
    "value_labels": "One row per value label of a landed file or of its codebook.",
}


def united_assets(settings: Settings, waves: Sequence[int]) -> dg.AssetsDefinition:
    """The raw layer as dbt reads it: all waves together."""

    @dg.multi_asset(
        name="united_waves",
        specs=[
            dg.AssetSpec(
                key=["raw", name],
                deps=[dg.AssetKey(["raw", f"wave_{wave}"]) for wave in waves],
                group_name="raw",
                kinds={"duckdb"},
                owners=OWNERS,
                description=description,
            )
            for name, description in UNITED.items()
        ],
    )
    def united_waves(context: dg.AssetExecutionContext, writer_lock: WriterLock) -> Iterator[dg.MaterializeResult]:
        with tried_again(context):
            files = read_registry(settings.registry)
            verify_files(settings.raw_dir, files)
        with tried_again(context), connect(settings.warehouse) as warehouse:
            warehouse.execute(SCHEMA)
            landed = {wave for (wave,) in warehouse.execute("select distinct survey_year from raw.files").fetchall()}
            # No asset lands a wave that was registered after the code location had been loaded.
            for wave, group in itertools.groupby(files, key=lambda file: file.wave):
                if wave not in landed:
                    metadata, _ = _land_and_describe(context, warehouse, settings.raw_dir, list(group))
                    context.log_event(dg.AssetMaterialization(["raw", f"wave_{wave}"], metadata=metadata))
            unite_waves(warehouse, sorted({file.wave for file in files}))
            read, reused = waves_read(warehouse, context.run_id)
            if reused:
                context.log.info(f"waves {waves_in_words(read, reused)}")
            counts = {name: warehouse.execute(f"select count(*) from raw.{name}").fetchall()[0][0] for name in UNITED}
        for name, rows in counts.items():
            yield dg.MaterializeResult(asset_key=["raw", name], metadata={"dagster/row_count": rows})

    return united_waves
