"""The survey that is tortured: two waves and a few hundred respondents, small enough to be refreshed hundreds of times.

It is the hand-worked survey with every person there several times under a record number of its own, so that its
crosswalk and the figures it is reconciled with hold as they are; one bound is wider, see WEIGHTING_EFFECT_2013.
"""

import csv
import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat

from orchestration import release
from orchestration.comparison import redelivered
from orchestration.errors import Refusal
from orchestration.registry import read_registry
from orchestration.settings import Settings

HAND_WORKED = Path(__file__).resolve().parent.parent / "fixtures" / "hand_worked"
# 48 and 45 useable forms, so many times.
COPIES = 6
# A question that 12 persons answered in 2013 is hidden in the hand-worked survey. Six times as many are shown, and
# weighting moves their answers by 11 points; the hand-worked bound of 8 was never put to them.
WEIGHTING_EFFECT_2013 = "12"


def make_survey(folder: Path, copies: int = COPIES) -> tuple[Path, Path]:
    """Raw files (with their registry) and crosswalk in two new folders below `folder`; their paths."""
    raw = Path(shutil.copytree(HAND_WORKED / "raw", folder / "raw"))
    seeds = Path(shutil.copytree(HAND_WORKED / "seeds", folder / "seeds"))
    registry = read_rows(raw / "registry.csv")
    for file in registry:
        path = raw / file["path"]
        if file["format"] == "sav":
            _replicate_spss(path, copies)
        elif file["role"] == "responses":
            forms = read_rows(path, "cp1252")
            # Forms that came back twice for one person do so in each copy.
            write_rows(
                path, [form | {"RecNo": f"{n}{form['RecNo']}"} for n in range(copies) for form in forms], "cp1252"
            )
        elif file["role"] == "sampled":
            cells = read_rows(path, "cp1252")
            write_rows(path, [cell | {"Persons": str(int(cell["Persons"]) * copies)} for cell in cells], "cp1252")
        file |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": str(path.stat().st_size)}
    write_rows(raw / "registry.csv", registry)
    waves = read_rows(seeds / "waves.csv")
    waves[0]["maximum_weighting_effect"] = WEIGHTING_EFFECT_2013
    write_rows(seeds / "waves.csv", waves)
    return raw, seeds


def _replicate_spss(path: Path, copies: int) -> None:
    frame, meta = pyreadstat.read_sav(path, user_missing=True)
    frames = [frame.assign(recno=frame["recno"].map(lambda number, n=n: f"{n}{number}")) for n in range(copies)]
    pyreadstat.write_sav(
        pd.concat(frames, ignore_index=True),
        path,
        column_labels=meta.column_names_to_labels,
        variable_value_labels=meta.variable_value_labels,
        missing_ranges=meta.missing_ranges,
        variable_measure=meta.variable_measure,
    )


def review_deliveries(settings: Settings) -> None:
    """Have revisions.csv allow the files that are registered now, whichever of the releases is in print.

    It then holds no other row of a release: where files are registered several times before one is published, the
    rows do not pile up.
    """
    path = settings.seeds_dir / "revisions.csv"
    header = path.read_text(encoding="utf-8").splitlines()[0]
    rows = [row for row in read_rows(path) if not release.RELEASE_ID.fullmatch(row["vintage"])]
    files = [
        asdict(file) | {"survey_year": file.wave, "file_role": file.role} for file in read_registry(settings.registry)
    ]
    for folder in release.releases(settings):
        try:
            found = redelivered(folder, files)
        except Refusal:
            continue  # A damaged release is not held against anything.
        for again in found:
            row = dict.fromkeys(header.split(","), "") | {"survey_year": str(again.survey_year), "vintage": folder.name}
            reason = " ".join(["delivered again:", *again.digits])
            rows.append(row | {"reason": reason, "reviewer": "A. Reviewer", "reviewed_on": "2026-11-01"})
    path.write_text(header + "\n", encoding="utf-8")
    if rows:
        write_rows(path, rows)


def read_rows(path: Path, encoding: str = "utf-8") -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, Any]], encoding: str = "utf-8") -> None:
    """Make a CSV file of rows; the columns are those of the first."""
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
