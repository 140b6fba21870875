"""What is left to do about a new wave: its files and the crosswalk side by side, and beside the wave before.

Belongs here: what is worth a person's look, in which order and words. Does not: the rules that a build is held to -
they are the checks of dbt_project/tests, run here on a database in memory (rehearsal) - or the test of shares (shifts).
"""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from orchestration.errors import Refusal
from orchestration.registry import RawFile
from orchestration.settings import EXPECTATIONS_DIR, Settings
from orchestration.wave.draft import KEYS, next_wave
from orchestration.wave.guess import alike, plain
from orchestration.wave.received import Row, in_one_line, landed, registered, seed_rows, wave_before
from orchestration.wave.rehearsal import Found, Rehearsal
from orchestration.wave.shifts import Share, clear, standard_errors

if TYPE_CHECKING:
    import duckdb

Level = Literal["blocks", "look", "know"]
HEADINGS: dict[Level, str] = {
    "blocks": "BLOCKS A RELEASE",
    "look": "LOOK AT",
    "know": "GOOD TO KNOW",
}
# Of a long list so many are printed; --json has all.
SHOWN = 8
# Labels of one question differ by a word or two from wave to wave (guess.alike, 0 to 100) ...
ALIKE = 60
# ... and a label that is that much closer to another question probably is its label.
CLOSER = 15
# So close that it is taken for the same column.
SAME = 90
OFFERED = ("answered", "dont_know", "not_applicable")
# Stands in a line to add for what only a person knows.
OPEN = "?"

# The checks of dbt_project/tests that say what a wave lacks: what they find, and the seed to look into.
TITLES = {
    "every_wave_is_registered": ("wave", "The wave and its files do not go together", "waves"),
    "age_bands_follow_each_other": ("wave", "Age bands with gaps or overlaps", "age_bands"),
    "every_wave_has_its_key_variables": ("columns", "Key variables that are missing", "key_variables"),
    "every_raw_column_is_mapped_or_ignored": ("columns", "Columns neither mapped nor ignored", "ignored_columns"),
    "every_mapped_column_is_there_once": ("columns", "Columns named twice, or not in the file", "question_map"),
    "every_code_is_mapped": ("codes", "Codes without a response", "response_map"),
    "every_key_code_is_mapped": ("codes", "Codes of key variables", "key_codes"),
    "every_response_map_row_is_used": ("codes", "Rows whose code the file does not have", "response_map"),
    "every_response_is_known": ("codes", "Responses that nobody knows", "response_map"),
    "key_code_values_are_known": ("codes", "Values of key codes that nobody knows", "key_codes"),
    "response_map_labels_are_those_of_the_file": ("labels", "The file calls a code otherwise", "response_map"),
    "key_codes_agree_with_value_labels": ("labels", "The file calls a key code otherwise", "key_codes"),
    "every_correction_matches": ("codes", "Corrections that are not in order", "corrections"),
    "routing_matches_the_crosswalk": ("codes", "Routing that leads nowhere", "routing"),
    "every_trust_has_one_name": ("trusts", "Trusts with several names", "key_variables"),
    "every_trust_has_respondents_and_a_sample": ("sample", "Trusts without respondents, or without a sample", ""),
    "no_cell_has_fewer_sampled_than_responded": ("sample", "Weight cells with more respondents than drawn", ""),
    "every_weight_cell_can_carry_a_weight": ("sample", "Weight cells that cannot carry a weight", ""),
    "every_stratum_has_two_respondents": ("sample", "Trusts with a single respondent", "merged_strata"),
    "merged_strata_name_trusts_of_the_wave": ("sample", "Merged strata of no trust", "merged_strata"),
    "every_draft_is_reviewed": ("review", "Drafted rows that nobody has reviewed", "drafts"),
    "comparability_covers_every_pair_of_waves": ("review", "Questions without a verdict", "comparability"),
    "every_question_has_an_expected_base": ("review", "Questions without a smallest believable base", "expected_rows"),
}  # fmt: skip
TOPICS = ("wave", "columns", "codes", "labels", "options", "sample", "trusts", "distributions", "review", "series")
# What the gate holds the same tables to: a suite of expectations, what in its rows is bounded, by which cell of waves.
BOUNDS = {
    "exclusions": [
        ("pct_not_readable", "<=", "maximum_unreadable", "percent of the answers have two ticks or are out of range"),
        ("pct_duplicate", "<=", "maximum_duplicates", "percent of the rows are duplicates"),
    ],
    "response_rates": [
        ("response_rate", ">=", "minimum_response_rate", "percent of the persons drawn responded"),
        ("response_rate", "<=", "maximum_response_rate", "percent of the persons drawn responded"),
        ("trusts", ">=", "minimum_trusts", "trusts"),
        ("trusts", "<=", "maximum_trusts", "trusts"),
    ],
}


@dataclass(frozen=True)
class Entry:
    """One thing to do or to know: where, what was found, what was expected, what to do, the lines to add to which file.

    A `?` in a line stands for what only a person knows.
    """

    level: Level
    topic: str
    title: str
    where: str
    found: str
    expected: str
    to_do: str
    add: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Checked:
    """The work list of a wave: first what blocks a release, then what must be looked at, then what is good to know."""

    wave: int
    wave_before: int | None
    files: list[str]
    entries: list[Entry]

    @property
    def counts(self) -> dict[str, int]:
        """How many entries of each level there are."""
        found = Counter(entry.level for entry in self.entries)
        return {level: found[level] for level in HEADINGS}

    @property
    def blocks(self) -> bool:
        """Whether a release would be refused."""
        return bool(self.counts["blocks"])


def check(settings: Settings, wave: int) -> Checked:
    """Compare the files of a wave with the crosswalk and with the wave before; nothing is written.

    Raises Refusal where the wave is not registered, a file is missing or altered, or a seed cannot be read.
    """
    from orchestration.ingest import unite_waves

    files = registered(settings, wave)
    before = wave_before(settings, wave)
    waves = [year for year in (before, wave) if year is not None]
    with landed(settings, waves) as connection:
        unite_waves(connection, waves)
        look = _Look(settings, connection, wave, before, files)
        entries = [_in_one_line(entry) for entry in _all(look)]
    order = {level: place for place, level in enumerate(HEADINGS)}
    entries.sort(key=lambda entry: (order[entry.level], TOPICS.index(entry.topic)))
    return Checked(wave, before, [file.path for file in files], entries)


