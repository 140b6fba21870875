"""What can be wrong with what a refresh reads: one small change of a raw file, the registry or the crosswalk, by kind.

A kind is a function that makes one change, drawn from a seeded `Random`, and says what it did; None where the survey
has nothing of the sort. Belongs here: making changes. Does not: running or judging them (mutations).
"""

import csv
import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

Row = dict[str, str]
DELIMITERS = {"csv": ",", "tab": "\t"}
TEXT, STATISTICAL = ("csv", "tab"), ("sav", "dta")
# What somebody might have written, and nobody may read: in every text that is put where answers stand.
CANARY = "canary-4711-please-tell-nobody"

FORMULAS = ["=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(A1:A9)", "\t=1+1", '=HYPERLINK("x","y")']
MARKUP = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></tr>| a | b |",
    "[a](javascript:alert(1))",
]
SQL = [
    "'); drop table warehouse.marts.estimates; --",
    "' or 1=1 --",
    "\"; attach '/tmp/x' as x; --",
    "''",
    "a' union all select 1",
]
JINJA = ["{{ 7 * 7 }}", "{% raw %}", "{{ env_var('HOME') }}", "{% endmacro %}", "{{ run_query('select 1') }}", "{# a"]
PATHS = ["../../etc/passwd", "/etc/passwd", "..\\..\\x", "a/../../b", "~/x", "file:///etc/passwd", "\\\\host\\share"]
AWKWARD = [
    "a\nb",
    'say "so"',
    "it's",
    "a,b",
    "a;b",
    "a\tb",
    " a ",
    "é – ü",
    "\u202eabc",
    "a\u0000b",
    "%s %(x)s {0}",
    "#x",
    "\\N",
    "NULL",
]
LONG = ["x" * 300, "x" * 100_000]
HOSTILE = {
    "formula": FORMULAS,
    "markup": MARKUP,
    "SQL": SQL,
    "jinja": JINJA,
    "path": PATHS,
    "awkward text": AWKWARD,
    "long text": LONG,
}
NUMBERS = ["NaN", "nan", "inf", "-inf", "Infinity", "-0", "1e308", "1e309", "1" + "0" * 40, "-1", "0", "0x10", "1_000", "1.5", "1,5", "９", "99999999999999999999"]  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One change: what it was, which words of a refusal would name its place, and what no message may hold."""

    what: str
    places: tuple[str, ...]
    planted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A sort of change. `target` is what it changes: a raw file, the registry, or the crosswalk."""

    target: str
    name: str
    make: Callable[["Survey", Random], Change | None] = field(compare=False)


KINDS: list[Kind] = []
Make = Callable[["Survey", Random], Change | None]


def kind(target: str, name: str) -> Callable[[Make], Make]:
    """Add a function to the kinds of change."""

    def add(make: Make) -> Make:
        KINDS.append(Kind(target, name, make))
        return make

    return add


# -------------------------------------------------------------------------------------------- the survey


@dataclass
class Table:
    """A file as header and rows of text, whatever its format."""

    header: list[str]
    rows: list[list[str]]
    meta: Any = None

    def column(self, name: str) -> int:
        """Where a column stands; its name in any case."""
        return [column.strip().lower() for column in self.header].index(name.strip().lower())


