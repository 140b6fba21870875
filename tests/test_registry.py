"""The list of raw files: everything wrong with it is named with its line, and files must be what it says."""

import csv
import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestration.errors import Refusal
from orchestration.registry import COLUMNS, RawFile, read_registry, verify_files

Row = dict[str, str]


def row(**cells: str) -> Row:
    """A row in order; its file holds the four bytes of `good`."""
    return {
        "wave": "2013",
        "path": "2013/forms.csv",
        "role": "responses",
        "format": "csv",
        "encoding": "utf-8",
        "sha256": hashlib.sha256(b"good").hexdigest(),
        "bytes": "4",
        "study_number": "",
        "edition": "1",
        "licence": "none",
        "provenance": "synthetic",
    } | cells


SAMPLED = {"path": "2013/sampled.csv", "role": "sampled"}


def write(folder: Path, *rows: Row, columns: tuple[str, ...] = tuple(COLUMNS)) -> Path:
    path = folder / "registry.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_with_files(folder: Path, *rows: Row) -> list[RawFile]:
    for each in rows:
        file = folder / each["path"]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"good")
    return read_registry(write(folder, *rows))


def refusal_of(registry: Path) -> Refusal:
    with pytest.raises(Refusal) as refused:
        read_registry(registry)
    return refused.value


def test_files_are_listed_by_wave_and_role_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    later = row(wave="2014", path="2014/forms.sav", format="sav", study_number="7575", sha256="0" * 64)

    files = read_registry(write(tmp_path, later, row(**SAMPLED, sha256="1" * 64), row()))

    assert [(file.wave, file.role, file.path) for file in files] == [
        (2013, "responses", "2013/forms.csv"),
        (2013, "sampled", "2013/sampled.csv"),
        (2014, "responses", "2014/forms.sav"),
    ]
    assert files[0].bytes == 4
    assert files[2].study_number == "7575"