def as_document(checked: Checked) -> dict[str, Any]:
    """The whole list as plain data."""
    return {
        "survey_year": checked.wave,
        "wave_before": checked.wave_before,
        "files": checked.files,
        "counts": checked.counts,
        "entries": [
            asdict(entry) | {"add": [{"file": file, "line": line} for file, line in entry.add]}
            for entry in checked.entries
        ],
    }


def in_words(checked: Checked) -> str:
    """The list as it is printed: entries of one kind together, long ones cut short."""
    against = f"against wave {checked.wave_before}" if checked.wave_before else "the first wave"
    parts = [f"Wave {checked.wave} ({', '.join(checked.files)}), {against}"]
    for level, heading in HEADINGS.items():
        entries = [entry for entry in checked.entries if entry.level == level]
        if entries:
            parts.append(f"{heading} ({len(entries)})")
        groups: dict[str, list[Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.title, []).append(entry)
        parts += [_group_in_words(title, group) for title, group in groups.items()]
    counts = checked.counts
    verdict = (
        f"{counts['blocks']} block a release, {counts['look']} to look at, {counts['know']} good to know"
        if checked.blocks
        else f"Nothing of the crosswalk blocks a release; {counts['look']} to look at, {counts['know']} good to know"
    )
    return "\n\n".join([*parts, verdict + "."])


def _group_in_words(title: str, entries: Sequence[Entry]) -> str:
    # What most have in common is said once.
    said = {
        name: Counter(getattr(entry, name) for entry in entries).most_common(1)[0][0]
        for name in ("where", "expected", "to_do")
    }
    lines = [f"  {title}" + (f" ({len(entries)})" if len(entries) > 1 else "")]
    lines[0] += f" - {said['where']}" if said["where"] else ""
    words = {"expected": "expected", "to_do": "to do"}
    lines += [f"    {word}: {said[name]}" for name, word in words.items() if said[name]]
    for entry in entries[:SHOWN]:
        place = f"{entry.where}: " if entry.where not in ("", said["where"]) else ""
        lines.append(f"    - {place}{entry.found}")
        for name, word in words.items():
            if (text := getattr(entry, name)) and text != said[name]:
                lines.append(f"      {word}: {text}")
        lines += [f"      {file}: {line}" for file, line in entry.add]
    if len(entries) > SHOWN:
        lines.append(f"    ... and {len(entries) - SHOWN} more (--json shows all)")
    return "\n".join(lines)


def _line(seed: str, *cells: object) -> tuple[str, str]:
    """A line to add to a seed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if cell is None else cell for cell in cells])
    return f"{seed}.csv", text.getvalue()


@dataclass
class _Look:
    """All that is looked at: the landed files, their codebooks, the crosswalk, the checks of dbt on them."""

    settings: Settings
    connection: "duckdb.DuckDBPyConnection"
    wave: int
    before: int | None
    files: list[RawFile]

    def __post_init__(self) -> None:
        waves = [year for year in (self.before, self.wave) if year is not None]
        self.rehearsal = Rehearsal(self.connection, self.settings, waves)
        self.columns: dict[tuple[int, str], dict[str, Found]] = defaultdict(dict)
        for column in self.rehearsal.query("select * from raw.variables order by all"):
            key = (column["survey_year"], column["file_role"])
            self.columns[key][column["raw_column"].strip().lower()] = column
        self.value_labels: dict[tuple[int, str, str], dict[str, tuple[str, str]]] = defaultdict(dict)
        for row in self.rehearsal.query(
            "select *, trim(code) as trimmed, {{ shown_code('trim(code)') }} as shown from raw.value_labels"
        ):
            key_of_column = (row["survey_year"], row["file_role"], row["raw_column"].strip().lower())
            self.value_labels[key_of_column][row["trimmed"]] = (row["shown"], row["label"])
        self.mapped = {year: {row["question_id"]: row for row in self.rows("question_map", year)} for year in waves}
        self.smallest = int(self.rehearsal.variables["minimum_published_cell"])

    def rows(self, seed: str, year: int | None) -> list[Row]:
        """The rows of a seed about a wave; none where there is no such wave."""
        return [] if year is None else seed_rows(self.settings, seed, year)

    @cached_property
    def options(self) -> dict[tuple[int, str], dict[str, Found]]:
        """What the file, or else the crosswalk, calls each code of a mapped question, and what is done with it."""
        rows = self.rehearsal.query(
            """
            with declared as (
                select q.survey_year, q.question_id, trim(l.code) as code, max(l.label) as label
                from {{ ref('question_map') }} as q
                inner join raw.value_labels as l
                    on q.survey_year = l.survey_year and lower(trim(q.raw_column)) = lower(trim(l.raw_column))
                where l.file_role = 'responses'
                group by all
            ),
            labelled as (
                select
                    survey_year, question_id, code, r.treatment, r.response, coalesce(d.label, r.label) as label
                from declared as d full join {{ ref('response_map') }} as r using (survey_year, question_id, code)
            )
            select
                *,
                {{ shown_code('code') }} as shown,
                {{ letters_and_digits('label') }} as text
            from labelled
            order by survey_year, question_id, try_cast(code as double), code
            """
        )
        options: dict[tuple[int, str], dict[str, Found]] = defaultdict(dict)
        for row in rows:
            options[row["survey_year"], row["question_id"]][row["code"]] = row
        return options

    @cached_property
    def occurring(self) -> set[tuple[str, str]]:
        """The codes that occur in this wave, with their questions."""
        rows = self.rehearsal.query(
            "select distinct question_id, code from {{ ref('int_response_counts') }} "
            f"where survey_year = {self.wave} and question_id is not null and code is not null"
        )
        return {(row["question_id"], row["code"]) for row in rows}

    @cached_property
    def statuses(self) -> dict[str, int]:
        """How many rows of the wave's file have which status, the most frequent first; `counted` are respondents."""
        rows = self.rehearsal.query(
            "select coalesce(person_status, 'counted') as status, sum(n) as n from {{ ref('int_response_counts') }} "
            f"where survey_year = {self.wave} and question_id is null group by all order by n desc, status"
        )
        return {row["status"]: int(row["n"]) for row in rows}

    @cached_property
    def verdicts(self) -> dict[str, bool]:
        """Whether a question is comparable with the wave before, where somebody has said so."""
        return {
            row["question_id"]: row["comparable"] == "true"
            for row in seed_rows(self.settings, "comparability")
            if (row["from_year"], row["to_year"]) == (str(self.before), str(self.wave))
        }

    def of_wave(self, rows: Sequence[Found]) -> list[Found]:
        """Those of a check's rows that are about this wave, or about none."""
        return [row for row in rows if row.get("survey_year", row.get("to_year")) in (None, self.wave)]

    def label_of(self, year: int, role: str, raw_column: str) -> str:
        """The label that a file gives to a column; empty where there is none."""
        return (self.columns[year, role].get(raw_column.strip().lower()) or {}).get("label") or ""

    def has_header(self, role: str) -> bool:
        """Whether the names of a file's columns are names: SPSS and Stata keep them apart, of a text file with an
        unknown first line most are known to its codebook or to the wave before.
        """  # fmt: skip
        columns = self.columns[self.wave, role]
        if any(file.role == role and file.format in ("sav", "dta") for file in self.files):
            return True
        known = {name for name, column in columns.items() if column["label"]} | self.columns[
            self.before or 0, role
        ].keys()
        return len(columns.keys() & known) >= len(columns) / 2

    def same_column(self, role: str, name: str, label: str) -> tuple[str, Row | None]:
        """The seed and row of the wave before for what seems to be the same column, by its label, else its name."""
        taken = {
            row.get("question_id") or row["variable"]
            for seed in ("question_map", "key_variables")
            for row in self.rows(seed, self.wave)
            if row.get("file_role", "responses") == role
        }
        best: tuple[float, bool, str, Row | None] = (0, False, "", None)
        for seed in ("question_map", "key_variables", "ignored_columns"):
            for row in self.rows(seed, self.before):
                if (
                    row.get("file_role", "responses") != role
                    or (row.get("question_id") or row.get("variable")) in taken
                ):
                    continue
                last = self.label_of(self.before or 0, role, row["raw_column"])
                same_name = row["raw_column"].strip().lower() == name.strip().lower()
                score = alike(label, last) if label and last else 100.0 if same_name else 0.0
                if score >= SAME and (score, same_name) > best[:2]:
                    best = (score, same_name, seed, row)
        return best[2], best[3]

    def renamed(self, role: str, seed: str, mapped: Row) -> str | None:
        """The column of this wave that is not mapped and has the label which a row's column had in the wave before."""
        key = "question_id" if seed == "question_map" else "variable"
        last = next(
            (
                row
                for row in self.rows(seed, self.before)
                if row.get(key) == mapped.get(key) and row.get("file_role", "responses") == role
            ),
            None,
        )
        label = self.label_of(self.before or 0, role, last["raw_column"]) if last and key in mapped else ""
        known = {
            row["raw_column"].strip().lower()
            for name in ("question_map", "key_variables", "ignored_columns")
            for row in self.rows(name, self.wave)
            if row.get("file_role", "responses") == role
        }
        scored = [
            (alike(label, column["label"]), column["raw_column"])
            for name, column in self.columns[self.wave, role].items()
            if label and column["label"] and name not in known
        ]
        score, name = max(scored, default=(0, ""))
        return str(name) if score >= SAME else None

    def line_of_option(self, question: str, code: str, option: Found | None) -> tuple[str, str]:
        """The line of response_map for a code: as in the wave before where its label, or without one its code, was."""
        label = option["label"] if option else None
        before = self.options.get((self.before or 0, question), {})
        same = [last for last in before.values() if option and last["text"] == option["text"]]
        if not label and code in before:
            same = [before[code]]
            label = before[code]["label"]
        treatment, response = (same[0]["treatment"], same[0]["response"]) if same else (OPEN, OPEN)
        return _line("response_map", self.wave, question, code, treatment, response, label or OPEN)

    def value_before(self, role: str, variable: str, raw_column: str, code: str) -> str | None:
        """What a code of a key variable meant in the wave before, by its label, or without one by the code."""
        _, label = self.value_labels[self.wave, role, raw_column.strip().lower()].get(code, ("", ""))
        column = next(
            (
                row["raw_column"].strip().lower()
                for row in self.rows("key_variables", self.before)
                if (row["file_role"], row["variable"]) == (role, variable)
            ),
            "",
        )
        labels = self.value_labels[self.before or 0, role, column]
        for row in self.rows("key_codes", self.before):
            if (row["file_role"], row["variable"]) == (role, variable):
                _, last = labels.get(row["code"], ("", ""))
                if plain(last) == plain(label) if last and label else row["code"] == code and not (last or label):
                    return row["value"]
        return None

    def place(self, role: str) -> str:
        """The path of the wave's file of a role."""
        return next((file.path for file in self.files if file.role == role), role)

    def persons(self, n: int) -> str:
        """A number of persons as it may be printed."""
        return f"{n:,}" if n >= self.smallest or n == 0 else f"fewer than {self.smallest}"


def _all(look: _Look) -> Iterator[Entry]:
    needs = look.rehearsal.checks()
    codes = {"responses", "sampled", "stg_responses", "int_response_counts"}
    for name in [name for name, read in needs.items() if not read]:
        yield from _found_by_dbt(look, name)
    yield from _cells(look)
    yield from _age_bands(look)
    yield from _labels_of_columns(look)
    if look.mapped[look.wave]:
        yield from _questions(look)
    else:
        yield Entry(
            "blocks", "wave", "Nothing is mapped yet", "question_map.csv", f"no row of {look.wave}",
            "a row for each question that was asked", f"`cmhs wave init {look.wave}` drafts the rows",
        )  # fmt: skip
    yield from _unlisted(look)
    # It asks the raw files, about rows that are taken out next.
    del needs["every_correction_matches"]
    yield from _found_by_dbt(look, "every_correction_matches")
    yield from _make_buildable(look)
    for name in [name for name, read in needs.items() if read and read <= codes]:
        yield from _found_by_dbt(look, name)
    yield from _options(look)
    yield from _declared_key_codes(look)
    if why := _why_nobody_counts(look):
        yield why
        return
    for name in [name for name, read in needs.items() if not read <= codes]:
        yield from _found_by_dbt(look, name)
    yield from _bounds(look)
    yield from _sample(look)
    yield from _trusts(look)
    yield from _moved_shares(look)


# ---------------------------------------------------------------------------------------- what dbt would find


def _found_by_dbt(look: _Look, name: str) -> Iterator[Entry]:
    """An entry for each row that a check of dbt returns for this wave: it would block."""
    topic, title, seed = TITLES.get(name, ("series", name.replace("_", " ").capitalize(), ""))
    for row in look.of_wave(look.rehearsal.check(name)):
        to_do = str(row.get("what_to_do") or "correct it")
        entry = Entry(
            "blocks",
            topic,
            title,
            f"{seed}.csv" if seed else "",
            _said(look, row),
            look.rehearsal.expected[name],
            to_do,
        )
        yield replace(entry, **(WORDS[name](look, row) if name in WORDS else {}))


def _said(look: _Look, row: Found) -> str:
    """A row of a check in words: its cells, but for the wave and the advice."""
    cells = {name: cell for name, cell in row.items() if name not in ("survey_year", "what_to_do") and cell is not None}
    if "n" in cells:
        cells["n"] = look.persons(int(cells["n"]))
    return ", ".join(f"{name.replace('_', ' ')} {cell}" for name, cell in cells.items())


def _unregistered_wave(look: _Look, row: Found) -> Found:
    roles = {file.role for file in look.files}
    lines = [_line("waves", *next_wave(last, look.wave, roles).values()) for last in look.rows("waves", look.before)]
    missing = "add its row" in row["what_to_do"]
    return {"found": f"wave {look.wave}", "add": tuple(lines) if missing else ()} | (
        {"to_do": "add its row: here that of the wave before; go through every cell"} if missing and lines else {}
    )


def _unmapped_column(look: _Look, row: Found) -> Found:
    role = row["file_role"]
    name, label = row["raw_column"], row["label"] or ""
    if name.startswith("number "):
        position = int(name.removeprefix("number "))
        [column] = [c for c in look.columns[look.wave, role].values() if c["position"] == position]
        if not look.has_header(role):
            return {"where": look.place(role), "found": f"column {name}"}
        name, label = column["raw_column"], column["label"] or ""
    found = f"{name}" + (f" {label!r}" if label else "")
    if codes := look.value_labels[look.wave, role, name.strip().lower()]:
        first = [f"{shown} {text}" for shown, text in list(codes.values())[:SHOWN]]
        found += f" ({'; '.join(first)}{'; ...' if len(codes) > SHOWN else ''})"
    seed, last = look.same_column(role, name, label)
    if last:
        what = last.get("question_id") or last.get("variable") or "ignored"
        found += f"; in {look.before} {what}, as {last['raw_column']}"
        line = _line(seed, *(last | {"survey_year": str(look.wave), "raw_column": name}).values())
    else:
        line = _line("ignored_columns", look.wave, role, name, OPEN)
    return {
        "where": look.place(role),
        "found": found,
        "to_do": "add it to question_map, key_variables or ignored_columns",
        "add": (line,),
    }


def _unusable_column(look: _Look, row: Found) -> Found:
    role, name = row["file_role"], row["raw_column"]
    named = [
        (seed, mapped)
        for seed in ("question_map", "key_variables", "ignored_columns")
        for mapped in look.rows(seed, look.wave)
        if mapped["raw_column"].strip().lower() == name and mapped.get("file_role", "responses") == role
    ]
    what = ", ".join(f"{seed} {m.get('question_id') or m.get('variable') or ''}".strip() for seed, m in named)
    words: Found = {"where": f"{row['seed']}.csv", "found": f"{name} of {look.place(role)} ({what})"}
    if "no such column" in row["what_to_do"] and len(named) == 1 and (better := look.renamed(role, *named[0])):
        seed, mapped = named[0]
        words["found"] += f"; column {better} has the label that it had in {look.before}"
        words["add"] = (_line(seed, *(mapped | {"raw_column": better}).values()),)
    return words


def _unmapped_code(look: _Look, row: Found) -> Found:
    question, code = row["question_id"], row["code"]
    option = look.options[look.wave, question].get(code)
    label = option["label"] if option else None
    words: Found = {
        "where": f"{look.place('responses')}, {row['raw_column']}",
        "found": f"{question}: code {code}" + (f" {label!r}" if label else "") + f", {look.persons(row['n'])} rows",
    }
    if not code.startswith("a text of"):
        words["add"] = (look.line_of_option(question, code, option),)
    return words


def _key_code(look: _Look, row: Found) -> Found:
    if row["code"] is None or row["n"] == 0 or row["code"].startswith("a text of"):
        return {}
    role, variable, code = row["file_role"], row["variable"], row["code"]
    last = look.value_before(role, variable, row["raw_column"], code)
    _, label = look.value_labels[look.wave, role, row["raw_column"].strip().lower()].get(code, ("", ""))
    return {
        "where": f"{look.place(role)}, {row['raw_column']}",
        "found": f"{variable}: code {code}" + (f" {label!r}" if label else "") + f", {look.persons(row['n'])} rows",
        "add": (_line("key_codes", look.wave, role, variable, code, last or OPEN),),
    }


def _other_label(look: _Look, row: Found) -> Found:
    return {
        "found": f"{row['question_id']}: code {row['code']} is {row['label']!r}, in the file {row['label_in_file']!r}"
    }


def _missing_verdict(look: _Look, row: Found) -> Found:
    question, years = row["question_id"], (row["from_year"], row["to_year"])
    if "add the pair" not in row["what_to_do"]:
        return {}
    earlier, later = ({r["question_id"]: r for r in look.rows("question_map", year)}.get(question) for year in years)
    same = bool(
        earlier
        and later
        and earlier["wording_version"] == later["wording_version"]
        and plain(earlier["wording"]) == plain(later["wording"])
    )
    line = _line("comparability", question, *years, *(("true", "same wording") if same else (OPEN, OPEN)))
    return {"found": f"{question}, from {years[0]} to {years[1]}", "add": (line,)}


def _missing_base(look: _Look, row: Found) -> Found:
    if "add the smallest" not in row["what_to_do"]:
        return {"found": str(row["question_id"])}
    last = {r["question_id"]: r["minimum_base"] for r in look.rows("expected_rows", look.before)}
    line = _line("expected_rows", look.wave, row["question_id"], last.get(row["question_id"], OPEN))
    return {"found": str(row["question_id"]), "add": (line,)}


def _missing_key_variable(look: _Look, row: Found) -> Found:
    role, variable = row["file_role"], row["variable"]
    lines = []
    for last in look.rows("key_variables", look.before):
        if (last["file_role"], last["variable"]) == (role, variable):
            name = look.renamed(role, "key_variables", last)
            if name or last["raw_column"].strip().lower() in look.columns[look.wave, role]:
                cells = last | {"survey_year": str(look.wave), "raw_column": name or last["raw_column"]}
                lines.append(_line("key_variables", *cells.values()))
    return {
        "found": f"{variable} of the {role} file",
        "add": tuple(lines) or (_line("key_variables", look.wave, role, variable, OPEN, OPEN),),
    }


def _open_draft(look: _Look, row: Found) -> Found:
    evidence = f" ({row['certainty']}: {row['evidence']})" if row["evidence"] else f" ({row['certainty']})"
    found = {"found": f"{row['seed']}: {row['row']}{evidence}"}
    gone = row["what_to_do"].startswith("the seed has no such row")
    return found | ({"title": "Lines about a row that is not there"} if gone else {})


# How a row of these checks is put: what differs from the entry that any check gets.
WORDS: Mapping[str, Callable[[_Look, Found], Found]] = {
    "every_wave_is_registered": _unregistered_wave,
    "every_raw_column_is_mapped_or_ignored": _unmapped_column,
    "every_mapped_column_is_there_once": _unusable_column,
    "every_wave_has_its_key_variables": _missing_key_variable,
    "every_code_is_mapped": _unmapped_code,
    "every_key_code_is_mapped": _key_code,
    "response_map_labels_are_those_of_the_file": _other_label,
    "comparability_covers_every_pair_of_waves": _missing_verdict,
    "every_question_has_an_expected_base": _missing_base,
    "every_draft_is_reviewed": _open_draft,
}


def _cells(look: _Look) -> Iterator[Entry]:
    """Rows of the seeds that break what crosswalk.yml demands of their cells."""
    for seed, demand, rows in look.rehearsal.cells():
        for row in look.of_wave(rows):
            cells = ",".join("" if cell is None else str(cell) for name, cell in row.items() if name != "n")
            yield Entry("blocks", "wave", "Cells of the crosswalk", f"{seed}.csv", cells, demand, "correct the row")


def _age_bands(look: _Look) -> Iterator[Entry]:
    if look.rows("age_bands", look.wave):
        return
    last = look.rows("age_bands", look.before)
    lines = tuple(_line("age_bands", *(row | {"survey_year": str(look.wave)}).values()) for row in last)
    yield Entry(
        "blocks", "wave", "No age bands", "age_bands.csv", f"no row of {look.wave}", "the age bands of the wave",
        "add them: here those of the wave before" if last else "add them", lines,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- beside the wave before


def _labels_of_columns(look: _Look) -> Iterator[Entry]:
    """Mapped columns whose label is not that of the question: another question under the same name, or number."""
    # What each question is called, in its own words, and in the file of the wave before.
    labels = {row["question_id"]: row["label"] for row in seed_rows(look.settings, "questions")}
    now, before = look.mapped[look.wave], look.mapped.get(look.before or 0, {})
    last = {q: look.label_of(look.before or 0, "responses", row["raw_column"]) for q, row in before.items()}
    names = {
        q: [text for text in (last.get(q), labels.get(q), row["wording"]) if text] for q, row in (before | now).items()
    }
    for question, row in now.items():
        label = look.label_of(look.wave, "responses", row["raw_column"])
        if not label:
            continue
        own = max((alike(label, name) for name in names[question]), default=0.0)
        other, closest = max(
            ((q, max(alike(label, name) for name in names[q])) for q in names if q != question and names[q]),
            key=lambda found: found[1],
            default=("", 0.0),
        )
        if not (closest >= own + CLOSER or (last.get(question) and own < ALIKE)):
            continue
        found = f"{question} is {row['raw_column']}, labelled {label!r}"
        found += f"; in {look.before} its label was {last[question]!r}" if last.get(question) else ""
        found += f"; that is closer to {other}" if closest >= own + CLOSER else ""
        yield Entry(
            "look", "labels", "Columns whose label is not that of their question", "question_map.csv", found,
            "a label that resembles the question, or its label in the wave before",
            "look into the questionnaire: is it the right column? numbers move",
        )  # fmt: skip


def _unlisted(look: _Look) -> Iterator[Entry]:
    """Rows of a drafted wave without a line in drafts.csv: a release cannot know whether a person wrote them."""
    listed = {(row["seed"], row["row"]) for row in look.rows("drafts", look.wave)}
    for seed, key in KEYS.items() if listed else ():
        year = "to_year" if seed == "comparability" else "survey_year"
        for row in seed_rows(look.settings, seed):
            if row[year].strip() == str(look.wave) and (seed, name := key.format_map(row)) not in listed:
                yield Entry(
                    "know", "review", "Rows that drafts.csv does not list", "drafts.csv", f"{seed}: {name}",
                    "a line for each row that `cmhs wave init` wrote",
                    "nothing, where a person wrote it; if its line was removed, put it back",
                )  # fmt: skip


def _questions(look: _Look) -> Iterator[Entry]:
    """Questions that came and went, and filters that were lost on the way."""
    if look.before is None:
        return
    now, before = look.mapped[look.wave], look.mapped[look.before]
    ever = {
        row["question_id"] for row in seed_rows(look.settings, "question_map") if int(row["survey_year"]) < look.wave
    }
    for question in sorted(before.keys() - now.keys()):
        label = look.label_of(look.before, "responses", before[question]["raw_column"])
        column = look.renamed("responses", "question_map", before[question])
        cells = before[question] | {"survey_year": str(look.wave), "raw_column": column or OPEN}
        yield Entry(
            "look", "review", f"Questions of {look.before} that are not mapped", "question_map.csv",
            f"{question} ({before[question]['raw_column']}{f' {label!r}' if label else ''})",
            "a row where the wave asked it", "if the wave asked it, add it",
            (_line("question_map", *cells.values()),) if column else (),
        )  # fmt: skip
    for question in sorted(now.keys() - before.keys()):
        asked = "asked in earlier waves, not in the one before" if question in ever else "asked for the first time"
        yield Entry("know", "review", "New questions", "question_map.csv", f"{question}: {asked}", "", "")
    filters = {
        year: Counter(row["question_id"] for row in look.rows("routing", year)) for year in (look.before, look.wave)
    }
    for question in sorted(now.keys() & before.keys()):
        if filters[look.before][question] and not filters[look.wave][question]:
            yield Entry(
                "look", "codes", "Filters that are gone", "routing.csv",
                f"{question} was asked behind a filter in {look.before}; no row of {look.wave}",
                "a row for each answer that sends a person past the question",
                "look for its \"go to\" notes in the questionnaire",
            )  # fmt: skip


def _options(look: _Look) -> Iterator[Entry]:
    """Options that mean something else than in the wave before, moved, were reworded, appeared or vanished."""
    for question in look.mapped[look.wave]:
        now = look.options[look.wave, question]
        for code, option in now.items():
            if option["treatment"] is None and (question, code) not in look.occurring:
                yield Entry(
                    "look", "codes", "Codes that the file declares and nobody mapped", "response_map.csv",
                    f"{question}: code {option['shown']} {option['label']!r}", "a row for each code that can occur",
                    "add it, or leave it out where it cannot occur",
                    (look.line_of_option(question, code, option),) if option["shown"] == code else (),
                )  # fmt: skip
        before = look.options.get((look.before or 0, question), {})
        if not now or not before or question not in look.mapped.get(look.before or 0, {}):
            continue
        yield from _drift(look, question, now, before)


def _declared_key_codes(look: _Look) -> Iterator[Entry]:
    """Codes of key variables that the file declares, that nobody has and nobody mapped."""
    occurring = {
        (row["file_role"], row["variable"], row["code"])
        for row in look.of_wave(look.rehearsal.check("every_key_code_is_mapped"))
        if row["n"]
    }
    for row in look.rehearsal.query(
        f"""
        select k.file_role, k.variable, k.raw_column, trim(l.code) as code, max(l.label) as label,
            {{{{ shown_code('trim(l.code)') }}}} as shown
        from {{{{ ref('key_variables') }}}} as k
        inner join raw.value_labels as l
            on k.survey_year = l.survey_year and k.file_role = l.file_role
            and lower(trim(k.raw_column)) = lower(trim(l.raw_column))
        left join {{{{ ref('key_codes') }}}} as c
            on k.survey_year = c.survey_year and k.file_role = c.file_role
            and k.variable = c.variable and trim(l.code) = c.code
        where k.survey_year = {look.wave} and k.measured_as = 'code' and c.code is null
        group by all
        order by all
        """
    ):
        role, variable, code = row["file_role"], row["variable"], row["code"]
        if (role, variable, row["shown"]) not in occurring:
            value = look.value_before(role, variable, row["raw_column"], code) or OPEN
            yield Entry(
                "look", "codes", "Codes of key variables that the file declares and nobody mapped", "key_codes.csv",
                f"{variable} of the {role} file: code {row['shown']} {row['label']!r}",
                "a row for each code that can occur", "add it, or leave it out where it cannot occur",
                (_line("key_codes", look.wave, role, variable, code, value),) if row["shown"] == code else (),
            )  # fmt: skip


def _drift(look: _Look, question: str, now: dict[str, Found], before: dict[str, Found]) -> Iterator[Entry]:
    # A verdict that the question changed says that somebody has looked.
    level: Level = "know" if look.verdicts.get(question) is False else "look"
    options, last_options = list(now.values()), list(before.values())
    pairs = []
    for option in list(options):
        # Some labels stand at several codes, as "missing" does: then the code decides.
        same = [last for last in last_options if last["text"] and last["text"] == option["text"]]
        if same:
            last = next((last for last in same if last["code"] == option["code"]), same[0])
            pairs.append((option, last))
            options.remove(option)
            last_options.remove(last)
    for option, last in pairs:
        if option["treatment"] is not None and _meaning(option) != _meaning(last):
            yield Entry(
                "look", "labels", "Same words, other meaning", "response_map.csv",
                f"{question}: {option['label']!r} (code {option['shown']}) is {_meaning(option)}; "
                f"in {look.before} (code {last['shown']}) it was {_meaning(last)}",
                "one meaning for the same words", "correct treatment or response of the row, unless it is meant",
            )  # fmt: skip
        elif option["code"] != last["code"] and option["treatment"] in OFFERED:
            yield Entry(
                "know", "options", "Options under another number", "response_map.csv",
                f"{question}: {option['label']!r} is code {option['shown']}, in {look.before} code {last['shown']}; "
                f"it is {_meaning(option)} in both", "", "",
            )  # fmt: skip
    offered = [option for option in options if option["treatment"] in OFFERED]
    last_offered = [last for last in last_options if last["treatment"] in OFFERED]
    for option in list(offered):
        if reworded := [last for last in last_offered if _meaning(last) == _meaning(option)]:
            last = reworded[0]
            offered.remove(option)
            last_offered.remove(last)
            yield Entry(
                level, "labels", "Reworded options", "response_map.csv",
                f"{question}: {option['label']!r} (code {option['shown']}), in {look.before} {last['label']!r} "
                f"(code {last['shown']}); {_meaning(option)} in both", "the words of the wave before",
                "does it mean the same? if not, it is another response, or the question is not comparable",
            )  # fmt: skip
    for option in offered:
        held = before.get(option["code"])
        yield Entry(
            level, "options", "Options that appeared", "response_map.csv",
            f"{question}: {option['label']!r} (code {option['shown']}, {_meaning(option)})"
            + (f"; code {option['shown']} was {held['label']!r} in {look.before}" if held else ""),
            "the options of the wave before", "say so in comparability.csv, where it is not meant otherwise",
        )  # fmt: skip
    for last in last_offered:
        yield Entry(
            level, "options", "Options that vanished", "response_map.csv",
            f"{question}: {last['label']!r} (code {last['shown']} in {look.before}, {_meaning(last)})",
            "the options of the wave before", "say so in comparability.csv, where it is not meant otherwise",
        )  # fmt: skip


def _meaning(option: Found) -> str:
    return str(option["response"] or (option["treatment"] or "not mapped").replace("_", " "))


# ---------------------------------------------------------------------------------------- the persons


def _make_buildable(look: _Look) -> Iterator[Entry]:
    """Take out of the crosswalk in memory what no model can be built with; all of it is in the list by now.

    Where the wave has no row of waves or no age bands yet, those of the wave before stand in for them.
    """
    database, wave, before = look.connection, look.wave, look.before
    for name, seed in look.rehearsal.seeds.items():
        for demand in seed.get("data_tests", []):
            if isinstance(demand, dict) and "unique_grain" in demand:
                grain = ", ".join(demand["unique_grain"]["arguments"]["columns"])
                database.execute(
                    f"delete from crosswalk.{name} where rowid not in "
                    f"(select min(rowid) from crosswalk.{name} group by {grain})"
                )
    missing = (
        "not exists (select 1 from raw.variables as v where v.survey_year = m.survey_year "
        "and v.file_role = {role} and lower(trim(v.raw_column)) = lower(trim(m.{column})))"
    )
    no_condition = missing.format(role="m.file_role", column="condition_column")
    database.execute(
        f"delete from crosswalk.corrections as m where {missing.format(role='m.file_role', column='raw_column')} "
        f"or (m.condition_column is not null and {no_condition})"
    )
    waves = ", ".join(str(year) for year in look.rehearsal.waves)
    no_column = f"survey_year in ({waves}) and " + missing.format(role="'responses'", column="raw_column")
    lost = f"(select survey_year, question_id from crosswalk.question_map as m where {no_column})"
    database.execute(f"delete from crosswalk.response_map where (survey_year, question_id) in {lost}")
    for question in ("question_id", "filter_question_id"):
        database.execute(f"delete from crosswalk.routing where (survey_year, {question}) in {lost}")
    database.execute(f"delete from crosswalk.question_map as m where {no_column}")
    _leave_out_key_variables(look, missing.format(role="m.file_role", column="raw_column"))
    described = look.rehearsal.query(f"select * from crosswalk.waves where survey_year = {wave}")
    if not described:
        frame = "apart" if any(file.role == "sampled" for file in look.files) else "none"
        if last := look.rehearsal.query(f"select * from crosswalk.waves where survey_year = {before or 0}"):
            [texts] = look.rows("waves", before)[:1]
            row = last[0] | {"survey_year": wave}
            row |= {"sample_frame": next_wave(texts, wave, {file.role for file in look.files})["sample_frame"]}
            if row["age_reference_year"] is not None and before:
                row["age_reference_year"] += wave - before
        else:
            row = {
                "survey_year": wave,
                "weighting_scheme": "none",
                "sample_frame": frame,
                "min_answered": 1,
                "min_cell": 1,
            }
        database.execute(
            f"insert into crosswalk.waves ({', '.join(row)}) values ({', '.join('?' for _ in row)})", list(row.values())
        )
    if not look.rows("age_bands", wave):
        database.execute(
            f"insert into crosswalk.age_bands select * replace ({wave} as survey_year) from crosswalk.age_bands "
            f"where survey_year = {before or 0}"
        )
    try:
        look.rehearsal.table("stg_responses")
        look.rehearsal.table("stg_sampled")
    except Refusal as refusal:
        if described:
            yield Entry("blocks", "wave", "Ages cannot be read", "waves.csv", refusal.headline, "", "fill in the cell")
        _leave_out_key_variables(look, "measured_as in ('years', 'birth_year')")


def _leave_out_key_variables(look: _Look, those: str) -> None:
    keys = f"select survey_year, file_role, variable from crosswalk.key_variables as m where {those}"
    look.connection.execute(f"delete from crosswalk.key_codes where (survey_year, file_role, variable) in ({keys})")
    look.connection.execute(f"delete from crosswalk.key_variables as m where {those}")


def _why_nobody_counts(look: _Look) -> Entry | None:
    """Why there is nothing to say about persons yet, if so."""
    if missing := look.of_wave(look.rehearsal.check("every_wave_has_its_key_variables")):
        names = ", ".join(f"{row['variable']} ({row['file_role']})" for row in missing)
        return Entry(
            "know", "sample", "Not looked at yet: sample, trusts, shares", "key_variables.csv",
            f"no usable column for {names}", "", "add the key variables and check again",
        )  # fmt: skip
    statuses = look.statuses
    if statuses.get("counted"):
        return None
    return Entry(
        "blocks", "sample", "No row is a form that counts", look.place("responses"),
        ", ".join(f"{look.persons(n)} {status.replace('_', ' ')}" for status, n in statuses.items()),
        "most rows that came back count",
        "look at the codes of outcome and age, and at the record column and min_answered",
    )  # fmt: skip


def _bounds(look: _Look) -> Iterator[Entry]:
    """What the gate would find out of the bounds of waves.csv and expected_rows.csv, as far as that is known here."""
    found: dict[tuple[str, str, str], Entry] = {}
    for suite, bounds in BOUNDS.items():
        look.rehearsal.table(suite)
        for row in look.of_wave(look.rehearsal.query((EXPECTATIONS_DIR / f"{suite}.sql").read_text(encoding="utf-8"))):
            for column, relation, bound, words in bounds:
                value, limit = row[column], row[bound]
                if value is None or limit is None or (value >= limit if relation == ">=" else value <= limit):
                    continue
                of_question = row["question_id"] if column == "pct_not_readable" else ""
                found[bound, str(of_question), column] = Entry(
                    "blocks", "sample", "Out of the bounds of the wave", "waves.csv",
                    f"{f'{of_question}: ' if of_question else ''}{value:,.4g} {words}", f"{bound} {limit:g}",
                    "find out whether the data or the bound is wrong",
                )  # fmt: skip
    yield from found.values()
    for row in look.rehearsal.query(
        "select question_id, minimum_base, coalesce(sum(n) filter (where status = 'answered'), 0) as base "
        "from {{ ref('expected_rows') }} left join {{ ref('int_cube') }} using (survey_year, question_id) "
        f"where survey_year = {look.wave} group by all having base < minimum_base order by all"
    ):
        yield Entry(
            "blocks", "sample", "Bases smaller than is believable", "expected_rows.csv",
            f"{row['question_id']}: {look.persons(row['base'])} answers", f"at least {row['minimum_base']:,}",
            "is it the right column, and are its codes right? if so, correct the row",
        )  # fmt: skip


def _sample(look: _Look) -> Iterator[Entry]:
    [totals] = look.rehearsal.query(
        "select sum(sampled) as sampled, sum(responded) as responded, count(*) as trusts from {{ ref('int_trusts') }} "
        f"where survey_year = {look.wave}"
    )
    statuses = ", ".join(f"{look.persons(n)} {status.replace('_', ' ')}" for status, n in look.statuses.items())
    responded, sampled = totals["responded"], totals["sampled"]
    found = f"{look.persons(responded)} persons of {totals['trusts']} trusts count; rows of the file: {statuses}"
    if sampled:
        found += f"; {sampled:,} were drawn, {100 * responded / sampled:.1f} % of them responded"
    bounds = [
        f"{words} {row[low]} to {row[high]}"
        for row in look.rows("waves", look.wave)
        for words, low, high in (
            ("trusts", "minimum_trusts", "maximum_trusts"),
            ("response rate", "minimum_response_rate", "maximum_response_rate"),
        )
        if row[low] or row[high]
    ]
    yield Entry("know", "sample", "Who is in it", look.place("responses"), found, "; ".join(bounds), "")
    for row in look.rehearsal.query(
        "select {{ shown_trust('trust') }} as trust, cell from {{ ref('int_cells') }} "
        f"where survey_year = {look.wave} and sampled < responded and cell <> 'unknown' order by all"
    ):
        yield Entry(
            "look", "sample", "Cells with more respondents than persons drawn", "",
            f"trust {row['trust']}, {row['cell']}", "at least as many drawn as responded, before cells are merged",
            "do age and gender come from the same source in both files? are their codes right?",
        )  # fmt: skip


def _trusts(look: _Look) -> Iterator[Entry]:
    """Trusts that appeared, vanished, merged or were renamed."""
    rows = look.rehearsal.query(
        "select survey_year, trust, {{ shown_trust('trust') }} as shown from {{ ref('int_trusts') }} order by all"
    )
    shown = {row["trust"]: row["shown"] for row in rows}
    now, before = ({r["trust"] for r in rows if r["survey_year"] == year} for year in (look.wave, look.before))
    if not before:
        return
    mergers = [(row["predecessor"], row["trust"]) for row in look.rows("trust_mergers", look.wave)]
    for one, other in mergers:
        wrong = [f"{one} is no trust of {look.before}"] if one not in before else []
        wrong += [f"{one} is still there"] if one in now and one != other else []
        wrong += [f"{other} is no trust of {look.wave}"] if other not in now else []
        if wrong:
            yield Entry(
                "look", "trusts", "Mergers that the files do not show", "trust_mergers.csv",
                f"{look.wave},{one},{other}: {'; '.join(wrong)}",
                "a trust of the wave before that went into one of this wave", "correct or remove the row",
            )  # fmt: skip
    for trust in sorted(before - now - {one for one, _ in mergers}):
        yield Entry(
            "look", "trusts", "Trusts that vanished", "trust_mergers.csv",
            f"{shown[trust]}, in {look.before} and no more", "a row of trust_mergers where it went into another one",
            "find out what became of it; if it merged, add the row",
            (_line("trust_mergers", look.wave, trust, OPEN, OPEN),) if shown[trust] == trust else (),
        )  # fmt: skip
    for trust in sorted(now - before - {other for _, other in mergers}):
        yield Entry(
            "look", "trusts", "Trusts that appeared", "trust_mergers.csv", f"{shown[trust]}, not in {look.before}",
            "a row of trust_mergers where it was made of others", "find out where it comes from",
        )  # fmt: skip
    # A name of few rows may be what one person wrote.
    for row in look.rehearsal.query(
        "with names as (select survey_year, trust, min(trust_name) as name from {{ ref('stg_responses') }} "
        "group by survey_year, trust having count(distinct trust_name) = 1 and count(trust_name) = count(*) "
        f"and count(*) >= {look.smallest}) "
        "select {{ shown_trust('now.trust') }} as trust, now.name, last.name as last_name from names as now "
        f"inner join names as last on now.trust = last.trust and last.survey_year = {look.before} "
        f"where now.survey_year = {look.wave} "
        "and {{ letters_and_digits('now.name') }} <> {{ letters_and_digits('last.name') }} order by all"
    ):
        yield Entry(
            "look", "trusts", "Trusts under another name", look.place("responses"),
            f"{row['trust']} is {row['name']!r}, in {look.before} {row['last_name']!r}", "one name for a code",
            "was it renamed, or was its code given to another trust?",
        )  # fmt: skip


def _moved_shares(look: _Look) -> Iterator[Entry]:
    """Shares of answers, of those who gave none, and of ages and genders, that moved by more than chance explains."""
    if look.before is None:
        return
    rows = look.rehearsal.query(
        """
        with cube as (
            select cube.survey_year, cube.trust, cube.question_id, cube.status, cube.response, sum(cube.n) as n
            from {{ ref('int_cube') }} as cube
            inner join {{ ref('exclusion_reasons') }} as reasons
                on cube.status = reasons.status and reasons.level = 'question'
            group by all
        ),
        persons as (
            select survey_year, trust, age_band, gender, sum(n) as n from {{ ref('int_response_counts') }}
            where question_id is null and person_status is null group by all
        )
        select survey_year, trust, 'answers' as kind, question_id, response as category, sum(n) as n
        from cube where status = 'answered' group by all
        union all
        select survey_year, trust, 'forms', question_id, status, sum(n) from cube group by all
        union all
        select survey_year, trust, 'persons', 'age', age_band, sum(n) from persons group by all
        union all
        select survey_year, trust, 'persons', 'gender', gender, sum(n) from persons group by all
        """
    )
    counts: dict[tuple[int, str, str, str], dict[str, int]] = defaultdict(dict)
    bases: dict[tuple[int, str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        year, kind, question, trust = row["survey_year"], row["kind"], row["question_id"], row["trust"]
        counts[year, kind, question, row["category"]][trust] = row["n"]
        bases[year, kind, question][trust] += row["n"]

    def share(year: int, kind: str, question: str, category: str) -> Share:
        base, count = bases[year, kind, question], counts.get((year, kind, question, category), {})
        return Share([count.get(trust, 0) for trust in base], list(base.values()))

    tested = []
    smallest_base = int(look.rehearsal.variables["minimum_published_base"])
    for kind, question, category in sorted({key[1:] for key in counts}):
        if (kind, category) == ("forms", "answered"):
            continue  # The rest of the others.
        now, last = (share(year, kind, question, category) for year in (look.wave, look.before))
        if min(now.base, last.base) >= smallest_base and (errors := standard_errors(now, last)) is not None:
            tested.append((abs(errors), errors, kind, question, category, now, last))
    moved: dict[str, dict[str, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    for (size, errors, kind, question, category, now, last), is_clear in zip(
        tested, clear([test[1] for test in tested]), strict=True
    ):
        if is_clear:
            shown = [f"{100 * s.share:.1f}" if not 0 < s.count < look.smallest else "few" for s in (last, now)]
            words = f"{category.replace('_', ' ')} {' -> '.join(shown)} % ({errors:+.1f})"
            moved[question][f"of {last.base:,} and {now.base:,} {kind}"].append((size, words))
    for question, by_base in sorted(moved.items(), key=lambda item: -max(map(max, item[1].values()))[0]):
        level: Level = "know" if look.verdicts.get(question) is False else "look"
        found = (
            f"{base}, {', '.join(words for _, words in sorted(shares, reverse=True))}"
            for base, shares in by_base.items()
        )
        yield Entry(
            level, "distributions", f"Shares that moved by more than chance since {look.before}", "",
            f"{question}: {'; '.join(found)}",
            f"what chance explains, among {len(tested)} unweighted shares (in brackets how many standard errors they "
            f"moved by; few: fewer than {look.smallest} persons)",
            "a shifted code, another option, another filter? or a real change",
        )  # fmt: skip


# ---------------------------------------------------------------------------------------- labels


def _in_one_line(entry: Entry) -> Entry:
    """An entry without what a label may hold that a terminal would act on."""

    return replace(
        entry,
        where=in_one_line(entry.where),
        found=in_one_line(entry.found),
        expected=in_one_line(entry.expected),
        to_do=in_one_line(entry.to_do),
        add=tuple((file, in_one_line(line)) for file, line in entry.add),
    )
