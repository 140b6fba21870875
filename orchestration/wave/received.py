"""What the files of a wave hold, and what the crosswalk says of them, read side by side.

Belongs here: landing registered files where nobody else looks, reading the seeds. Does not: comparing the two (check)
or guessing one from the other (draft).
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestration.errors import Refusal
from orchestration.registry import RawFile, read_registry
from orchestration.settings import Settings

if TYPE_CHECKING:
    import duckdb

Row = dict[str, str]


def registered(settings: Settings, wave: int) -> list[RawFile]:
    """The registered files of a wave. Raises Refusal where there are none."""
    files = read_registry(settings.registry)
    if found := [file for file in files if file.wave == wave]:
        return found
    waves = ", ".join(str(year) for year in sorted({file.wave for file in files}))
    raise Refusal(
        f"No file of wave {wave} is registered; registered are {waves}.",
        [f"Put its files below {settings.raw_dir} and run `cmhs wave register {wave} FILE...`."],
    )


def wave_before(settings: Settings, wave: int) -> int | None:
    """The last registered wave before this one, or None where it is the first."""
    return max((file.wave for file in read_registry(settings.registry) if file.wave < wave), default=None)


@contextmanager
def landed(settings: Settings, waves: Sequence[int]) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A database in memory with these waves as a refresh lands them.

    Tables raw.responses_<wave> and raw.sampled_<wave> (one row per row of the file, text), raw.variables,
    raw.value_labels and raw.files. Raises Refusal where a file is missing, altered or cannot be read.
    """
    import duckdb

    from orchestration.ingest import land_wave

    with duckdb.connect() as connection:
        for wave in waves:
            land_wave(connection, settings.raw_dir, registered(settings, wave))
        yield connection


def seed_rows(settings: Settings, seed: str, wave: int | None = None) -> list[Row]:
    """The rows of a seed of the crosswalk as text, of one wave only where it is given.

    Raises Refusal where the seed is missing or no UTF-8 CSV file.
    """
    path = settings.seeds_dir / f"{seed}.csv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except FileNotFoundError:
        raise Refusal(f"The crosswalk has no {path.name}; expected it in {settings.seeds_dir}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(f"{path.name} is not a UTF-8 CSV file: {error}.") from None
    return [row for row in rows if wave is None or row["survey_year"] == str(wave)]