def test_columns_may_stand_in_any_order_and_a_byte_order_mark_is_none_of_them(tmp_path: Path) -> None:
    path = write(tmp_path, row(), columns=tuple(reversed(COLUMNS)))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())

    assert [file.path for file in read_registry(path)] == ["2013/forms.csv"]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("wave", "", "wave is ''; expected a whole number"),
        ("wave", "2013/14", "wave is '2013/14'; expected a whole number"),
        ("wave", "-2013", "wave is '-2013'; expected a whole number"),
        ("wave", "²⁰¹³", "wave is '²⁰¹³'; expected a whole number"),
        ("bytes", "4.0", "bytes is '4.0'; expected a whole number"),
        ("role", "forms", "role is 'forms'; expected one of responses, sampled, codebook"),
        ("format", "xlsx", "format is 'xlsx'; expected one of sav, dta, tab, csv"),
        ("encoding", "latin-1", "encoding is 'latin-1'; expected one of utf-8, windows-1252"),
        ("provenance", "", "provenance is ''; expected one of synthetic, deposit"),
        ("sha256", "abc", "sha256 is not 64 lower-case hexadecimal digits"),
        ("sha256", "A" * 64, "sha256 is not 64 lower-case hexadecimal digits"),
        ("path", "", "path is ''; expected a path inside the folder"),
        ("path", "/etc/passwd", "path is '/etc/passwd'; expected a path inside the folder"),
        ("path", "2013/../../x", "path is '2013/../../x'; expected a path inside the folder"),
        ("path", "./2013/forms.csv", "path is './2013/forms.csv'; expected a path inside the folder"),
        ("path", "2013/f*.csv", "path is '2013/f*.csv'; expected a path inside the folder"),
        ("path", "2013/the forms.csv", "path is '2013/the forms.csv'; expected a path inside the folder"),
        ("path", "2013/<b>'); drop.csv", "path is '2013/<b>'); drop.csv'; expected a path inside the folder"),
        ("path", "2013/a\0b\nc", "path is '2013/a?b?c'; expected a path inside the folder"),
        ("path", "x/" * 200 + "x", "path is '" + "x/" * 30 + "...'; expected a path inside the folder"),
        ("wave", "00002014", "wave is '00002014'; expected a whole number of four digits"),
        ("wave", "1" + "0" * 5000, "wave is '1" + "0" * 59 + "...'; expected a whole number of four digits"),
        ("bytes", "1" + "0" * 5000, "bytes is '1" + "0" * 59 + "...'; expected a whole number"),
        ("licence", "x" * 201, "licence is '" + "x" * 60 + "...'; expected one line, 200 characters at most"),
        ("edition", "1\n2", "edition is '1?2'; expected one line"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(tmp_path: Path, column: str, value: str, said: str) -> None:
    refusal = refusal_of(write(tmp_path, row(), row(**(SAMPLED | {column: value}))))

    [problem] = [problem for problem in refusal.problems if "line" in problem]
    assert problem.startswith(f"registry.csv line 3: {said}")
    assert problem.isprintable()
    assert len(problem) < 300


@pytest.mark.parametrize("file_format", ["sav", "dta"])
def test_a_codebook_that_is_no_text_is_refused(tmp_path: Path, file_format: str) -> None:
    """SPSS and Stata files carry their labels themselves."""
    codebook = row(path="2013/codebook", role="codebook", format=file_format, sha256="1" * 64)

    [problem] = refusal_of(write(tmp_path, row(), codebook)).problems

    assert problem.startswith("registry.csv line 3: ")
    assert "codebook" in problem
    assert f"'{file_format}'" in problem


def test_a_row_with_a_cell_too_few_or_too_many_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, row(), row(**SAMPLED), row(wave="2014", path="2014/forms.csv", sha256="1" * 64))
    lines = path.read_text().splitlines()
    lines[2], lines[3] = lines[2].rpartition(",")[0], lines[3] + ",more"
    path.write_text("\n".join(lines) + "\n")

    problems = [problem for problem in refusal_of(path).problems if "line" in problem]

    assert problems == ["registry.csv line 3: has not 11 cells.", "registry.csv line 4: has not 11 cells."]


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    refusal = refusal_of(
        write(
            tmp_path,
            row(role="forms", bytes="many"),
            row(wave="2014", path="2014/a.csv", encoding="ascii"),
            row(wave="2015", path="2015/sampled.csv", role="sampled"),
        )
    )

    said = str(refusal)
    for words in (
        "line 2: role is 'forms'",
        "line 2: bytes is 'many'",
        "line 3: encoding is 'ascii'",
        "wave 2015 has no file of role responses",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "lists no file"),
        ([row(), row(path="2013/new.csv", sha256="1" * 64)], "wave 2013 has 2 files of role responses"),
        ([row(), row(wave="2014")], "2013/forms.csv is registered 2 times"),
        ([row(**SAMPLED)], "wave 2013 has no file of role responses"),
        (
            [row(), row(wave="2014", path="2014/a.csv", sha256="1" * 64, provenance="deposit")],
            "mixes deposit and synthetic",
        ),
        ([row(), row(wave="2014", path="2014/copy.csv")], "2013/forms.csv and 2014/copy.csv"),
    ],
    ids=["no file", "two of one role", "one path twice", "no responses", "two provenances", "one content twice"],
)
def test_rows_that_do_not_go_together_are_refused(tmp_path: Path, rows: list[Row], said: str) -> None:
    assert said in str(refusal_of(write(tmp_path, *rows)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has the columns"),
        (b"wave,path\n2013,x\n", "has the columns wave, path; expected wave, path, role"),
        (b"wave," + b"x" * 1000 + b"\n", "has the columns wave, " + "x" * 294 + "...; expected wave, path, role"),
        (",".join(COLUMNS).encode() + b"\n\xff\n", "not a UTF-8 CSV file"),
        (",".join(COLUMNS).encode() + b'\n"open\n', "not a UTF-8 CSV file"),
    ],
    ids=["empty", "columns missing", "a long name", "no UTF-8", "an open quote"],
)
def test_a_registry_that_is_no_such_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "registry.csv"
    path.write_bytes(content)

    assert said in str(refusal_of(path))


def test_a_missing_registry_is_said_to_be_missing_with_what_to_do(tmp_path: Path) -> None:
    refusal = refusal_of(tmp_path / "registry.csv")

    assert "no registry" in refusal.headline
    assert "CMHS_RAW_DIR" in str(refusal)


