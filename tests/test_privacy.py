"""No respondent leaves: words planted in the raw files are in the private warehouse and nowhere else at a run's end.

Each refresh runs as a command of its own, with a home and a folder for temporary files of its own; searched is every
byte that it wrote, but for the raw files and the warehouse, which hold persons and are readable by their user alone.
"""

import csv
import hashlib
import shutil
import sqlite3
import subprocess
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyreadstat
import pytest
from conftest import Warehouse, run_command

from orchestration import release
from orchestration.settings import DBT_PROJECT_DIR
from tests.torture.survey import review_deliveries

FORMS, SAMPLED, SPSS = "2013/hand_2013.csv", "2013/hand_2013_sampled.csv", "2014/hand_2014.sav"
# In all words of a respondent's that are planted; lower case, as DuckDB makes of some names.
MARK = "zqkestrel"
YEAR, AGE, WEIGHT = "73194655", "83194655", "1.253194655"
CANARIES = [form for text in (MARK, YEAR, AGE, WEIGHT) for form in (text.encode(), text.encode("utf-16-le"))]

Row = dict[str, str]
Plant = Callable[[Warehouse], None]


# ---------------------------------------------------------------------------------------- planting


def register(warehouse: Warehouse, path: str, **changes: str) -> None:
    """Make the registry agree with a file as it is now."""
    content = (warehouse.raw_dir / path).read_bytes()
    registry = warehouse.raw_dir / "registry.csv"
    with registry.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["path"] == path:
            row.update({"sha256": hashlib.sha256(content).hexdigest(), "bytes": str(len(content))} | changes)
    pd.DataFrame(rows).to_csv(registry, index=False, lineterminator="\n")


def in_bytes(path: str, change: Callable[[bytes], bytes], **registered: str) -> Plant:
    def plant(warehouse: Warehouse) -> None:
        file = warehouse.raw_dir / path
        before = file.read_bytes()
        file.write_bytes(change(before))
        assert file.read_bytes() != before
        register(warehouse, path, **registered)

    return plant


def in_forms(change: Callable[[list[Row]], Any]) -> Plant:
    """Other cells in the delimited file."""

    def plant(warehouse: Warehouse) -> None:
        with (warehouse.raw_dir / FORMS).open(encoding="cp1252", newline="") as file:
            rows = list(csv.DictReader(file))
        change(rows)
        pd.DataFrame(rows).to_csv(warehouse.raw_dir / FORMS, index=False, encoding="cp1252", lineterminator="\n")
        register(warehouse, FORMS)

    return plant


def in_form(number: int, **cells: str) -> Plant:
    return in_forms(lambda rows: rows[number].update(cells))


def in_spss(change: Callable[[pd.DataFrame], Any]) -> Plant:
    """Other cells in the SPSS file."""

    def plant(warehouse: Warehouse) -> None:
        path = warehouse.raw_dir / SPSS
        frame, meta = pyreadstat.read_sav(path, user_missing=True)
        change(frame)
        pyreadstat.write_sav(
            frame,
            path,
            column_labels=meta.column_names_to_labels,
            variable_value_labels=meta.variable_value_labels,
            missing_ranges=meta.missing_ranges,
        )
        register(warehouse, SPSS)

    return plant


def in_seed(name: str, where: Row, **cells: str) -> Plant:
    def plant(warehouse: Warehouse) -> None:
        path = warehouse.seeds_dir / f"{name}.csv"
        seed = pd.read_csv(path, dtype=str, keep_default_na=False)
        chosen = (seed[list(where)] == pd.Series(where)).all(axis=1)
        assert chosen.any()
        for column, text in cells.items():
            seed.loc[chosen, column] = text
        seed.to_csv(path, index=False, lineterminator="\n")

    return plant


def plant_words(warehouse: Warehouse) -> None:
    """A record number and words of its own in every form of both waves."""

    def in_2013(rows: list[Row]) -> None:
        for number, row in enumerate(rows):
            row.update(RecNo=f"{MARK}-record-{row['RecNo']}", Comments=f"{MARK} wrote this on form {number}")

    def in_2014(frame: pd.DataFrame) -> None:
        frame["recno"] = [f"{MARK}-record-{record}" for record in frame["recno"]]
        frame["note"] = [f"{MARK} wrote this on form {number}" for number in range(len(frame))]

    in_forms(in_2013)(warehouse)
    in_spss(in_2014)(warehouse)


