"""Raw files are landed as received: every value as text, nothing recoded, nothing lost, nothing half done."""

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyreadstat
import pytest

from orchestration.errors import Refusal
from orchestration.ingest import land_wave, unite_waves, waves_in_words, waves_read
from orchestration.registry import RawFile
from orchestration.warehouse import connect

if TYPE_CHECKING:
    import duckdb


@pytest.fixture
def warehouse(tmp_path: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    with connect(tmp_path / "warehouse.duckdb") as connection:
        yield connection


def registered(folder: Path, name: str, content: bytes | None = None, **fields: Any) -> RawFile:
    """A file of the given content (as it lies there, without), with its row of the registry."""
    path = folder / name
    if content is not None:
        path.write_bytes(content)
    return RawFile(
        **{
            "wave": 2013,
            "path": name,
            "role": "responses",
            "format": path.suffix[1:],
            "encoding": "utf-8",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
            "study_number": "",
            "edition": "1",
            "licence": "none",
            "provenance": "synthetic",
        }
        | fields
    )


def landed(connection: "duckdb.DuckDBPyConnection", table: str = "raw.responses_2013") -> list[tuple[Any, ...]]:
    return connection.execute(f"select * from {table} order by _row").fetchall()


def refusal_of(connection: "duckdb.DuckDBPyConnection", folder: Path, *files: RawFile) -> str:
    with pytest.raises(Refusal) as refused:
        land_wave(connection, folder, files)
    return str(refused.value)


# ---------------------------------------------------------------------------------------- text


def test_cells_of_a_csv_file_are_landed_as_they_stand(warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path) -> None:
    content = 'Id,Answer,Words\n007, 2 ,Zoë\n010,1.50,"a, ""b"""\n1e3,-1,NULL\n0x1,"2\n3",NA\né,true,2013-01-05\n'

    assert land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.csv", content.encode())])

    assert landed(warehouse) == [
        (1, "007", " 2 ", "Zoë"),
        (2, "010", "1.50", 'a, "b"'),
        (3, "1e3", "-1", "NULL"),
        (4, "0x1", "2\n3", "NA"),
        (5, "é", "true", "2013-01-05"),
    ]


def test_an_empty_cell_is_missing_and_white_space_is_not(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.csv", b"a,b,c\n,  ,1\n")])

    assert landed(warehouse) == [(1, None, "  ", "1")]


@pytest.mark.parametrize(
    "content",
    [b"a,b\r\n1,2\r\n3,4\r\n", b"a,b\n1,2\n3,4", b"\xef\xbb\xbfa,b\n1,2\n3,4\n"],
    ids=["Windows line ends", "no line end at the end", "byte order mark"],
)
def test_line_ends_and_byte_order_marks_are_no_content(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path, content: bytes
) -> None:
    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.csv", content)])

    assert landed(warehouse) == [(1, "1", "2"), (2, "3", "4")]
    assert warehouse.execute("select raw_column from raw.variables order by position").fetchall() == [("a",), ("b",)]


def test_quotes_are_ordinary_characters_in_a_tab_file(warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path) -> None:
    content = 'Id\tWords\n01\t"half\n02\ta,b "c"\n03\t\n'

    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.tab", content.encode())])

    assert landed(warehouse) == [(1, "01", '"half'), (2, "02", 'a,b "c"'), (3, "03", None)]


def test_a_windows_file_keeps_its_accents_and_punctuation(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    file = registered(tmp_path, "forms.csv", "Naïve,b\nCôte – “x”,€5\n".encode("cp1252"), encoding="windows-1252")

    land_wave(warehouse, tmp_path, [file])

    assert landed(warehouse) == [(1, "Côte – “x”", "€5")]
    assert warehouse.execute("select raw_column from raw.variables where position = 1").fetchall() == [("Naïve",)]


def test_rows_keep_their_order_and_number_in_a_large_file(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    rows = 150_000
    content = "n\n" + "".join(f"{n}\n" for n in range(1, rows + 1))

    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.csv", content.encode())])

    counted = (
        "select count(*), min(_row), max(_row), count(*) filter (where n <> _row::varchar) from raw.responses_2013"
    )
    assert warehouse.execute(counted).fetchall() == [(rows, 1, rows, 0)]


def test_the_codebook_beside_a_text_file_labels_its_columns(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    codebook = "variable,label,code,value_label\nq1,Do you know?,01,Yes\nq1,Do you know?,2,Nö\nwords,Words,,\n"
    files = [
        registered(tmp_path, "forms.csv", b"Q1,Words\n01,x\n"),
        registered(tmp_path, "codebook.csv", codebook.encode(), role="codebook"),
    ]

    land_wave(warehouse, tmp_path, files)

    assert warehouse.execute("select raw_column, label from raw.variables order by position").fetchall() == [
        ("Q1", "Do you know?"),
        ("Words", "Words"),
    ]
    assert warehouse.execute("select code, label from raw.value_labels order by code").fetchall() == [
        ("01", "Yes"),
        ("2", "Nö"),
    ]


# ---------------------------------------------------------------------------------------- SPSS and Stata


def test_an_spss_file_lands_numbers_in_their_shortest_form_and_user_missing_as_codes(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    frame = pd.DataFrame(
        {
            "id": ["007", " 08", "é"],
            "Q1": [3.0, None, 999.0],
            "share": [2.5, 0.1, -1.0],
            "large": [1e9, 123456789012.0, 1 / 3],
        }
    )
    pyreadstat.write_sav(
        frame,
        tmp_path / "forms.sav",
        column_labels={"Q1": "Do you know?"},
        variable_value_labels={"Q1": {3.0: "Not sure", 999.0: "Missing"}},
        missing_ranges={"Q1": [999]},
    )

    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.sav")])

    assert landed(warehouse) == [
        (1, "007", "3", "2.5", "1000000000"),
        (2, " 08", None, "0.1", "123456789012"),
        (3, "é", "999", "-1", "0.3333333333333333"),
    ]
    assert warehouse.execute("select raw_column, label from raw.variables order by position").fetchall()[1] == (
        "Q1",
        "Do you know?",
    )
    assert warehouse.execute("select raw_column, code, label from raw.value_labels order by all").fetchall() == [
        ("Q1", "3", "Not sure"),
        ("Q1", "999", "Missing"),
    ]


def test_a_stata_file_lands_whole_numbers_missing_values_and_its_own_kinds_of_missing(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    frame = pd.DataFrame(
        {"id": ["007", "", "é"], "q1": [1, 2, 3], "q2": [1.0, None, 2.0], "q3": [1.0, "a", 2.0], "q4": [0.5, 7.0, None]}
    )
    pyreadstat.write_dta(
        frame, tmp_path / "forms.dta", variable_value_labels={"q1": {1: "Yes"}}, missing_user_values={"q3": ["a"]}
    )

    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.dta")])

    rows = landed(warehouse)
    assert [row[2:] for row in rows] == [("1", "1", "1", "0.5"), ("2", None, "a", "7"), ("3", "2", "2", None)]
    assert [row[1] or "" for row in rows] == ["007", "", "é"]
    assert warehouse.execute("select raw_column, code, label from raw.value_labels").fetchall() == [("q1", "1", "Yes")]


def test_a_date_of_an_spss_file_lands_as_the_number_it_is(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    frame = pd.DataFrame({"sent": [13_600_000_000.0]})
    pyreadstat.write_sav(frame, tmp_path / "forms.sav", variable_format={"sent": "DATETIME20"})

    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.sav")])

    assert landed(warehouse) == [(1, "13600000000")]


@pytest.mark.parametrize("suffix", ["sav", "dta"])
def test_a_file_that_is_not_of_its_format_is_refused_without_its_content(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path, suffix: str
) -> None:
    said = refusal_of(warehouse, tmp_path, registered(tmp_path, f"forms.{suffix}", b"tell nobody" * 100))

    assert f"forms.{suffix} (wave 2013, responses, {suffix}" in said
    assert "tell nobody" not in said


# ---------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("Q1,b,q1", "columns 1 and 3 have one name"),
        ("Q1,b, Q1 ", "columns 1 and 3 have one name"),
        ("a,_ROW", "column 2 is named '_row'"),
        ("Survey_Year,a", "column 1 is named 'survey_year'"),
        ("a,,b", "column 2 has no name"),
        ("a,b, ", "column 3 has no name"),
    ],
)
def test_a_header_that_cannot_be_told_apart_is_refused(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path, header: str, said: str
) -> None:
    cells = ",".join("1" for _ in header.split(","))
    file = registered(tmp_path, "forms.csv", f"{header}\n{cells}\n".encode())

    refusal = refusal_of(warehouse, tmp_path, file)

    assert "forms.csv (wave 2013, responses, csv, utf-8)" in refusal
    assert said in refusal


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"a,b\n", "has no rows"),
        (b"a,b\n1,2\n1\n", "line 3 has 1 cells; the header has 2"),
        (b"a,b\n1,2,3\n", "line 2 has 3 cells; the header has 2"),
        (b'a,b\n1,"tell nobody\n3,4\n', "forms.csv"),
        (b"a,b\n1,\xff\n", "line 2 has a byte that this encoding has not"),
    ],
    ids=["empty", "no rows", "a cell short", "a cell over", "an open quote", "a byte that is no text"],
)
def test_text_that_is_no_table_is_refused_at_its_line(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path, content: bytes, said: str
) -> None:
    refusal = refusal_of(warehouse, tmp_path, registered(tmp_path, "forms.csv", content))

    assert said in refusal
    assert "tell nobody" not in refusal
    assert warehouse.execute("select count(*) from raw.files").fetchall() == [(0,)]


def test_a_codebook_with_other_columns_is_refused(warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path) -> None:
    files = [
        registered(tmp_path, "forms.csv", b"q1\n1\n"),
        registered(tmp_path, "codebook.csv", b"variable,label,code\nq1,Q,1\n", role="codebook"),
    ]

    refusal = refusal_of(warehouse, tmp_path, *files)

    assert "codebook.csv" in refusal
    assert "does not begin with the columns variable, label, code, value_label" in refusal


# ---------------------------------------------------------------------------------------- once, and wholly


def test_a_wave_that_is_there_already_is_not_read_again(warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path) -> None:
    file = registered(tmp_path, "forms.csv", b"a\n1\n")
    assert land_wave(warehouse, tmp_path, [file])
    warehouse.execute("update raw.responses_2013 set a = 'left alone'")

    assert not land_wave(warehouse, tmp_path, [file])

    assert landed(warehouse) == [(1, "left alone")]


@pytest.mark.parametrize(
    "change", [{"edition": "2"}, {"licence": "another"}, {"encoding": "windows-1252"}, {"provenance": "deposit"}]
)
def test_a_wave_is_read_again_where_its_registration_changed(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path, change: dict[str, str]
) -> None:
    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.csv", b"a\n1\n")])

    assert land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.csv", **change)])

    [(column, value)] = change.items()
    assert warehouse.execute(f"select {column} from raw.files").fetchall() == [(value,)]


def test_a_wave_is_read_again_where_its_file_changed_or_another_came(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.csv", b"a\n1\n")])

    forms = registered(tmp_path, "forms.csv", b"a\n2\n")
    assert land_wave(warehouse, tmp_path, [forms])
    assert landed(warehouse) == [(1, "2")]
    sampled = registered(tmp_path, "sampled.csv", b"trust,persons\nT01,9\n", role="sampled")
    assert land_wave(warehouse, tmp_path, [forms, sampled])
    assert landed(warehouse, "raw.sampled_2013") == [(1, "T01", "9")]
    assert land_wave(warehouse, tmp_path, [forms])
    assert warehouse.execute("select file_role from raw.files").fetchall() == [("responses",)]
    tables = warehouse.execute("select table_name from duckdb_tables() where table_name like 'sampled%'").fetchall()
    assert tables == []


def test_a_run_is_told_what_it_read_and_what_it_used_as_landed(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    old, new = (registered(tmp_path, f"{wave}.csv", f"a\n{wave}\n".encode(), wave=wave) for wave in (2013, 2014))
    land_wave(warehouse, tmp_path, [old], "the first run")
    assert waves_in_words(*waves_read(warehouse, "the first run")) == "read: 2013"

    for file in (old, new):
        land_wave(warehouse, tmp_path, [file], "the second run")

    assert waves_read(warehouse, "the second run") == ([2014], [2013])
    assert waves_in_words([2014], [2013]) == "read: 2014; reused as landed: 2013"
    assert waves_in_words(*waves_read(warehouse, "a third run")) == "reused as landed: 2013, 2014"


def test_a_warehouse_that_does_not_tell_who_landed_a_wave_is_used_as_it_is(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    file = registered(tmp_path, "forms.csv", b"a\n1\n")
    land_wave(warehouse, tmp_path, [file], "the first run")
    unite_waves(warehouse, [2013])
    warehouse.execute("alter table raw.files drop column landed_by")

    assert not land_wave(warehouse, tmp_path, [file], "the second run")

    assert waves_read(warehouse, "the second run") == ([], [2013])


def test_a_file_altered_since_its_registration_is_not_read(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    file = registered(tmp_path, "forms.csv", b"a\n1\n")
    (tmp_path / "forms.csv").write_bytes(b"a\n2\n")

    assert "was altered" in refusal_of(warehouse, tmp_path, file)


def test_a_failure_halfway_leaves_the_wave_as_it_was(warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path) -> None:
    old = [
        registered(tmp_path, "forms.csv", b"a,b\n1,2\n"),
        registered(tmp_path, "sampled.csv", b"trust\nT01\n", role="sampled"),
        registered(tmp_path, "codebook.csv", b"variable,label,code,value_label\na,A,1,One\n", role="codebook"),
    ]
    land_wave(warehouse, tmp_path, old)
    tables = ("raw.responses_2013", "raw.sampled_2013", "raw.files", "raw.variables", "raw.value_labels")
    before = {table: warehouse.execute(f"select * from {table} order by all").fetchall() for table in tables}
    new = [
        registered(tmp_path, "forms.csv", b"c\n3\n4\n"),
        registered(tmp_path, "sampled.csv", b"trust\nT01,1\n", role="sampled"),
        registered(tmp_path, "codebook.csv", b"variable,label,code,value_label\nc,C,3,Three\n", role="codebook"),
    ]

    assert "sampled.csv" in refusal_of(warehouse, tmp_path, *new)

    assert {table: warehouse.execute(f"select * from {table} order by all").fetchall() for table in tables} == before
    assert land_wave(warehouse, tmp_path, [registered(tmp_path, "forms.csv", b"c\n3\n4\n")])


# ---------------------------------------------------------------------------------------- all waves together


@pytest.mark.parametrize("kib", [1, 64], ids=["while it is committed", "while it is written"])
def test_a_warehouse_that_cannot_grow_is_refused_in_words_and_left_as_it_was(tmp_path: Path, kib: int) -> None:
    first = registered(tmp_path, "first.csv", b"Id,Answer\n1,1\n", wave=2012)
    content = "Id,Answer\n" + "".join(f"{number},{number % 7}\n" for number in range(200_000))
    path, second = tmp_path / "warehouse.duckdb", registered(tmp_path, "second.csv", content.encode())
    with connect(path) as connection:
        land_wave(connection, tmp_path, [first])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    with pytest.raises(Refusal) as refused, connect(path) as connection:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + kib * 1024, hard))
        try:
            land_wave(connection, tmp_path, [second])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert f"The warehouse {path} could not be written" in str(refused.value)
    assert "df -h" in str(refused.value)
    with connect(path) as connection:
        assert connection.execute("select survey_year, row_count from raw.files").fetchall() == [(2012, 1)]
        assert landed(connection, "raw.responses_2012") == [(1, "1", "1")]


def test_waves_stand_one_above_the_other_with_columns_matched_in_any_case(
    warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    land_wave(warehouse, tmp_path, [registered(tmp_path, "a.csv", b"Q1,old\n1,2\n")])
    land_wave(warehouse, tmp_path, [registered(tmp_path, "b.csv", b"new,q1\n3,4\n5,6\n", wave=2014)])

    unite_waves(warehouse, [2013, 2014])

    rows = warehouse.execute(
        "select survey_year, _row, q1, old, new from raw.responses order by survey_year, _row"
    ).fetchall()
    assert rows == [(2013, 1, "1", "2", None), (2014, 1, "4", None, "3"), (2014, 2, "6", None, "5")]
    assert warehouse.execute("select count(*) from raw.sampled").fetchall() == [(0,)]


def test_a_wave_that_is_no_longer_registered_is_dropped(warehouse: "duckdb.DuckDBPyConnection", tmp_path: Path) -> None:
    land_wave(warehouse, tmp_path, [registered(tmp_path, "a.csv", b"q1\n1\n")])
    land_wave(warehouse, tmp_path, [registered(tmp_path, "b.csv", b"q1\n2\n", wave=2014)])

    unite_waves(warehouse, [2014])

    assert warehouse.execute("select survey_year from raw.responses").fetchall() == [(2014,)]
    for table in ("files", "variables", "value_labels"):
        assert warehouse.execute(f"select count(*) from raw.{table} where survey_year = 2013").fetchall() == [(0,)]
    tables = warehouse.execute("select table_name from duckdb_tables() where table_name like '%2013'").fetchall()
    assert tables == []