def test_registered_files_that_are_there_pass_and_hidden_files_do_not_matter(tmp_path: Path) -> None:
    files = write_with_files(tmp_path, row())
    (tmp_path / ".DS_Store").touch()

    verify_files(tmp_path, files)


def test_every_file_that_is_not_as_registered_is_named(tmp_path: Path) -> None:
    rows = [
        row(wave=str(wave), path=f"{wave}/forms.csv", sha256=sha256)
        for wave, sha256 in ((2013, "0" * 64), (2014, "1" * 64), (2015, "2" * 64), (2016, "3" * 64))
    ]
    files = write_with_files(tmp_path, *rows)
    (tmp_path / "2014" / "forms.csv").write_bytes(b"too long")
    (tmp_path / "2015" / "forms.csv").write_bytes(b"cut")
    (tmp_path / "2016" / "forms.csv").unlink()
    (tmp_path / "2016" / "new.csv").touch()

    with pytest.raises(Refusal) as refused:
        verify_files(tmp_path, files)

    for problem, words in zip(
        refused.value.problems,
        (
            "2013/forms.csv (wave 2013, responses) has SHA-256",
            "2014/forms.csv (wave 2014, responses) has 8 bytes; registered are 4: it is longer than registered",
            "2015/forms.csv (wave 2015, responses) has 3 bytes; registered are 4: it is truncated",
            "2016/forms.csv (wave 2016, responses) is missing",
            "2016/new.csv is not registered",
        ),
        strict=True,
    ):
        assert problem.startswith(words)


@pytest.mark.parametrize(
    ("lies_there", "said"),
    [
        (Path.mkdir, "cannot be read: it is no file"),
        (os.mkfifo, "cannot be read: it is no file"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"2013\n" * 200_001), "cannot be read: it has 1,000,005 bytes; expected a list"),
    ],
    ids=["a folder", "a pipe", "a link to itself", "something huge"],
)
def test_what_lies_in_the_place_of_the_registry_is_told(
    tmp_path: Path, lies_there: Callable[[Path], object], said: str
) -> None:
    lies_there(tmp_path / "registry.csv")

    assert f"The registry {tmp_path / 'registry.csv'} {said}" in str(refusal_of(tmp_path / "registry.csv"))


def test_a_registry_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = write(tmp_path, row())

    def forbidden(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", forbidden)

    assert f"The registry {registry} cannot be read: Permission denied." in str(refusal_of(registry))


def test_a_registered_link_out_of_the_folder_is_refused_though_its_content_is_right(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    files = write_with_files(raw, row())
    (raw / "2013" / "forms.csv").rename(tmp_path / "forms.csv")
    (raw / "2013" / "forms.csv").symlink_to(tmp_path / "forms.csv")

    with pytest.raises(Refusal, match="leads out of the folder"):
        verify_files(raw, files)


def test_a_registered_link_to_itself_is_refused_by_name(tmp_path: Path) -> None:
    files = write_with_files(tmp_path, row())
    (tmp_path / "2013" / "forms.csv").unlink()
    (tmp_path / "2013" / "forms.csv").symlink_to(tmp_path / "2013" / "forms.csv")

    with pytest.raises(
        Refusal, match=r"2013/forms.csv \(wave 2013, responses\) cannot be read: a link that leads to itself"
    ):
        verify_files(tmp_path, files)


def test_a_registered_file_that_may_not_be_read_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_with_files(tmp_path, row())

    def forbidden(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("orchestration.registry.sha256_of", forbidden)

    with pytest.raises(Refusal, match=r"2013/forms.csv \(wave 2013, responses\) cannot be read: Permission denied"):
        verify_files(tmp_path, files)


def test_an_unregistered_file_is_named_on_one_line(tmp_path: Path) -> None:
    files = write_with_files(tmp_path, row())
    (tmp_path / "2013" / "a\nb.csv").touch()

    with pytest.raises(Refusal) as refused:
        verify_files(tmp_path, files)

    assert [problem.split(" is ")[0] for problem in refused.value.problems] == ["2013/a?b.csv"]