def one_cell_more(content: bytes) -> bytes:
    return content.replace(b"wrote this on form 20", b"wrote this, on form 20")


def stray_quotes(content: bytes) -> bytes:
    note = f"{MARK} wrote this on form 20"
    return content.replace(note.encode(), f'"{note}"x"y'.encode())


def without_header(content: bytes) -> bytes:
    """A form where the header belongs, no two of its cells the same."""
    lines = content.split(b"\n")
    cells = lines[0].count(b",") + 1
    return b"\n".join([",".join(f"{MARK}{number}" for number in range(cells)).encode(), *lines[1:]])


def supply_weights(warehouse: Warehouse) -> None:
    in_forms(lambda rows: [row.update(Weight=WEIGHT if n == 20 else "1.25") for n, row in enumerate(rows)])(warehouse)
    path = warehouse.seeds_dir / "key_variables.csv"
    path.write_text(path.read_text(encoding="utf-8") + "2013,responses,weight,Weight,number\n", encoding="utf-8")
    in_seed("waves", {"survey_year": "2013"}, weighting_scheme="supplied")(warehouse)


def notes_for_names(frame: pd.DataFrame) -> None:
    frame["trustname"] = frame["note"]


@dataclass(frozen=True)
class Ending:
    """How a refresh ends: what is planted besides the words, and what the refusal says; nothing where it publishes."""

    plants: list[Plant]
    says: list[str]
    # A copy of dbt's project is run instead, with one text replaced in the model of the forms.
    in_model: tuple[str, str] | None = None


