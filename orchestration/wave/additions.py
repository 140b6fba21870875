"""Rows added to the project's own CSVs: all files or none, and every line that was there stays as it was.

Belongs here: where a row goes, how it is quoted, writing. Does not: which rows (register, draft).
"""

import csv
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestration.errors import Refusal

# The registry and the crosswalk are sorted by their first column, but for these.
SORTED_BY = {"comparability": ("question_id", "from_year", "to_year")}


def with_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> bytes:
    """The file with these rows in their places, each after the last line that it does not sort before.

    Rows that sort alike keep their order. Raises Refusal where the file is no CSV or has other columns than the rows.
    """
    content = path.read_bytes()
    try:
        lines = content.decode("utf-8").split("\n")
        lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        reader = csv.reader(lines, strict=True)
        header = [name.removeprefix("\ufeff") for name in next(reader, [])]
        places = [(reader.line_num, [""] * len(header))]
        places += [(reader.line_num, cells) for cells in reader if cells]  # A blank line is no row.
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{path.name} is not a UTF-8 CSV file: {error}.") from None
    for row in rows:
        if set(row) != set(header):
            raise Refusal(f"{path.name} has the columns {', '.join(header)}; expected {', '.join(row)}.")
    end = "\r\n" if lines[0].endswith("\r\n") else "\n"
    if not lines[-1].endswith("\n"):
        lines[-1] += end
    by = [header.index(name) for name in SORTED_BY.get(path.stem, header[:1])]

    def key(cells: Sequence[str]) -> tuple[tuple[int, str], ...]:
        return tuple((int(cells[at]), "") if cells[at].isdecimal() else (0, cells[at]) for at in by)

    added: dict[int, list[list[str]]] = {}
    for cells in sorted(([row[name] for name in header] for row in rows), key=key):
        after = max(line for line, other in places if line == places[0][0] or key(other) <= key(cells))
        added.setdefault(after, []).append(cells)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    for number, line in enumerate(lines, start=1):
        text.write(line)
        writer.writerows(added.get(number, []))
    return text.getvalue().encode("utf-8")


def write(files: Mapping[Path, bytes]) -> None:
    """Put the files in place of those that are there, if any. Where one cannot be written all stay as they were."""
    # A link stays one: what it leads to is replaced.
    places = {path.resolve(): content for path, content in files.items()}
    before = {path: path.read_bytes() if path.exists() else None for path in places}
    aside = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in places}
    switched: list[Path] = []
    try:
        for path, content in places.items():
            aside[path].write_bytes(content)
            if before[path] is not None:
                shutil.copymode(path, aside[path])
        for path in places:
            switched.append(path)
            aside[path].replace(path)
    except BaseException:
        for path in switched:
            if (old := before[path]) is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(old)
        raise
    finally:
        for path in aside.values():
            path.unlink(missing_ok=True)
