"""Writes what was invented: the yearly files, their registry, and the ledgers of what is in them.

Belongs here: formats, encodings and column names. Contents are settled before this is called, save the stray
white space of text cells. The same input gives the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
from dirt import EMPTY, MISSING_CODE, Log, Rows, stray_spaces
from instrument import BANDS, BLANK, GENDERS, UNDER, Wave
from population import RETURNED

OUTCOMES = ("", "returned", "undelivered", "died", "too_ill_or_opted_out", "not_eligible", "not_returned")
LICENCE, PROVENANCE = "MIT (synthetic)", "synthetic"


# ---- columns as text ----
def _code_of(wave: Wave, column: pd.Series) -> dict[str, str]:
    codes = wave.value_sets[column["option_set"]]
    return dict(zip(codes["answer"], codes["code"], strict=True))


def _key_text(wave: Wave, column: pd.Series, keys: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """One key variable of the responses file as text."""
    item = column["item"]
    codes = wave.trusts["code"].to_numpy()[keys["trust"]]
    if item == "trust":
        return codes
    if item == "trust_name":
        return wave.trusts["name"].to_numpy()[keys["trust"]]
    if item == "record":
        number = keys["record"].astype(str).to_numpy()
        return number if wave.facts["record_style"] == "number" else codes + number
    code = _code_of(wave, column)
    missing = code.get("missing", "")
    hidden = np.where(rng.random(len(keys)) < 0.5, missing, "")
    if item == "outcome":
        return np.array([code.get(name, "") for name in OUTCOMES])[keys["outcome"]]
    if item == "frame_gender":
        return np.where(keys["frame_gender"] < 0, hidden, _gender(code, keys["frame_gender"]))
    if item == "questionnaire_gender":
        own = keys["own_gender"].to_numpy()
        return np.select([own == -1, own == -2], ["", missing], _gender(code, own))
    if item == "frame_age":
        if column["measured_as"] == "years":
            years = keys["frame_age"].astype(str).to_numpy()
            return np.where(keys["frame_no_age"], hidden, years)
        band = keys["frame_band"].to_numpy()
        known = np.array([code[name] for name in BANDS])[np.maximum(band, 0)]
        return np.select([band == UNDER, band < 0], [code.get("under_minimum", ""), missing], known)
    age = keys["own_age"].to_numpy()
    if column["measured_as"] == "birth_year":
        age = int(wave.facts["age_reference_year"]) - age
    state = keys["own_age_state"].to_numpy()
    return np.select([state == EMPTY, state == MISSING_CODE], ["", missing], age.astype(str))


def _gender(code: dict[str, str], gender: pd.Series) -> np.ndarray:
    return np.array([code.get(name, "") for name in GENDERS])[np.maximum(np.asarray(gender), 0)]


def _ignored_text(wave: Wave, column: pd.Series, keys: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """One column the warehouse has no use for."""
    size = len(keys)
    if column["option_set"] == "date":
        day = np.datetime64(f"{wave.year}-02-20") + rng.integers(0, 110, size)
        text = day.astype(str)
    elif column["option_set"] == "batch":
        text = np.char.add("B", rng.integers(101, 180, size).astype(str))
    else:
        codes = wave.value_sets[column["option_set"]]["code"].to_numpy().astype(str)
        text = codes[np.minimum(rng.integers(0, len(codes), size), rng.integers(0, len(codes) + 1, size))]
        blank = 0.72 if column["option_set"] == "tick" else 0.04
        text = np.where(rng.random(size) < blank, "", text)
    return np.where(keys["outcome"] == RETURNED, text, "")


def responses_as_text(wave: Wave, rows: Rows, rng: np.random.Generator) -> pd.DataFrame:
    """The responses file as text, blanks as empty text."""
    result = {}
    for column in wave.columns.query("file_role == 'responses'").to_dict("records"):
        if column["kind"] == "question":
            codes = np.array([*wave.options[column["item"]].codes, ""])
            values = rows.answers[column["item"]]
            text = codes[np.where(values == BLANK, len(codes) - 1, values)]
        elif column["kind"] == "key":
            text = _key_text(wave, column, rows.keys, rng)
        else:
            text = _ignored_text(wave, column, rows.keys, rng)
        result[column["raw_column"]] = np.asarray(text, dtype=object)
    return pd.DataFrame(result)


def sampled_as_text(wave: Wave, people: pd.DataFrame) -> pd.DataFrame:
    """Persons drawn by trust, age band, gender and outcome, coded as this wave codes them."""
    columns = {c["item"]: c for c in wave.columns.query("file_role == 'sampled'").to_dict("records")}
    counts = people.groupby(["trust", "frame_band", "frame_gender", "outcome"]).size().reset_index(name="persons")
    age, gender = _code_of(wave, columns["frame_age"]), _code_of(wave, columns["frame_gender"])
    outcome = _code_of(wave, columns["outcome"])
    band = counts["frame_band"].to_numpy()
    table = {
        "trust": wave.trusts["code"].to_numpy()[counts["trust"]],
        "frame_age": np.where(
            band == UNDER,
            age.get("under_minimum", ""),
            np.where(band < 0, age["missing"], np.array([age[name] for name in BANDS])[np.maximum(band, 0)]),
        ),
        "frame_gender": np.where(
            counts["frame_gender"] < 0, gender["missing"], _gender(gender, counts["frame_gender"])
        ),
        "outcome": np.array([outcome.get(name, "") for name in OUTCOMES])[counts["outcome"]],
        "persons": counts["persons"].astype(str).to_numpy(),
    }
    return pd.DataFrame({c["raw_column"]: np.asarray(table[item], dtype=object) for item, c in columns.items()})


# ---- labels ----
def value_labels(wave: Wave) -> dict[str, dict[str, str]]:
    """Raw column -> code -> label, as the file declares them."""
    result = {}
    for column in wave.columns.query("file_role == 'responses'").to_dict("records"):
        if column["kind"] == "question":
            options = wave.options[column["item"]]
            labels = {
                c: text for c, text, told in zip(options.codes, options.labels, options.declared, strict=True) if told
            }
        elif column["option_set"] in wave.value_sets:
            codes = wave.value_sets[column["option_set"]]
            labels = dict(zip(codes["code"], codes["label"], strict=True))
        else:
            continue
        result[column["raw_column"]] = labels
    return result


def codebook(wave: Wave) -> pd.DataFrame:
    """The labels of a text file, one row a code, one row a column without codes."""
    labels = value_labels(wave)
    lines = []
    for column in wave.columns.query("file_role == 'responses'").to_dict("records"):
        name = column["raw_column"]
        for code, text in labels.get(name, {"": ""}).items():
            lines.append((name, column["label"], code, text))
    return pd.DataFrame(lines, columns=["variable", "label", "code", "value_label"])


# ---- formats ----
def _write_text(table: pd.DataFrame, path: Path, file_format: str, encoding: str) -> None:
    table.to_csv(
        path,
        index=False,
        sep="\t" if file_format == "tab" else ",",
        quoting=csv.QUOTE_NONE if file_format == "tab" else csv.QUOTE_MINIMAL,
        encoding=encoding,
        lineterminator="\r\n" if encoding == "windows-1252" else "\n",
    )


def _text_columns(wave: Wave) -> list[str]:
    columns = wave.columns.query("file_role == 'responses'")
    text = columns["option_set"].isin(["text", "date", "batch"])
    names = list(columns[text]["raw_column"])
    if wave.facts["record_style"] == "number":
        names.remove(wave.key("record")["raw_column"])
    return names


def _write_sav(wave: Wave, table: pd.DataFrame, path: Path) -> None:
    words = _text_columns(wave)
    data = pd.DataFrame({n: table[n] if n in words else pd.to_numeric(table[n]).astype(float) for n in table})
    labels = {n: {float(c): t for c, t in codes.items()} for n, codes in value_labels(wave).items()}
    missing = {}
    if wave.facts["user_missing"]:
        low, high = (float(part) for part in wave.facts["user_missing"].split("-"))
        asked = wave.columns.query("kind == 'question'")["raw_column"]
        missing = {name: [{"lo": low, "hi": high}] for name in asked}
    pyreadstat.write_sav(
        data,
        path,
        file_label=wave.facts["wave_label"],
        column_labels=list(wave.columns.query("file_role == 'responses'")["label"]),
        variable_value_labels=labels,
        missing_ranges=missing,
        variable_format={n: "F5.0" for n in table if n not in words},
        row_compress=True,
    )
    with path.open("r+b") as handle:  # date and time of writing, fixed: same input, same bytes
        handle.seek(92)
        handle.write(f"01 Nov {wave.year % 100:02d}09:00:00".encode("ascii"))


def _write_dta(wave: Wave, table: pd.DataFrame, path: Path) -> None:
    words = _text_columns(wave)
    data = {}
    for name in table:
        if name in words:
            data[name] = table[name]
        else:
            values = pd.to_numeric(table[name])
            small = values.min() >= -127 and values.max() <= 100
            data[name] = values.astype("Int8" if small else "Int16")
    pd.DataFrame(data).to_stata(
        path,
        write_index=False,
        version=118,
        time_stamp=pd.Timestamp(wave.year, 11, 1, 9, 0),
        data_label=wave.facts["wave_label"],
        variable_labels=dict(wave.columns.query("file_role == 'responses'")[["raw_column", "label"]].values.tolist()),
        value_labels={n: {int(c): t for c, t in codes.items()} for n, codes in value_labels(wave).items()},
    )


def write_wave(
    wave: Wave, rows: Rows, people: pd.DataFrame, out: Path, log: Log, rng: np.random.Generator
) -> list[dict[str, object]]:
    """All files of a wave; the registry's lines for them."""
    table = responses_as_text(wave, rows, rng)
    trust, record = wave.key("trust")["raw_column"], wave.key("record")["raw_column"]
    file = wave.files.set_index("role")
    response_format = file.loc["responses", "format"]
    spaced = np.flatnonzero(rows.keys["spaced"])
    if wave.facts["record_style"] == "trust_and_number" or response_format in ("tab", "csv"):
        for row in spaced:
            table.at[row, record] = f"{table.at[row, record]} " if row % 2 else f" {table.at[row, record]}"
    log.add(wave.year, "white_space_trust", stray_spaces(table, [trust], 60, rng), "around the trust code")
    if response_format in ("tab", "csv"):
        questions = list(wave.columns.query("kind == 'question'")["raw_column"])
        others = list(wave.columns.query("kind == 'key' and file_role == 'responses'")["raw_column"])
        others = [name for name in others if name not in (trust, record)]
        log.add(
            wave.year,
            "white_space_record",
            stray_spaces(table, [record], 60, rng),
            "around the record number",
        )
        count = stray_spaces(table, questions, 500, rng)
        log.add(wave.year, "white_space_code", count, "around codes, some of blank cells (white space alone)")
        log.add(wave.year, "white_space_key", stray_spaces(table, others, 60, rng), "around other key variables")
    lines = []
    for role in ("codebook", "responses", "sampled"):
        if role not in file.index:
            continue
        facts = file.loc[role]
        path = out / facts["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if role == "codebook":
            _write_text(codebook(wave), path, facts["format"], facts["encoding"])
        elif role == "sampled":
            counts = sampled_as_text(wave, people)
            if facts["format"] == "tab":
                spaces = stray_spaces(counts, [counts.columns[0]], 20, rng)
                log.add(wave.year, "white_space_sampled", spaces, "around trust codes of the sampled file")
            _write_text(counts, path, facts["format"], facts["encoding"])
        elif facts["format"] == "sav":
            _write_sav(wave, table, path)
        elif facts["format"] == "dta":
            _write_dta(wave, table, path)
        else:
            _write_text(table, path, facts["format"], facts["encoding"])
        content = path.read_bytes()
        lines.append(
            {
                "wave": wave.year,
                "path": facts["path"],
                "role": role,
                "format": facts["format"],
                "encoding": facts["encoding"],
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "study_number": facts["study_number"],
                "edition": facts["edition"],
                "licence": LICENCE,
                "provenance": PROVENANCE,
            }
        )
    return lines


def write_csv(lines: list, path: Path, columns: list[str] | None = None) -> None:
    """A small table as CSV."""
    pd.DataFrame(lines, columns=columns).to_csv(path, index=False, lineterminator="\n")