RECORD = "{{ raw_text((variable.record or {}).raw_column, corrected) }} as record"
ENDINGS = {
    "it publishes": Ending(
        [
            in_form(23, BirthYear=YEAR),
            in_spss(lambda frame: frame.__setitem__("qage", [float(AGE), *frame["qage"][1:]])),
        ],
        [],
    ),
    "reading: a line has a cell too many, an SPSS file is cut off": Ending(
        [in_bytes(FORMS, one_cell_more), in_bytes(SPSS, lambda content: content[: len(content) // 2])],
        ["line 22 has 15 cells", "cannot be read as sav"],
    ),
    "reading: another encoding": Ending(
        [in_bytes(FORMS, lambda content: content.replace(b"Comments", b"C\xf4mments"), encoding="utf-8")],
        ["is not utf-8 text: line 1 "],
    ),
    "reading: stray quotes": Ending([in_bytes(FORMS, stray_quotes)], ["is not delimited text at line 22"]),
    "a check: the header is lost": Ending(
        [in_bytes(FORMS, without_header)],
        ["every_raw_column_is_mapped_or_ignored", "raw_column number 1,", "is its first line the header?"],
    ),
    "a check: words where codes belong, and for the name of a trust": Ending(
        [
            in_form(22, Outcome=f"{MARK}!"),
            in_form(23, Sex=AGE),
            in_form(24, BirthYear=f"{MARK}!"),
            in_form(25, SampleAge=f"{MARK}!"),
            in_spss(notes_for_names),
        ],
        [
            "raw_column Outcome, code a text of 10 characters",
            "raw_column Sex, code a text of 8 characters",
            "raw_column SampleAge, code a text of 10 characters",
            "raw_column BirthYear, n 1",
            "survey_year 2014, trust T01, names 31",
        ],
    ),
    "a check: words where answers belong": Ending(
        [in_form(20, Q3=f"{MARK}!"), in_form(21, Q1=YEAR)],
        ["raw_column Q3, code a text of 10 characters", "raw_column Q1, code a text of 8 characters"],
    ),
    "a check: words where the trust belongs": Ending(
        [in_form(26, TrustCode=f"{MARK}!")],
        ["every_trust_has_respondents_and_a_sample", "survey_year 2013, trust a text of 10 characters"],
    ),
    "a model that cannot be built": Ending(
        [],
        ["could not be built: Conversion Error"],
        (RECORD, f"cast(cast({RECORD.removesuffix(' as record')} as integer) as varchar) as record"),
    ),
    "an expectation": Ending([supply_weights], ["the numbers are not fit to publish"]),
}


# ---------------------------------------------------------------------------------------- searching


def contents_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """A file's bytes and, of a database, what it holds compressed or spread over pages."""
    content = path.read_bytes()
    yield "", content
    if content.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                for row in connection.execute(f'select * from "{table}"'):
                    for value in row:
                        packed = value if isinstance(value, bytes) else str(value).encode()
                        yield table, packed
                        with suppress(zlib.error):
                            yield table, zlib.decompress(packed)
    elif path.suffix == ".duckdb":
        with duckdb.connect(path, read_only=True) as connection:
            for schema, table in connection.execute("select schema_name, table_name from duckdb_tables()").fetchall():
                rows = connection.execute(f'select to_json(t)::varchar from "{schema}"."{table}" as t').fetchall()
                yield f"{schema}.{table}", "\n".join(row for (row,) in rows).encode()


def found_in(*roots: Path, but: tuple[Path, ...] = ()) -> list[str]:
    """Where below these folders a planted word is; the folders and files of `but` are passed over."""
    files = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
    assert files
    return sorted(
        {
            f"{path} {place}".strip()
            for path in files
            if not any(path.is_relative_to(passed) for passed in but)
            for place, content in contents_of(path)
            if any(canary in content.lower() for canary in CANARIES)
        }
    )


def refresh(warehouse: Warehouse, elsewhere: Path, project: Path) -> subprocess.CompletedProcess[str]:
    """`cmhs refresh`; what it says, and what it writes outside the warehouse, is put into the folder `elsewhere`."""
    home, temporary = elsewhere / "home", elsewhere / "tmp"
    for folder in (home, temporary):
        folder.mkdir(parents=True)
    ran = run_command(warehouse, "refresh", project=project, HOME=str(home), TMPDIR=str(temporary))
    (elsewhere / "stdout").write_text(ran.stdout, encoding="utf-8")
    (elsewhere / "stderr").write_text(ran.stderr, encoding="utf-8")
    return ran


def changed_project(folder: Path, old: str, new: str) -> Path:
    project = shutil.copytree(DBT_PROJECT_DIR, folder)
    model = project / "models" / "staging" / "stg_responses.sql"
    text = model.read_text(encoding="utf-8")
    assert text.count(old) == 1
    model.write_text(text.replace(old, new), encoding="utf-8")
    return project


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_word_of_a_respondent_leaves_the_warehouse_where(small: Warehouse, tmp_path: Path, ending: str) -> None:
    end = ENDINGS[ending]
    plant_words(small)
    for plant in end.plants:
        plant(small)
    settings = small.settings
    review_deliveries(settings)
    before = small.published_bytes()
    project = changed_project(tmp_path / "project", *end.in_model) if end.in_model else DBT_PROJECT_DIR

    ran = refresh(small, tmp_path / "elsewhere", project)

    assert [words for words in end.says if words not in ran.stderr] == []
    assert "Traceback" not in ran.stderr
    assert ran.returncode == (1 if end.says else 0)
    assert (small.published_bytes() == before) == bool(end.says)
    private = (small.raw_dir, settings.warehouse)
    assert found_in(small.folder, tmp_path / "elsewhere", but=private) == []
    # They were there to be found: in the raw files and, where these could be read, in the warehouse.
    assert found_in(small.raw_dir)
    if not ending.startswith("reading"):
        assert any("raw.responses_2013" in place for place in found_in(settings.warehouse.parent))
    if not end.says:
        assert release.verify(settings.current_release.resolve()) == []


def test_the_search_finds_what_is_hidden_in_a_database(tmp_path: Path) -> None:
    """Dagster keeps its snapshots compressed; text may be of two bytes a letter."""
    with closing(sqlite3.connect(tmp_path / "records.db")) as connection:
        connection.execute("create table snapshots (body blob)")
        connection.execute("insert into snapshots values (?)", [zlib.compress(f"x {MARK.upper()} y".encode())])
        connection.commit()
    (tmp_path / "words.txt").write_text(f"x {MARK} y", encoding="utf-16")
    (tmp_path / "others.txt").write_text("nobody")

    assert found_in(tmp_path) == [f"{tmp_path / 'records.db'} snapshots", str(tmp_path / "words.txt")]