@dataclass
class Survey:
    """Raw files and crosswalk in two folders, to be changed."""

    raw_dir: Path
    seeds_dir: Path

    # ---- the registry
    @property
    def registry(self) -> Path:
        """The list of raw files."""
        return self.raw_dir / "registry.csv"

    def files(self, formats: Sequence[str] = (), roles: Sequence[str] = ()) -> list[Row]:
        """Rows of the registry, of these formats and roles."""
        with self.registry.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [r for r in rows if (not formats or r["format"] in formats) and (not roles or r["role"] in roles)]

    def write_registry(self, rows: Sequence[Row]) -> None:
        """Another list of raw files."""
        with self.registry.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def register(self, path: str, **cells: str) -> None:
        """The registry agrees with a file as it is now."""
        rows = self.files()
        content = (self.raw_dir / path).read_bytes()
        for row in rows:
            if row["path"] == path:
                row.update({"sha256": hashlib.sha256(content).hexdigest(), "bytes": str(len(content))} | cells)
        self.write_registry(rows)

    def agrees(self, path: str) -> bool:
        """Whether a file is the registered one."""
        sha256 = hashlib.sha256((self.raw_dir / path).read_bytes()).hexdigest()
        return any(row["path"] == path and row["sha256"] == sha256 for row in self.files())

    # ---- raw files
    def read(self, file: Row) -> Table:
        """A raw file as text."""
        if file["format"] in TEXT:
            text = (self.raw_dir / file["path"]).read_bytes().decode(codec(file))
            quoting = csv.QUOTE_MINIMAL if file["format"] == "csv" else csv.QUOTE_NONE
            lines = io.StringIO(text, newline="")
            header, *rows = csv.reader(lines, delimiter=DELIMITERS[file["format"]], quoting=quoting)
            return Table(header, rows)
        import pyreadstat

        read = pyreadstat.read_sav if file["format"] == "sav" else pyreadstat.read_dta
        frame, meta = read(self.raw_dir / file["path"], user_missing=True, disable_datetime_conversion=True)
        rows = [[number_text(value) for value in row] for row in frame.itertuples(index=False)]
        return Table(list(frame.columns), rows, meta)

    def write(self, file: Row, table: Table, **meta: Any) -> None:
        """Write a raw file in its format; a column of an SPSS or Stata file is text where not all of it is numbers."""
        if file["format"] in TEXT:
            lines = [table.header, *table.rows]
            if file["format"] == "tab":
                content = "".join("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in row) + "\n" for row in lines)
            else:
                text = io.StringIO(newline="")
                csv.writer(text, lineterminator="\n").writerows(lines)
                content = text.getvalue()
            (self.raw_dir / file["path"]).write_bytes(content.encode(codec(file)))
            return
        import pandas as pd
        import pyreadstat

        cells: dict[str, list[Any]] = {}
        for position, name in enumerate(table.header):
            texts = [row[position] for row in table.rows]
            was_text = table.meta.readstat_variable_types.get(name) == "string"
            numbers = None if was_text else as_numbers(texts)
            cells[name] = texts if numbers is None else numbers
        frame = pd.DataFrame(cells)
        numeric = {name for name in cells if not isinstance((cells[name] or [""])[0], str)}
        labels = {n: v for n, v in table.meta.variable_value_labels.items() if n in numeric}
        options: dict[str, Any] = {
            "column_labels": {n: v for n, v in table.meta.column_names_to_labels.items() if v and n in cells},
            "variable_value_labels": labels,
        }
        if file["format"] == "sav":
            ranges = {n: [r["lo"] for r in v] for n, v in table.meta.missing_ranges.items() if n in numeric}
            pyreadstat.write_sav(frame, self.raw_dir / file["path"], **options, missing_ranges=ranges, **meta)
        else:
            options["variable_value_labels"] = {
                n: {int(code): label for code, label in v.items()} for n, v in labels.items()
            }
            pyreadstat.write_dta(frame, self.raw_dir / file["path"], **options, version=15, **meta)

    def as_stata(self, file: Row) -> Row:
        """The same file in Stata's format, registered as such."""
        table = self.read(file)
        path = str(Path(file["path"]).with_suffix(".dta"))
        (self.raw_dir / file["path"]).unlink()
        rows = self.files()
        [row] = [row for row in rows if row["path"] == file["path"]]
        row.update(path=path, format="dta")
        self.write(row, table)
        self.write_registry(rows)
        self.register(path)
        return row

    def as_tab(self, file: Row) -> Row:
        """The same file with tabulators, registered as such."""
        table = self.read(file)
        path = str(Path(file["path"]).with_suffix(".tab"))
        (self.raw_dir / file["path"]).unlink()
        rows = self.files()
        [row] = [row for row in rows if row["path"] == file["path"]]
        row.update(path=path, format="tab")
        self.write(row, table)
        self.write_registry(rows)
        self.register(path)
        return row

    # ---- the crosswalk
    def seed_names(self) -> list[str]:
        """Names of the crosswalk's tables."""
        return sorted(path.stem for path in self.seeds_dir.glob("*.csv"))

    def seed(self, name: str) -> Table:
        """A table of the crosswalk."""
        text = (self.seeds_dir / f"{name}.csv").read_text(encoding="utf-8")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        return Table(header, rows)

    def write_seed(self, name: str, table: Table, encoding: str = "utf-8") -> None:
        """Another table of the crosswalk."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
        (self.seeds_dir / f"{name}.csv").write_bytes(text.getvalue().encode(encoding))

    def seed_rows(self, name: str) -> list[Row]:
        """Rows of a table of the crosswalk, by column."""
        table = self.seed(name)
        return [dict(zip(table.header, row, strict=True)) for row in table.rows]

    def question_columns(self, file: Row) -> dict[str, str]:
        """Columns of a file that are questions, with the question's id."""
        if file["role"] != "responses":
            return {}
        return {
            row["raw_column"]: row["question_id"]
            for row in self.seed_rows("question_map")
            if row["survey_year"] == file["wave"]
        }

    def key_columns(self, file: Row, *variables: str) -> list[str]:
        """Columns of a file that are these key variables; all of them where none is named."""
        return [
            row["raw_column"]
            for row in self.seed_rows("key_variables")
            if (row["survey_year"], row["file_role"]) == (file["wave"], file["role"])
            and (not variables or row["variable"] in variables)
        ]

    def valid_codes(self, file: Row, column: str) -> list[str]:
        """Codes of a question's column that stand for a response."""
        question = self.question_columns(file)[column]
        return [
            row["code"]
            for row in self.seed_rows("response_map")
            if (row["survey_year"], row["question_id"]) == (file["wave"], question) and row["treatment"] == "answered"
        ]


def codec(file: Row) -> str:
    """Python's name for a registered encoding."""
    return "cp1252" if file["encoding"] == "windows-1252" else "utf-8"


def number_text(value: Any) -> str:
    """A cell of an SPSS or Stata file as text."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def as_numbers(texts: Iterable[str]) -> list[float] | None:
    """Texts as numbers, blanks as missing; None where one is no number."""
    try:
        return [float(text) if text != "" else float("nan") for text in texts]
    except ValueError:
        return None


def places_of(file: Row, *columns: str) -> tuple[str, ...]:
    """The words that name a place in a raw file."""
    return (file["path"], file["wave"], *columns)


def shown(text: str) -> str:
    """A text short enough for a list of what was done."""
    return repr(text if len(text) <= 40 else f"{text[:30]}... ({len(text)} characters)")


# -------------------------------------------------------------------------------------------- bytes of raw files

Bytes = Callable[[bytes, Random], bytes]


def in_bytes(name: str, change: Bytes, formats: Sequence[str]) -> None:
    """A kind that changes a raw file's bytes; SPSS files are also tried as Stata's."""

    def make(survey: Survey, random: Random) -> Change | None:
        wanted = "dta" if "dta" in formats else formats[0]
        files = survey.files(TEXT if wanted in TEXT else ("sav", "dta"))
        if not files:
            return None
        file = random.choice(files)
        if wanted == "dta" and file["format"] == "sav":
            file = survey.as_stata(file)
        path = survey.raw_dir / file["path"]
        path.write_bytes(change(path.read_bytes(), random))
        return Change(f"{file['path']}: {name}", places_of(file))

    what = {"csv": "text file", "sav": "SPSS file", "dta": "Stata file"}[formats[0]]
    KINDS.append(Kind("raw", f"{what}: {name}", make))


def flip_bits(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 8))):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def flip_bits_of_the_header(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    changed[random.randrange(min(len(changed), 400))] ^= 1 << random.randrange(8)
    return bytes(changed)


def delete_bytes(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + content[at + random.choice((1, 2, 50)) :]


def insert_bytes(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + random.randbytes(random.choice((1, 3, 60))) + content[at:]


def zero_a_block(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    size = random.choice((4, 64, 512))
    return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]


BYTES: list[tuple[str, Bytes]] = [
    ("bits flipped", flip_bits),
    ("bits of the first bytes flipped", flip_bits_of_the_header),
    ("bytes deleted", delete_bytes),
    ("bytes inserted", insert_bytes),
    ("a block of zeros", zero_a_block),
    ("cut short", lambda content, random: content[: random.randrange(1, len(content))]),
    ("garbage appended", lambda content, random: content + random.randbytes(random.choice((1, 100, 5000)))),
    ("empty", lambda content, random: b""),
    ("another file altogether", lambda content, random: random.randbytes(2000)),
]


def without_header(content: bytes, random: Random) -> bytes:
    return content.split(b"\n", 1)[1]


def utf_16(content: bytes, random: Random) -> bytes:
    return content.decode("cp1252").encode("utf-16")


def utf_8(content: bytes, random: Random) -> bytes:
    text = content.decode("cp1252")
    return (text if not text.isascii() else text.replace("0", "é", 1)).encode("utf-8")


def nul_bytes(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + b"\0" + content[at:]


def a_quote(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + b'"' + content[at:]


def a_line_break(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + random.choice((b"\n", b"\r", b"\r\n", b"\n\n")) + content[at:]


def a_delimiter(content: bytes, random: Random) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + b"," + content[at:]


BYTES_OF_TEXT: list[tuple[str, Bytes]] = [
    ("header only", lambda content, random: content.split(b"\n")[0] + b"\n"),
    ("header missing", without_header),
    ("saved as UTF-16", utf_16),
    ("saved as UTF-8", utf_8),
    ("a byte order mark in front", lambda content, random: b"\xef\xbb\xbf" + content),
    ("a NUL byte", nul_bytes),
    ("a stray quote", a_quote),
    ("a stray line break", a_line_break),
    ("a stray delimiter", a_delimiter),
    ("a byte that windows-1252 has not", lambda content, random: content + b"\x81\n"),
    ("lines ended as on Windows", lambda content, random: content.replace(b"\n", b"\r\n")),
    ("lines ended as on an old Macintosh", lambda content, random: content.replace(b"\n", b"\r")),
    ("semicolons between the cells", lambda content, random: content.replace(b",", b";")),
    ("blank lines at the end", lambda content, random: content + b"\n\n"),
    ("a blank line in the middle", lambda content, random: content.replace(b"\n", b"\n\n", 2)),
    ("a second header at the end", lambda content, random: content + content.split(b"\n")[0] + b"\n"),
    ("without the last line's end", lambda content, random: content.rstrip(b"\n")),
]

for _format in ("csv", "sav", "dta"):
    for _name, _change in BYTES:
        in_bytes(_name, _change, (_format,))
for _name, _change in BYTES_OF_TEXT:
    in_bytes(_name, _change, ("csv",))


# -------------------------------------------------------------------------------------------- tables of raw files

InTable = Callable[[Survey, Row, Table, Random], tuple[str, tuple[str, ...]] | None]


def in_table(name: str, roles: Sequence[str] = ("responses", "sampled")) -> Callable[[InTable], InTable]:
    """A kind that changes a raw file as a table, in whatever format it is; SPSS files now and then as Stata's."""

    def add(change: InTable) -> InTable:
        def make(survey: Survey, random: Random) -> Change | None:
            file = random.choice(survey.files(roles=roles))
            reformat = random.random()
            if file["format"] == "sav" and reformat < 0.3:
                file = survey.as_stata(file)
            elif file["format"] == "csv" and reformat < 0.3:
                file = survey.as_tab(file)
            table = survey.read(file)
            before = [list(row) for row in (table.header, *table.rows)]
            done = change(survey, file, table, random)
            if done is None or (before == [table.header, *table.rows] and change is not written_again):
                return None
            what, columns = done
            survey.write(file, table)
            return Change(f"{file['path']}: {what}", places_of(file, *columns), (CANARY,))

        KINDS.append(Kind("raw", f"table: {name}", make))
        return change

    return add


def some_row(table: Table, random: Random) -> int:
    return random.randrange(len(table.rows))


def some_question(survey: Survey, file: Row, random: Random) -> str | None:
    questions = sorted(survey.question_columns(file))
    return random.choice(questions) if questions else None


@in_table("written again as it is")
def written_again(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    return "written again", ()


@in_table("names of two columns swapped")
def names_swapped(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    one, other = random.sample(range(len(table.header)), 2)
    names = table.header[one], table.header[other]
    table.header[one], table.header[other] = table.header[other], table.header[one]
    return f"names of {' and '.join(names)} swapped", names


@in_table("two columns in another order")
def columns_swapped(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    one, other = random.sample(range(len(table.header)), 2)
    names = table.header[one], table.header[other]
    for row in (table.header, *table.rows):
        row[one], row[other] = row[other], row[one]
    return f"{' and '.join(names)} changed places", names


@in_table("data of two columns swapped in some rows")
def cells_swapped(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    one, other = random.sample(range(len(table.header)), 2)
    start = some_row(table, random)
    for row in table.rows[start:]:
        row[one], row[other] = row[other], row[one]
    names = table.header[one], table.header[other]
    return f"{' and '.join(names)} swapped from row {start + 1} on", names


@in_table("all cells of some rows moved one to the right")
def cells_shifted(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    start = some_row(table, random)
    for row in table.rows[start:]:
        row.insert(0, row.pop())
    return f"shifted from row {start + 1} on", tuple(table.header)


@in_table("a column removed")
def column_removed(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    at = random.randrange(len(table.header))
    name = table.header[at]
    for row in (table.header, *table.rows):
        del row[at]
    return f"{name} removed", (name,)


@in_table("a column twice")
def column_twice(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    at = random.randrange(len(table.header))
    if file["format"] in STATISTICAL:
        return None
    for row in (table.header, *table.rows):
        row.append(row[at])
    return f"{table.header[at]} twice", (table.header[at],)


@in_table("a column renamed")
def column_renamed(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    at = random.randrange(len(table.header))
    name = table.header[at]
    hostile = [random.choice(HOSTILE[random.choice(sorted(HOSTILE))]), f"{name}_new", "", "_row", "SURVEY_YEAR", " "]
    table.header[at] = random.choice(hostile) if file["format"] in TEXT else f"{name}_new"
    return f"{name} renamed to {shown(table.header[at])}", (name, f"column {at + 1}")


@in_table("an unknown column added")
def column_added(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    table.header.append("QX")
    for row in table.rows:
        row.append("1")
    return "QX added", ("QX",)


@in_table("all codes of a question one higher", ("responses",))
def codes_shifted(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    name = some_question(survey, file, random)
    if name is None:
        return None
    at = table.column(name)
    for row in table.rows:
        row[at] = str(int(row[at]) + 1) if row[at].strip().lstrip("-").isdigit() else row[at]
    return f"codes of {name} one higher", (name,)


@in_table("all codes of a key variable one higher")
def key_codes_shifted(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    names = [
        row["raw_column"]
        for row in survey.seed_rows("key_variables")
        if (row["survey_year"], row["file_role"]) == (file["wave"], file["role"]) and row["measured_as"] != "text"
    ]
    if not names:
        return None
    name = random.choice(names)
    at = table.column(name)
    for row in table.rows:
        row[at] = str(int(row[at]) + 1) if row[at].strip().lstrip("-").isdigit() else row[at]
    return f"codes of {name} one higher", (name,)


@in_table("one valid answer changed to another valid one", ("responses",))
def valid_answer(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    name = some_question(survey, file, random)
    if name is None:
        return None
    valid, at = survey.valid_codes(file, name), table.column(name)
    rows = [row for row in table.rows if row[at] in valid]
    if len(valid) < 2 or not rows:
        return None
    row = random.choice(rows)
    before = row[at]
    row[at] = random.choice([code for code in valid if code != before])
    return f"{name} of one person {before} -> {row[at]}", (name,)


@in_table("valid codes of a whole question exchanged for others", ("responses",))
def valid_column(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    name = some_question(survey, file, random)
    if name is None:
        return None
    valid, at = survey.valid_codes(file, name), table.column(name)
    exchanged = dict(zip(valid, random.sample(valid, len(valid)), strict=True))
    for row in table.rows:
        row[at] = exchanged.get(row[at], row[at])
    return f"valid codes of {name} exchanged", (name,)


@in_table("everybody gives the same valid answer", ("responses",))
def same_answer(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    name = some_question(survey, file, random)
    valid = survey.valid_codes(file, name) if name else []
    if name is None or not valid:
        return None
    at, code = table.column(name), random.choice(valid)
    for row in table.rows:
        row[at] = code if row[at].strip() else row[at]
    return f"{name} is {code} throughout", (name,)


@in_table("unknown codes", ("responses",))
def unknown_code(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    name = random.choice([*survey.question_columns(file), *survey.key_columns(file, "outcome", "frame_gender")])
    at, code = table.column(name), random.choice(("77", "-5", "321", "z", "4.5", "03", "1 2"))
    for _ in range(random.choice((1, 1, 20))):
        table.rows[some_row(table, random)][at] = code
    return f"{name}: code {code}", (name,)


CELLS: dict[str, Sequence[str]] = {
    "an odd number": NUMBERS,
    "blank": ["", " ", "   ", "\u00a0"],
    "white space around": ["pad"],
    "words": [CANARY],
    "a 100 kB cell": [CANARY + "x" * 100_000],
    "a formula": [text + CANARY for text in FORMULAS],
    "markup": [text + CANARY for text in MARKUP],
    "SQL": [text + CANARY for text in SQL],
    "a path": [text + CANARY for text in PATHS],
    "jinja": [text + CANARY for text in JINJA],
    "awkward text": [text + CANARY for text in AWKWARD],
}
COLUMNS: dict[str, Sequence[str]] = {
    "an answer": (),
    "the trust": ("trust",),
    "the trust's name": ("trust_name",),
    "the record number": ("record",),
    "age, gender or outcome": (
        "frame_age", "frame_gender", "questionnaire_age", "questionnaire_gender", "outcome", "persons",
    ),
}  # fmt: skip


def in_cell(where: str, variables: Sequence[str], text: str, texts: Sequence[str]) -> None:
    """A kind that puts a text into one cell, now and then into a whole column."""

    @in_table(f"{text} for {where}", ("responses",) if not variables else ("responses", "sampled"))
    def change(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
        names = survey.key_columns(file, *variables) if variables else sorted(survey.question_columns(file))
        if not names:
            return None
        name = random.choice(names)
        at, put = table.column(name), random.choice(texts)
        rows = table.rows if random.random() < 0.15 else [random.choice(table.rows)]
        for row in rows:
            row[at] = f" {row[at]}  " if put == "pad" else encodable(put, file)
        return f"{shown(put)} in {name} of {len(rows)} rows", (name,)


def encodable(text: str, file: Row) -> str:
    """The text as far as the file's encoding and format can hold it."""
    if file["format"] in STATISTICAL:
        return text.replace("\0", "")[:30_000]
    return text.encode(codec(file), "replace").decode(codec(file))


for _where, _variables in COLUMNS.items():
    for _text, _texts in CELLS.items():
        in_cell(_where, _variables, _text, _texts)


@in_table("rows repeated")
def rows_repeated(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    n = random.choice((1, 1, 5, len(table.rows)))
    table.rows.extend([list(row) for row in random.sample(table.rows, n)])
    return f"{n} rows repeated", ()


@in_table("rows repeated under new record numbers", ("responses",))
def persons_made_up(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    records = survey.key_columns(file, "record")
    if not records:
        return None
    at, n = table.column(records[0]), random.choice((1, 5, len(table.rows)))
    for number, row in enumerate(random.sample(table.rows, n)):
        table.rows.append([*row[:at], f"9{number:04}", *row[at + 1 :]])
    return f"{n} persons made up", (records[0],)


@in_table("rows dropped")
def rows_dropped(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    n = random.choice((1, 1, 5, len(table.rows) // 2))
    for _ in range(n):
        del table.rows[some_row(table, random)]
    return f"{n} rows dropped", ()


@in_table("the rows of a trust dropped")
def trust_dropped(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    names = survey.key_columns(file, "trust")
    if not names:
        return None
    at = table.column(names[0])
    trust = random.choice(sorted({row[at] for row in table.rows}))
    table.rows[:] = [row for row in table.rows if row[at] != trust]
    return f"trust {trust} dropped", (names[0], trust)


@in_table("rows in another order")
def rows_shuffled(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]]:
    random.shuffle(table.rows)
    return "rows shuffled", ()


@in_table("a trust's code altered")
def trust_altered(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    names = survey.key_columns(file, "trust")
    if not names:
        return None
    at = table.column(names[0])
    trust, other = random.choice(table.rows)[at], random.choice(["T99", random.choice(table.rows)[at], "t01", "T 01"])
    rows = [row for row in table.rows if row[at] == trust]
    rows = rows if random.random() < 0.5 else [random.choice(rows)]
    for row in rows:
        row[at] = other
    return f"trust {trust} -> {other} in {len(rows)} rows", (names[0], trust, other)


@in_table("record numbers altered", ("responses",))
def record_altered(survey: Survey, file: Row, table: Table, random: Random) -> tuple[str, tuple[str, ...]] | None:
    names = survey.key_columns(file, "record")
    if not names:
        return None
    at = table.column(names[0])
    some = random.choice(table.rows)[at]
    rows = table.rows if random.random() < 0.3 else random.sample(table.rows, 3)
    for row in rows:
        row[at] = some
    return f"one record number for {len(rows)} rows", (names[0],)


# ---- what SPSS and Stata files say of themselves


def statistical(survey: Survey, random: Random) -> Row | None:
    files = survey.files(("sav",))
    if not files:
        return None
    file = random.choice(files)
    return survey.as_stata(file) if random.random() < 0.4 else file


@kind("raw", "labels: of columns, hostile")
def column_labels(survey: Survey, random: Random) -> Change | None:
    if (file := statistical(survey, random)) is None:
        return None
    table = survey.read(file)
    name = random.choice(table.header)
    text = random.choice(HOSTILE[random.choice(sorted(HOSTILE))])
    # Stata cuts labels of columns after 80 characters, SPSS after 256.
    label = text.replace("\0", "")[: 80 if file["format"] == "dta" else 250]
    table.meta.column_names_to_labels[name] = label
    survey.write(file, table)
    return Change(f"{file['path']}: label {shown(label)} of {name}", places_of(file, name))


@kind("raw", "labels: of values, hostile")
def value_labels_hostile(survey: Survey, random: Random) -> Change | None:
    if (file := statistical(survey, random)) is None:
        return None
    table = survey.read(file)
    name = random.choice(sorted(table.meta.variable_value_labels))
    labels = table.meta.variable_value_labels[name]
    code = random.choice(sorted(labels))
    labels[code] = random.choice(HOSTILE[random.choice(sorted(HOSTILE))]).replace("\0", "")[:120]
    survey.write(file, table)
    return Change(f"{file['path']}: {name}, label of {code:g} is {shown(labels[code])}", places_of(file, name))


@kind("raw", "labels: of values, for other codes")
def value_labels_shifted(survey: Survey, random: Random) -> Change | None:
    if (file := statistical(survey, random)) is None:
        return None
    table = survey.read(file)
    name = random.choice(sorted(table.meta.variable_value_labels))
    table.meta.variable_value_labels[name] = {
        code + 1: label for code, label in table.meta.variable_value_labels[name].items()
    }
    survey.write(file, table)
    return Change(f"{file['path']}: value labels of {name} one higher", places_of(file, name))


@kind("raw", "labels: of values, dropped")
def value_labels_dropped(survey: Survey, random: Random) -> Change | None:
    if (file := statistical(survey, random)) is None:
        return None
    table = survey.read(file)
    labels = table.meta.variable_value_labels
    names = sorted(labels) if random.random() < 0.3 else [random.choice(sorted(labels))]
    for name in names:
        del labels[name]
    survey.write(file, table)
    return Change(f"{file['path']}: no value labels of {', '.join(names)}", places_of(file, *names))


@kind("raw", "labels: of values, exchanged")
def value_labels_exchanged(survey: Survey, random: Random) -> Change | None:
    if (file := statistical(survey, random)) is None:
        return None
    table = survey.read(file)
    name = random.choice(sorted(table.meta.variable_value_labels))
    labels = table.meta.variable_value_labels[name]
    texts = list(labels.values())
    table.meta.variable_value_labels[name] = dict(zip(labels, random.sample(texts, len(texts)), strict=True))
    survey.write(file, table)
    return Change(f"{file['path']}: value labels of {name} exchanged", places_of(file, name))


@kind("raw", "types: numbers as text")
def numbers_as_text(survey: Survey, random: Random) -> Change | None:
    if (file := statistical(survey, random)) is None:
        return None
    table = survey.read(file)
    name = random.choice([c for c in table.header if table.meta.readstat_variable_types[c] != "string"])
    table.meta.readstat_variable_types[name] = "string"
    survey.write(file, table)
    return Change(f"{file['path']}: {name} as text", places_of(file, name))


@kind("raw", "types: numbers with a decimal point")
def numbers_with_decimals(survey: Survey, random: Random) -> Change | None:
    if (file := statistical(survey, random)) is None:
        return None
    table = survey.read(file)
    name = random.choice([c for c in table.header if table.meta.readstat_variable_types[c] != "string"])
    table.meta.readstat_variable_types[name] = "string"
    at = table.column(name)
    for row in table.rows:
        row[at] = row[at] and f"{row[at]}.0"
    survey.write(file, table)
    return Change(f"{file['path']}: {name} as text with a decimal point", places_of(file, name))


@kind("raw", "types: dates")
def dates(survey: Survey, random: Random) -> Change | None:
    if (file := statistical(survey, random)) is None:
        return None
    table = survey.read(file)
    name = random.choice([c for c in table.header if table.meta.readstat_variable_types[c] != "string"])
    form = "DATE11" if file["format"] == "sav" else "%td"
    survey.write(file, table, variable_format={name: form})
    return Change(f"{file['path']}: {name} as a date", places_of(file, name))


@kind("raw", "types: no missing values declared")
def no_missing_ranges(survey: Survey, random: Random) -> Change | None:
    files = survey.files(("sav",))
    if not files:
        return None
    file = random.choice(files)
    table = survey.read(file)
    table.meta.missing_ranges.clear()
    survey.write(file, table)
    return Change(f"{file['path']}: no declared missing values", places_of(file))


# ---- the codebook


@kind("raw", "codebook: a row dropped, repeated or changed")
def codebook(survey: Survey, random: Random) -> Change | None:
    files = survey.files(TEXT, ("codebook",))
    if not files:
        return None
    file = random.choice(files)
    table = survey.read(file)
    at, column = some_row(table, random), random.randrange(len(table.header))
    what = random.choice(("dropped", "repeated", "blanked", "changed", "hostile"))
    if what == "dropped":
        del table.rows[at]
    elif what == "repeated":
        table.rows.append(list(table.rows[at]))
    else:
        texts = {"blanked": [""], "changed": ["77"], "hostile": HOSTILE[random.choice(sorted(HOSTILE))]}[what]
        table.rows[at][column] = encodable(random.choice(texts), file)
    survey.write(file, table)
    return Change(
        f"{file['path']}: row {at + 1} {what} ({table.header[column]})", (*places_of(file), *table.rows[at - 1])
    )


# -------------------------------------------------------------------------------------------- the registry

InRegistry = Callable[[Survey, list[Row], Row, Random], str | None]


def in_registry(name: str) -> Callable[[InRegistry], InRegistry]:
    """A kind that changes the rows of the registry; it says what it did."""

    def add(change: InRegistry) -> InRegistry:
        def make(survey: Survey, random: Random) -> Change | None:
            rows = survey.files()
            row = random.choice(rows)
            path = row["path"]
            what = change(survey, rows, row, random)
            if what is None:
                return None
            survey.write_registry(rows)
            return Change(f"{path}: {what}", ("registry.csv", path, row["path"], row["wave"], "raw files"))

        KINDS.append(Kind("registry", name, make))
        return change

    return add


def registry_cell(name: str, column: str, texts: Sequence[str]) -> None:
    @in_registry(f"{column}: {name}")
    def change(survey: Survey, rows: list[Row], row: Row, random: Random) -> str | None:
        others = [text for text in texts if text != row[column]]
        row[column] = random.choice(others)
        return f"{column} is {shown(row[column])}"


registry_cell("another number", "bytes", ["0", "1", "100", "99999999", "٣٤"])
registry_cell("no number", "bytes", [*NUMBERS[:12], "many", " 5", "5 ", "", "1" + "0" * 5000])
registry_cell("another one", "sha256", ["0" * 64, "f" * 64, "abc", "", "A" * 64, "g" * 64, "../x"])
registry_cell("another one", "role", ["responses", "sampled", "codebook", "weights", "", "Responses"])
registry_cell("another one", "format", ["sav", "dta", "csv", "tab", "xlsx", "", "SAV", "csv "])
registry_cell("another one", "encoding", ["utf-8", "windows-1252", "latin-1", "", "UTF-8", "utf-16"])
registry_cell("another wave", "wave", ["2013", "2014", "2012", "2099", "1"])
registry_cell(
    "an odd number", "wave", [*NUMBERS, "0", "00002014", "2014.0", "", "1" + "0" * 5000, "3000000000", "٢٠١٤"]
)
registry_cell("another one", "provenance", ["deposit", "", "Synthetic", "real"])
registry_cell("out of the folder", "path", [*PATHS, ".", "..", "/", "../raw/registry.csv", "registry.csv", ""])
registry_cell("odd", "path", ["x" * 300, "x/" * 3000 + "x", "a\0b", "nul\0", "2013", "a\nb", "con", "%2e%2e/x", "é"])
for _column in ("study_number", "edition", "licence"):
    registry_cell("hostile", _column, [t for texts in HOSTILE.values() for t in texts if "\0" not in t])


@in_registry("all of a provenance that is not theirs")
def all_deposits(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    for each in rows:
        each["provenance"] = "deposit"
    return "all are deposits"


@in_registry("row repeated")
def row_repeated(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    rows.append(dict(row))
    return "registered twice"


@in_registry("row dropped")
def row_dropped(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    rows.remove(row)
    return "not registered"


@in_registry("row dropped, and the file with it")
def file_dropped(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    rows.remove(row)
    (survey.raw_dir / row["path"]).unlink()
    return "not there and not registered"


@in_registry("rows in another order")
def registry_shuffled(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    random.shuffle(rows)
    return "rows shuffled"


@in_registry("waves of two files exchanged")
def waves_exchanged(survey: Survey, rows: list[Row], row: Row, random: Random) -> str | None:
    others = [r for r in rows if r["wave"] != row["wave"] and r["role"] == row["role"]]
    if not others:
        return None
    other = random.choice(others)
    row["wave"], other["wave"] = other["wave"], row["wave"]
    return f"and {other['path']}: waves exchanged"


@in_registry("file missing")
def file_missing(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    (survey.raw_dir / row["path"]).unlink()
    return "missing"


@in_registry("a folder in place of the file")
def folder_for_file(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    (survey.raw_dir / row["path"]).unlink()
    (survey.raw_dir / row["path"]).mkdir()
    return "a folder"


@in_registry("a pipe in place of the file")
def pipe_for_file(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    (survey.raw_dir / row["path"]).unlink()
    os.mkfifo(survey.raw_dir / row["path"])
    return "a pipe"


@in_registry("file a link out of the folder")
def linked_out(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    outside = survey.raw_dir.parent / f"outside-{random.randrange(10**9)}"
    path = survey.raw_dir / row["path"]
    if random.random() < 0.5:
        shutil.move(path, outside)
        path.symlink_to(outside)
        return "a link out of the folder"
    shutil.move(path.parent, outside)
    path.parent.symlink_to(outside)
    return "its folder is a link out"


@in_registry("file a link to nothing or to itself")
def linked_to_nothing(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    path = survey.raw_dir / row["path"]
    path.unlink()
    path.symlink_to(random.choice((path, Path("/nowhere/at/all"), Path("/dev/zero"), Path("/dev/stdin"))))
    return f"a link to {path.readlink()}"


@in_registry("file a link within the folder")
def linked_within(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    path = survey.raw_dir / row["path"]
    aside = path.with_name(f".{path.name}")
    path.rename(aside)
    path.symlink_to(aside)
    return "a link within"


@in_registry("a file that nobody registered")
def unregistered(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    name = random.choice(["copy.csv", "=cmd.csv", "<b>.csv", "a\nb.csv", "x'; drop.csv", ".hidden.csv", "README"])
    (survey.raw_dir / Path(row["path"]).parent / name).write_bytes(b"a,b\n1,2\n")
    return f"beside it {name!r}"


FILE_NAMES = ["hand_[1].csv", "hand_*.csv", "h?nd.csv", "{a,b}.csv", "=cmd|x.csv", "<b>x</b>.csv", "it's.csv", 'say"so".csv',
              "a;b.csv", "a b.csv", "{{ 7*7 }}.csv", "{% raw %}.csv", "é.csv", "a\nb.csv", "%s.csv", "x.csv.gz", "x.parquet", "..csv", "-x.csv", "a:b.csv",
              "'); drop table raw.files; --.csv", "s3:/x.csv", "a\\b.csv", "~x.csv", "$HOME.csv", "a/b/c/d.csv", "x" * 200 + ".csv"]  # fmt: skip


@in_registry("file under a hostile name")
def hostile_name(survey: Survey, rows: list[Row], row: Row, random: Random) -> str:
    name = random.choice(FILE_NAMES)
    path = survey.raw_dir / row["path"]
    new = path.parent / name
    new.parent.mkdir(parents=True, exist_ok=True)
    path.rename(new)
    row["path"] = str(new.relative_to(survey.raw_dir))
    return f"renamed to {shown(name)}"


def registry_bytes(name: str, change: Bytes) -> None:
    def make(survey: Survey, random: Random) -> Change:
        survey.registry.write_bytes(change(survey.registry.read_bytes(), random))
        return Change(f"registry.csv: {name}", ("registry.csv", "raw files", *(str(n) for n in range(2, 9))))

    KINDS.append(Kind("registry", f"file: {name}", make))


def with_column(content: bytes, random: Random) -> bytes:
    return b"\n".join(line + (b",note" if n == 0 else b",x") for n, line in enumerate(content.strip().split(b"\n")))


def columns_reversed(content: bytes, random: Random) -> bytes:
    return b"\n".join(b",".join(reversed(line.split(b","))) for line in content.strip().split(b"\n")) + b"\n"


for _name, _change in BYTES:
    registry_bytes(_name, _change)
for _name, _change in (
    ("header only", lambda content, random: content.split(b"\n")[0] + b"\n"),
    ("header missing", without_header),
    ("saved as UTF-16", utf_16),
    ("a byte order mark in front", lambda content, random: b"\xef\xbb\xbf" + content),
    ("a NUL byte", nul_bytes),
    ("a stray quote", a_quote),
    ("a stray line break", a_line_break),
    ("a stray delimiter", a_delimiter),
    ("lines ended as on Windows", lambda content, random: content.replace(b"\n", b"\r\n")),
    ("semicolons between the cells", lambda content, random: content.replace(b",", b";")),
    ("blank lines", lambda content, random: content.replace(b"\n", b"\n\n")),
    ("a column missing", lambda content, random: b"\n".join(line.rsplit(b",", 1)[0] for line in content.split(b"\n"))),
    ("a column more", with_column),
    ("columns in another order", columns_reversed),
    ("a column name twice", lambda content, random: content.replace(b"wave,path", b"path,path", 1)),
    ("a cell of 200 kB", lambda content, random: content.replace(b"MIT", b"x" * 200_000, 1)),
):
    registry_bytes(_name, _change)


# -------------------------------------------------------------------------------------------- the crosswalk

IDS = (
    "question_id", "response", "indicator", "area", "topic", "indicator_response", "age_band", "gender", "variable", "raw_column",
    "filter_question_id", "filter_code", "code", "value", "status", "trust", "predecessor", "stratum", "geography_code",
    "geography_level", "file_role", "measured_as", "treatment", "weighting_scheme", "sample_frame", "wording_version",
    "comparable_block", "vintage", "level", "meets", "fit", "better_when",
)  # fmt: skip
WORDS = (
    "label", "wording", "note", "reason", "description", "title", "source", "version", "rationale", "reviewer", "geography_name", "wave_label",
)  # fmt: skip

InSeed = Callable[[Survey, str, Table, Random], str | None]


def in_seed(name: str, columns: Sequence[str] = (), seeds: Sequence[str] = ()) -> Callable[[InSeed], InSeed]:
    """A kind that changes a table of the crosswalk that has rows and, where columns are named, one of them."""

    def add(change: InSeed) -> InSeed:
        def make(survey: Survey, random: Random) -> Change | None:
            tables = {seed: survey.seed(seed) for seed in survey.seed_names() if not seeds or seed in seeds}
            usable = [s for s, t in tables.items() if t.rows and (not columns or set(columns) & set(t.header))]
            if not usable:
                return None
            seed = random.choice(usable)
            table = tables[seed]
            before = [list(row) for row in table.rows]
            what = change(survey, seed, table, random)
            if what is None:
                return None
            survey.write_seed(seed, table)
            touched = [row for row in before if row not in table.rows] + [
                row for row in table.rows if row not in before
            ]
            cells = {cell for row in touched for cell in row if 3 < len(cell) < 60}
            return Change(f"{seed}: {what}", (seed, *sorted(cells)))

        KINDS.append(Kind("crosswalk", name, make))
        return change

    return add


def some_cell(table: Table, columns: Sequence[str], random: Random) -> tuple[list[str], int]:
    at = random.choice([i for i, name in enumerate(table.header) if not columns or name in columns])
    return random.choice(table.rows), at


def seed_cell(name: str, columns: Sequence[str], texts: Sequence[str]) -> None:
    @in_seed(name, columns)
    def change(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
        row, at = some_cell(table, columns, random)
        before, row[at] = row[at], random.choice(texts)
        return None if before == row[at] else f"{table.header[at]} {shown(before)} -> {shown(row[at])}"


for _text, _texts in HOSTILE.items():
    _texts = [text for text in _texts if "\0" not in text]
    seed_cell(f"{_text} in a text", WORDS, _texts)
    seed_cell(f"{_text} in an id", IDS, _texts)
seed_cell("cell blanked", (), [""])
seed_cell("white space for a cell", (), [" ", "\u00a0", "   "])
seed_cell("an id that nothing has", IDS, ["nope", "x", "0", "999", "unknown", "all", "missing"])

NUMERIC = (
    "survey_year", "position", "from_age", "to_age", "from_year", "to_year", "minimum_base", "published_pct", "decimals",
    "minimum_age", "plausible_age_from", "plausible_age_to", "age_reference_year", "min_answered", "min_cell", "minimum_trusts",
    "maximum_trusts", "minimum_response_rate", "maximum_response_rate", "maximum_change", "maximum_weighting_effect",
    "minimum_weight", "maximum_weight", "maximum_unreadable", "maximum_duplicates", "statement",
)  # fmt: skip
seed_cell("an odd number for a number", NUMERIC, NUMBERS)
seed_cell("words for a number", NUMERIC, ["many", "2014-01-01", "true", "1 2", "12a", "''"])
seed_cell(
    "an odd value for yes or no", ("comparable", "is_numeric"), ["maybe", "2", "NaN", "", "yes", "TRUE", "t", "0"]
)
seed_cell(
    "an odd date",
    ("reviewed_on",),
    ["2014-13-01", "yesterday", "0000-00-00", "99999-01-01", "infinity", "", "01/02/2014"],
)


@in_seed("a number one higher or lower", NUMERIC)
def number_moved(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
    row, at = some_cell(table, NUMERIC, random)
    if not row[at].lstrip("-").replace(".", "", 1).isdigit():
        return None
    before = row[at]
    row[at] = f"{float(before) + random.choice((-1, 1)):g}"
    return f"{table.header[at]} {before} -> {row[at]}"


@in_seed("codes of a question one higher", seeds=("response_map",))
def seed_codes_shifted(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
    wave, question = table.column("survey_year"), table.column("question_id")
    code = table.column("code")
    key = random.choice([(row[wave], row[question]) for row in table.rows])
    for row in table.rows:
        if (row[wave], row[question]) == key and row[code].isdigit():
            row[code] = str(int(row[code]) + 1)
    return f"codes of {' '.join(key)} one higher"


@in_seed("two codes of a question exchanged", seeds=("response_map", "key_codes"))
def seed_codes_exchanged(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
    of = table.column("question_id" if seed == "response_map" else "variable")
    wave, code = table.column("survey_year"), table.column("code")
    one = random.choice(table.rows)
    others = [row for row in table.rows if (row[wave], row[of]) == (one[wave], one[of]) and row is not one]
    if not others:
        return None
    other = random.choice(others)
    one[code], other[code] = other[code], one[code]
    return f"{one[wave]} {one[of]}: codes {one[code]} and {other[code]} exchanged"


@in_seed("another treatment or value of a code", seeds=("response_map", "key_codes"))
def treatment_changed(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
    at = table.column("treatment" if seed == "response_map" else "value")
    row = random.choice(table.rows)
    before, row[at] = row[at], random.choice(sorted({each[at] for each in table.rows} - {row[at]}))
    if seed == "response_map":
        response = table.column("response")
        row[response] = row[response] if row[at] == "answered" else ""
        if before == row[at]:
            return None
    return f"{' '.join(row[:4])}: {before} -> {row[at]}"


@in_seed("an id of another row", IDS)
def id_of_another(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
    row, at = some_cell(table, IDS, random)
    others = sorted({each[at] for each in table.rows} - {row[at]})
    if not others:
        return None
    before, row[at] = row[at], random.choice(others)
    return f"{table.header[at]} {before} -> {row[at]}"


@in_seed("the wave of another row", ("survey_year",))
def wave_of_another(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
    row, at = some_cell(table, ("survey_year",), random)
    others = sorted({each[at] for each in table.rows} - {row[at]})
    if not others:
        return None
    before, row[at] = row[at], random.choice(others)
    return f"survey_year {before} -> {row[at]}"


@in_seed("an id in another case or with blanks", IDS)
def id_in_another_case(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
    row, at = some_cell(table, IDS, random)
    before = row[at]
    row[at] = random.choice((before.upper(), before.title(), f" {before}", f"{before} ", f"{before}\u00a0"))
    return None if before == row[at] else f"{table.header[at]} {before!r} -> {row[at]!r}"


@in_seed("a row dropped")
def seed_row_dropped(survey: Survey, seed: str, table: Table, random: Random) -> str:
    row = table.rows.pop(some_row(table, random))
    return f"without {shown(','.join(row))}"


@in_seed("a row repeated")
def seed_row_repeated(survey: Survey, seed: str, table: Table, random: Random) -> str:
    row = random.choice(table.rows)
    table.rows.insert(some_row(table, random), list(row))
    return f"{shown(','.join(row))} twice"


@in_seed("rows in another order")
def seed_shuffled(survey: Survey, seed: str, table: Table, random: Random) -> str:
    random.shuffle(table.rows)
    return "rows shuffled"


@in_seed("two cells of a row exchanged")
def seed_cells_exchanged(survey: Survey, seed: str, table: Table, random: Random) -> str | None:
    row = random.choice(table.rows)
    one, other = random.sample(range(len(row)), 2)
    if row[one] == row[other]:
        return None
    row[one], row[other] = row[other], row[one]
    return f"{table.header[one]} and {table.header[other]} exchanged in a row"


@in_seed("columns in another order, with their data")
def seed_columns_moved(survey: Survey, seed: str, table: Table, random: Random) -> str:
    order = random.sample(range(len(table.header)), len(table.header))
    for row in (table.header, *table.rows):
        row[:] = [row[i] for i in order]
    return f"columns {', '.join(table.header)}"


@in_seed("names of two columns exchanged")
def seed_names_exchanged(survey: Survey, seed: str, table: Table, random: Random) -> str:
    one, other = random.sample(range(len(table.header)), 2)
    table.header[one], table.header[other] = table.header[other], table.header[one]
    return f"names of {table.header[other]} and {table.header[one]} exchanged"


@in_seed("a column more")
def seed_column_more(survey: Survey, seed: str, table: Table, random: Random) -> str:
    table.header.append("remark")
    for row in table.rows:
        row.append("x")
    return "column remark added"


@in_seed("a column missing")
def seed_column_missing(survey: Survey, seed: str, table: Table, random: Random) -> str:
    at = random.randrange(len(table.header))
    name = table.header[at]
    for row in (table.header, *table.rows):
        del row[at]
    return f"column {name} missing"


@in_seed("a column renamed")
def seed_column_renamed(survey: Survey, seed: str, table: Table, random: Random) -> str:
    at = random.randrange(len(table.header))
    name = table.header[at]
    hostile = [t for texts in HOSTILE.values() for t in texts if "\0" not in t]
    table.header[at] = random.choice([name.upper(), f" {name}", "", f"{name}s", *hostile])
    return f"column {name} is now {shown(table.header[at])}"


@in_seed("a row with a cell too many or too few")
def seed_row_ragged(survey: Survey, seed: str, table: Table, random: Random) -> str:
    row = random.choice(table.rows)
    if random.random() < 0.5:
        row.append(random.choice(("", "x")))
        return "a row has a cell too many"
    row.pop()
    return "a row has a cell too few"


def seed_bytes(name: str, change: Bytes) -> None:
    def make(survey: Survey, random: Random) -> Change:
        seed = random.choice(survey.seed_names())
        path = survey.seeds_dir / f"{seed}.csv"
        path.write_bytes(change(path.read_bytes(), random))
        return Change(f"{seed}.csv: {name}", (seed,))

    KINDS.append(Kind("crosswalk", f"file: {name}", make))


def in_1252(content: bytes, random: Random) -> bytes:
    return content + "é,–\n".encode("cp1252")


def in_quotes(content: bytes, random: Random) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


def with_comment(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    lines.insert(random.randrange(1, len(lines)), b"# a remark" + b"," * lines[0].count(b","))
    return b"\n".join(lines)


for _name, _change in BYTES:
    seed_bytes(_name, _change)
for _name, _change in (
    ("header only", lambda content, random: content.split(b"\n")[0] + b"\n"),
    ("header missing", without_header),
    ("saved as windows-1252", in_1252),
    ("saved as UTF-16", lambda content, random: content.decode().encode("utf-16")),
    ("a byte order mark in front", lambda content, random: b"\xef\xbb\xbf" + content),
    ("a NUL byte", nul_bytes),
    ("a stray quote", a_quote),
    ("a stray line break", a_line_break),
    ("a stray delimiter", a_delimiter),
    ("lines ended as on Windows", lambda content, random: content.replace(b"\n", b"\r\n")),
    ("lines ended as on an old Macintosh", lambda content, random: content.replace(b"\n", b"\r")),
    ("semicolons between the cells", lambda content, random: content.replace(b",", b";")),
    ("tabulators between the cells", lambda content, random: content.replace(b",", b"\t")),
    ("blank lines at the end", lambda content, random: content + b"\n\n\n"),
    ("a blank line in the middle", lambda content, random: content.replace(b"\n", b"\n\n", 2)),
    ("every cell in quotes", in_quotes),
    ("a remark behind a number sign", with_comment),
    ("without the last line's end", lambda content, random: content.rstrip(b"\n")),
    ("a title above the header", lambda content, random: b"The crosswalk\n" + content),
):
    seed_bytes(_name, _change)


@kind("crosswalk", "file: missing")
def seed_missing(survey: Survey, random: Random) -> Change:
    seed = random.choice(survey.seed_names())
    (survey.seeds_dir / f"{seed}.csv").unlink()
    return Change(f"{seed}.csv: missing", (seed,))


@kind("crosswalk", "file: one more")
def seed_more(survey: Survey, random: Random) -> Change:
    name = random.choice(
        ["notes", "estimates", "Waves", "x'; drop", "<b>", "{{ 7*7 }}", "=cmd", "a b", "waves.old", "é"]
    )
    shutil.copy(survey.seeds_dir / "waves.csv", survey.seeds_dir / f"{name}.csv")
    return Change(f"{name}.csv: more than the crosswalk has", (name,))
