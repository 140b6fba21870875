"""The crosswalk of a new wave, drafted from the one before: rows for the seeds, each marked for review.

Belongs here: turning guesses about columns into rows of the crosswalk, and saying what each rests on. Does not:
comparing columns (guess), writing files (additions), judging a crosswalk that a person finished (check).
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from orchestration.errors import Refusal
from orchestration.settings import Settings
from orchestration.warehouse import identifier
from orchestration.wave import additions
from orchestration.wave.guess import Certainty, Column, Guess, guess, is_slip, plain
from orchestration.wave.received import Row, columns_of, landed, registered, seed_rows

if TYPE_CHECKING:
    import duckdb

Meaning = TypeVar("Meaning")

ROLES = ("responses", "sampled")
# Which row of a seed a line of drafts.csv is about; the check every_draft_is_reviewed.sql has the same.
KEYS = {
    "waves": "wave {survey_year}",
    "age_bands": "{age_band}",
    "key_variables": "{file_role}, {variable}",
    "key_codes": "{file_role}, {variable}, code {code}",
    "question_map": "{question_id}",
    "response_map": "{question_id}, code {code}",
    "routing": "{question_id}, filter {filter_question_id}, code {filter_code}",
    "ignored_columns": "{file_role}, {raw_column}",
    "comparability": "{question_id}, {from_year} to {to_year}",
    "expected_rows": "{question_id}",
}
SEEDS = tuple(KEYS)
# A code may be written down where no person can be told by it; macros/shown_code.sql has the same rule.
CODE = re.compile(r"-?[0-9]{1,3}|[0-9]{1,2};[0-9]{1,2}|[A-Za-z]")
# Rarer codes do not tell whether two columns without labels have one list of codes.
RARE = 0.01
# What a question offers its respondents; other treatments are about the form.
OFFERED = ("answered", "dont_know", "not_applicable")
ABOUT_THE_FORM = ("not_answered", "not_routed", "multiple")


@dataclass(frozen=True)
class Draft:
    """A row for a seed, how sure it is, what it rests on; `score` of 100, or None where copied."""

    seed: str
    cells: Row
    certainty: Certainty
    evidence: str
    score: int | None = None

    @property
    def row(self) -> str:
        """Its key in words."""
        return KEYS[self.seed].format_map(self.cells)


@dataclass(frozen=True)
class Drafted:
    """What was written: the wave that was drafted from, the rows, and by file the columns that are like none of it."""

    wave: int
    before: int
    rows: list[Draft]
    undecided: dict[str, list[str]]

    def counts(self) -> dict[str, dict[Certainty, int]]:
        """Rows by seed and certainty."""
        found: dict[str, dict[Certainty, int]] = {seed: {"likely": 0, "uncertain": 0} for seed in SEEDS}
        for row in self.rows:
            found[row.seed][row.certainty] += 1
        return found


@dataclass(frozen=True)
class _Match:
    """A column of the new wave, the known one that it seems to be, and what the crosswalk says of that."""

    kind: str  # question, key or ignored
    described: Row
    old: Column
    new: Column
    guess: Guess


def init(settings: Settings, wave: int) -> Drafted:
    """Draft the crosswalk of a wave from the last one that it describes, and write it into the seeds.

    Every drafted row gets a line in drafts.csv; no row that is there is changed. Raises Refusal, with all files as they
    were, where the crosswalk has rows of the wave already, describes a later one, none or one twice, or where files are
    missing.
    """
    registered(settings, wave)
    before = _before(settings, wave)
    earlier = {role: _last_with(settings, role, before) for role in ROLES}
    waves = sorted({wave, *(year for year in earlier.values() if year is not None)})
    with landed(settings, waves) as connection:
        matches: dict[str, list[_Match]] = {}
        undecided: dict[str, list[str]] = {}
        for role, year in earlier.items():
            columns = columns_of(connection, wave, role)
            _demand_names(columns, wave, role)
            matches[role] = _matches(connection, settings, role, year, columns) if year is not None else []
            if left := _undecided(columns, {match.new.key for match in matches[role]}):
                undecided[role] = left
        rows = list(_Drafting(settings, connection, wave, before, matches).rows())
    drafts = [
        {
            "survey_year": str(wave),
            "seed": row.seed,
            "row": row.row,
            "certainty": row.certainty,
            "score": "" if row.score is None else str(row.score),
            "evidence": row.evidence,
            "reviewer": "",
            "reviewed_on": "",
        }
        for row in rows
    ]
    by_seed = {seed: [row.cells for row in rows if row.seed == seed] for seed in SEEDS} | {"drafts": drafts}
    paths = {settings.seeds_dir / f"{seed}.csv": cells for seed, cells in by_seed.items() if cells}
    additions.write({path: additions.with_rows(path, cells) for path, cells in paths.items()})
    return Drafted(wave, before, rows, undecided)


def next_wave(last: Row, wave: int, roles: Collection[str]) -> Row:
    """A row of waves like that of an earlier wave, with its years moved on, for a wave with files of these roles."""
    moved = wave - int(last["survey_year"])
    year, frame = last["age_reference_year"], last["sample_frame"]
    return last | {
        "survey_year": str(wave),
        "wave_label": re.sub(r"\b[0-9]{4}\b", lambda found: str(int(found[0]) + moved), last["wave_label"]),
        "age_reference_year": str(int(year) + moved) if year.isdecimal() else year,
        "sample_frame": "apart" if "sampled" in roles else "in_file" if frame == "apart" else frame,
    }


def _before(settings: Settings, wave: int) -> int:
    """The last wave of the crosswalk. Raises Refusal where this one is not a later one without a row in it."""
    there = {}
    for seed in (*SEEDS, "drafts"):
        year = "to_year" if seed == "comparability" else "survey_year"
        if rows := sum(row.get(year) == str(wave) for row in seed_rows(settings, seed)):
            there[seed] = rows
    if there:
        raise Refusal(
            f"The crosswalk has rows of wave {wave} already; nothing was drafted.",
            [
                *(f"{seed}.csv has {rows} rows of it." for seed, rows in there.items()),
                f"Go on with these: `cmhs wave check {wave}` lists what is left. To draft it anew remove them first, "
                "with what was reviewed.",
            ],
        )
    described = [int(row["survey_year"]) for row in seed_rows(settings, "waves")]
    if not described or max(described) > wave:
        last = f"it ends with {max(described)}" if described else "it describes none"
        raise Refusal(
            f"Wave {wave} cannot be drafted: only one after the last wave of the crosswalk can, and {last}.",
            ["Add its rows by hand: docs/crosswalk.md, Adding a wave."],
        )
    if (rows := described.count(max(described))) > 1:
        raise Refusal(
            f"Wave {wave} cannot be drafted: waves.csv has {rows} rows of wave {max(described)}.",
            ["Remove all but one of them."],
        )
    return max(described)


def _last_with(settings: Settings, role: str, before: int) -> int | None:
    """The last wave up to this one that has a file of a role which the crosswalk describes."""
    return max(
        (
            int(row["survey_year"])
            for row in seed_rows(settings, "key_variables")
            if row["file_role"] == role and int(row["survey_year"]) <= before
        ),
        default=None,
    )


def _demand_names(columns: Sequence[Column], wave: int, role: str) -> None:
    """Raise Refusal where the header seems to be somebody's answers, which must not be written down."""
    if 2 * sum(not re.search("[A-Za-z]", column.name) for column in columns) > len(columns):
        raise Refusal(
            f"Most columns of the {role} file of wave {wave} have no letter in their names; nothing was drafted.",
            ["Is its first line the header? Ask for the file again, or register it with its right format."],
        )


def _undecided(columns: Sequence[Column], decided: set[str]) -> list[str]:
    """Columns that are like none. Where most are, the first line may be somebody's answers: then only their places."""
    left = [(place, column.key) for place, column in enumerate(columns, start=1) if column.key not in decided]
    named = 2 * len(left) <= len(columns)
    return [name if named else f"number {place}" for place, name in left]


def _matches(
    connection: "duckdb.DuckDBPyConnection", settings: Settings, role: str, year: int, columns: Sequence[Column]
) -> list[_Match]:
    described: dict[str, tuple[str, Row]] = {}
    for seed, kind in (("ignored_columns", "ignored"), ("key_variables", "key"), ("question_map", "question")):
        for row in seed_rows(settings, seed, year):
            if row.get("file_role", "responses") == role:
                described[row["raw_column"].strip().lower()] = (kind, row)
    known = []
    for column in columns_of(connection, year, role):
        _, row = described.get(column.key.strip().lower(), ("", {}))
        wording = row.get("wording", "")
        known.append(replace(column, texts=column.texts + ((wording,) if wording else ())))
    olds, news = ({column.key: column for column in group} for group in (known, columns))
    return [
        _Match(*described[guessed.known.strip().lower()], olds[guessed.known], news[guessed.column], guessed)
        for guessed in guess(known, columns)
        if guessed.known.strip().lower() in described
    ]


@dataclass(frozen=True)
class _Meaning:
    """What is done with a code: `label` as in the wave before, for a code that has none; `sure` by its label."""

    treatment: str
    response: str
    label: str
    sure: bool
    evidence: str


class _Meanings:
    """What the codes of a question mean: by their labels, or as in the wave before where they have none."""

    def __init__(
        self, before: str, question: str, match: _Match, rows: Sequence[Row], responses: Sequence[Row]
    ) -> None:
        self.before = before
        self.match = match
        self.old = {row["code"]: row for row in rows if row["question_id"] == question}
        self.by_label = _one_meaning(
            (plain(row["label"]), (row["treatment"], row["response"])) for row in self.old.values()
        )
        self.offered = _one_meaning(
            (plain(row["label"]), row["response"]) for row in responses if row["question_id"] == question
        )
        self.elsewhere = _one_meaning((plain(row["label"]), row["treatment"]) for row in rows)
        self.elsewhere_by_code = _one_meaning((row["code"], (row["treatment"], row["label"])) for row in rows)

    def of_label(self, code: str, label: str) -> _Meaning | None:
        words = plain(label)
        if words in self.by_label:
            evidence = f'value label "{label}" as in {self.before}'
            there = [other for other, row in self.old.items() if plain(row["label"]) == words]
            if code not in there:
                evidence += f", there code {' and '.join(there)}"
            return _Meaning(*self.by_label[words], label, True, evidence)
        slips = [known for known in self.by_label if is_slip(known, words)]
        if len(slips) == 1:
            was = next(row["label"] for row in self.old.values() if plain(row["label"]) == slips[0])
            return _Meaning(*self.by_label[slips[0]], label, False, f'value label "{label}", was "{was}"')
        new = f'value label "{label}" is new at the question'
        if words in self.offered:
            evidence = f"{new}; responses.csv calls a response so"
            return _Meaning("answered", self.offered[words], label, False, evidence)
        if self.elsewhere.get(words, "answered") != "answered":
            evidence = f"{new}; treated as at other questions of {self.before}"
            return _Meaning(self.elsewhere[words], "", label, False, evidence)
        return None

    def of_code(self, code: str) -> _Meaning | None:
        if not _may_be_written(code, self.old):
            return None
        row = self.old.get(code)
        as_before = f"no value label; the code as in {self.before}"
        if row is not None and row["treatment"] not in OFFERED:
            return _Meaning(row["treatment"], "", row["label"], False, as_before)
        if row is not None:
            # Where a scale has labels at its ends alone, or none at all, the codes have to be those of before.
            unlabelled = not self.match.new.options or code not in self.match.old.options
            if unlabelled and _one_code_list(self.match.old, self.match.new):
                return _Meaning(row["treatment"], row["response"], row["label"], False, as_before)
            return None
        treatment, label = self.elsewhere_by_code.get(code, ("", ""))
        if treatment not in ABOUT_THE_FORM:
            return None
        evidence = f"no value label; the code as at other questions of {self.before}"
        return _Meaning(treatment, "", label, False, evidence)


class _Drafting:
    """The rows of one wave, seed by seed."""

    def __init__(
        self,
        settings: Settings,
        connection: "duckdb.DuckDBPyConnection",
        wave: int,
        before: int,
        matches: Mapping[str, list[_Match]],
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.wave = str(wave)
        self.before = str(before)
        self.matches = matches
        self.questions = sorted(
            (match for match in matches["responses"] if match.kind == "question"),
            key=lambda match: match.described["question_id"],
        )
        self.keys = sorted(
            (
                (role, match)
                for role in ROLES
                for match in matches[role]
                if match.kind == "key" and _measured_alike(match)
            ),
            key=lambda pair: (pair[0], pair[1].described["variable"]),
        )
        self.codes = list(self._response_map())

    def seed(self, seed: str, wave: str) -> list[Row]:
        return seed_rows(self.settings, seed, int(wave))

    def rows(self) -> Iterator[Draft]:
        yield from self._waves()
        for row in self.seed("age_bands", self.before):
            yield self._copied("age_bands", row)
        yield from self._key_variables()
        yield from self._key_codes()
        yield from self._question_map()
        yield from self.codes
        yield from self._routing()
        yield from self._ignored_columns()
        yield from self._comparability()
        asked = {match.described["question_id"] for match in self.questions}
        for row in self.seed("expected_rows", self.before):
            if row["question_id"] in asked:
                yield self._copied("expected_rows", row)

    def _copied(self, seed: str, row: Row) -> Draft:
        cells = row | {"survey_year": self.wave}
        return Draft(seed, cells, "uncertain", f"copied from {self.before}; the files do not tell")

    def _waves(self) -> Iterator[Draft]:
        [row] = self.seed("waves", self.before)
        evidence = [f"copied from {self.before} with the year moved on"]
        roles = {file.role for file in registered(self.settings, int(self.wave))}
        cells = next_wave(row, int(self.wave), roles)
        outcome = next((match for role, match in self.keys if match.described["variable"] == "outcome"), None)
        if "sampled" in roles:
            evidence.append("sample_frame by its file of role sampled")
        elif row["sample_frame"] == "apart":
            cells["sample_frame"] = "in_file" if outcome and len(outcome.new.shares) > 1 else "none"
            evidence.append("sample_frame, since it has no file of role sampled")
        if 2 * sum(bool(self._differences(match)[0]) for match in self.questions) > len(self.questions):
            cells["comparable_block"] = self.wave
            evidence.append("a block of its own, since most questions differ")
        yield Draft("waves", cells, "uncertain", "; ".join(evidence))

    def _key_variables(self) -> Iterator[Draft]:
        for _, match in self.keys:
            cells = match.described | {"survey_year": self.wave, "raw_column": match.new.key}
            yield _of(match, "key_variables", cells)

    def _key_codes(self) -> Iterator[Draft]:
        known: dict[tuple[str, str], str] = {}
        for role, match in self.keys:
            variable, measured_as = match.described["variable"], match.described["measured_as"]
            if measured_as not in ("code", "years", "birth_year"):
                continue
            year = match.described["survey_year"]
            old = {
                row["code"]: row["value"]
                for row in self.seed("key_codes", year)
                if (row["file_role"], row["variable"]) == (role, variable)
            }
            by_label = _one_meaning((plain(_called(match.old, code)), value) for code, value in old.items())
            for code in self._codes_of(role, match, old):
                label = _called(match.new, code)
                value, certainty, evidence = None, match.guess.certainty, ""
                if label and plain(label) in by_label:
                    value, evidence = by_label[plain(label)], f'value label "{label}" as in {year}'
                elif label and (value := self._named(variable, label)):
                    certainty, evidence = "uncertain", f'value label "{label}", which {year} had not, names it'
                elif not label and (variable, code) in known:
                    value, certainty = known[variable, code], "uncertain"
                    evidence = "no value label; the responses file of this wave gives the code this value"
                elif (
                    not label
                    and code in old
                    and (not match.new.options or not _called(match.old, code))
                    and (measured_as != "code" or _one_code_list(match.old, match.new))
                ):
                    value, certainty = old[code], "uncertain"
                    evidence = f"no value label; the code as in {year}"
                if value is None:
                    continue
                if label:
                    known[variable, code] = value
                cells = {
                    "survey_year": self.wave,
                    "file_role": role,
                    "variable": variable,
                    "code": code,
                    "value": value,
                }
                yield Draft("key_codes", cells, certainty, evidence)

    def _codes_of(self, role: str, match: _Match, old: Mapping[str, str]) -> list[str]:
        """Codes that the file declares or that occur, in the order of the wave before; of ages only the missing."""
        if match.described["measured_as"] == "code":
            found = [*match.new.options, *(code for code in match.new.shares if code not in match.new.options)]
        else:
            rows = self.connection.execute(
                f"select distinct trim({identifier(match.new.key)}) from raw.{role}_{self.wave}"
            ).fetchall()
            found = list(dict.fromkeys([*match.new.options, *(code for code in old if (code,) in rows)]))
        return [code for code in found if code in match.new.options or _may_be_written(code, old)]

    def _named(self, variable: str, label: str) -> str | None:
        """The value of a key variable that a label names: a gender, an outcome, an age band by its ages."""
        if variable.endswith("_gender"):
            return _one_meaning((plain(r["label"]), r["gender"]) for r in seed_rows(self.settings, "genders")).get(
                plain(label)
            )
        if variable.endswith("_age"):
            ages = [
                (" ".join(re.findall(r"\d+", r["label"])), r["age_band"]) for r in self.seed("age_bands", self.before)
            ]
            return _one_meaning(ages).get(" ".join(re.findall(r"\d+", label)))
        values = {row["value"] for row in seed_rows(self.settings, "key_codes") if row["variable"] == variable}
        return _one_meaning((plain(value), value) for value in values).get(plain(label))

    def _question_map(self) -> Iterator[Draft]:
        for match in self.questions:
            cells = match.described | {"survey_year": self.wave, "raw_column": match.new.key}
            draft = _of(match, "question_map", cells)
            if _is_wording(match):
                yield draft
            elif match.new.texts and not _same_words(match):
                changed = cells | {"wording": match.new.texts[0], "wording_version": self.wave}
                evidence = "; but wording is the label of the file: see the questionnaire"
                yield replace(draft, cells=changed, certainty="uncertain", evidence=draft.evidence + evidence)
            else:
                evidence = f"; but wording is copied from {self.before}: see the questionnaire"
                yield replace(draft, certainty="uncertain", evidence=draft.evidence + evidence)

    def _response_map(self) -> Iterator[Draft]:
        before = self.seed("response_map", self.before)
        for match in self.questions:
            question = match.described["question_id"]
            meanings = _Meanings(self.before, question, match, before, seed_rows(self.settings, "responses"))
            repeated = Counter(plain(label) for label in match.new.options.values())
            observed = [code for code in match.new.shares if code not in match.new.options]
            for code in [*match.new.options, *observed]:
                label = match.new.options.get(code, "")
                meaning = meanings.of_label(code, label) if label else meanings.of_code(code)
                if meaning is None:
                    continue
                sure = meaning.sure and match.guess.certainty == "likely" and repeated[plain(label)] == 1
                cells = {
                    "survey_year": self.wave,
                    "question_id": question,
                    "code": code,
                    "treatment": meaning.treatment,
                    "response": meaning.response,
                    "label": label or meaning.label,
                }
                certainty: Certainty = "likely" if sure else "uncertain"
                score = 100 if meaning.sure else None
                yield Draft("response_map", cells, certainty, meaning.evidence, score)

    def _routing(self) -> Iterator[Draft]:
        columns = {match.described["question_id"]: match for match in self.questions}
        before = {(r["question_id"], r["code"]): r for r in self.seed("response_map", self.before)}
        now: dict[tuple[str, str], list[Draft]] = {}
        for draft in self.codes:
            now.setdefault((draft.cells["question_id"], plain(draft.cells["label"])), []).append(draft)
        for row in self.seed("routing", self.before):
            question, asked = row["question_id"], row["filter_question_id"]
            old = before.get((asked, row["filter_code"]))
            if old is None or question not in columns or asked not in columns:
                continue
            for draft in now.get((asked, plain(old["label"])), []):
                yield Draft(
                    "routing",
                    row | {"survey_year": self.wave, "filter_code": draft.cells["code"]},
                    "uncertain",
                    f'as in {self.before}: "{old["label"]}" led past it; the file does not tell',
                )

    def _ignored_columns(self) -> Iterator[Draft]:
        for role in ROLES:
            for match in sorted(self.matches[role], key=lambda match: match.new.key):
                if match.kind == "ignored":
                    cells = match.described | {"survey_year": self.wave, "raw_column": match.new.key}
                    yield _of(match, "ignored_columns", cells)

    def _comparability(self) -> Iterator[Draft]:
        for match in self.questions:
            question = match.described["question_id"]
            differs, unknown = self._differences(match)
            if differs:
                note, evidence = ". ".join(differs + unknown), "the labels of the two files differ"
            elif unknown:
                note, evidence = ". ".join(unknown), "nothing to compare: not taken for comparable"
            elif _is_wording(match):
                note, evidence = "same wording and responses", "wording and value labels are the same in both files"
            else:
                note = "same label and responses"
                evidence = "label and value labels are the same in both files, but the label is not the wording"
            cells = {
                "question_id": question,
                "from_year": self.before,
                "to_year": self.wave,
                "comparable": "false" if differs or unknown else "true",
                "note": note,
            }
            # No file tells what stood before a question, or how it was asked.
            evidence += "; see the questionnaire"
            yield Draft("comparability", cells, "uncertain", evidence)

    def _differences(self, match: _Match) -> tuple[list[str], list[str]]:
        """How a question differs from the wave before by label and options, and what of these is not known."""
        question = match.described["question_id"]
        old = {
            plain(row["label"]): row["label"]
            for row in self.seed("response_map", self.before)
            if row["question_id"] == question
            and row["treatment"] in OFFERED
            # What the earlier file gave no label says nothing of a later one.
            and (row["code"] in match.old.options or not match.old.options)
        }
        about_the_form = {
            draft.cells["code"]
            for draft in self.codes
            if draft.cells["question_id"] == question and draft.cells["treatment"] not in OFFERED
        }
        new = {plain(o): o for code, o in match.new.options.items() if code not in about_the_form}
        differs, unknown = [], []
        if not match.new.texts:
            unknown.append("wording not known: the file has no labels")
        elif not _same_words(match):
            differs.append(f'reworded: was "{match.old.texts[0]}", is "{match.new.texts[0]}"')
        if not match.new.options:
            unknown.append("responses not known: the file has no value labels")
        else:
            for words, labels, others in (("new", new, old), ("no longer offered", old, new)):
                if found := [label for key, label in labels.items() if key not in others]:
                    differs.append(f"{words}: {'; '.join(found)}")
        return differs, unknown


def _of(match: _Match, seed: str, cells: Row) -> Draft:
    evidence = match.guess.evidence
    if match.old.key != match.new.key:
        evidence += f"; was {match.old.key} in {match.described['survey_year']}"
    return Draft(seed, cells, match.guess.certainty, evidence, match.guess.score)


def _same_words(match: _Match) -> bool:
    """Whether the label of the new file is that of the old one, or the wording that the crosswalk has."""
    return bool(match.new.texts) and plain(match.new.texts[0]) in {plain(text) for text in match.old.texts}


def _is_wording(match: _Match) -> bool:
    """Whether the label of the new file is the whole wording that the crosswalk has, not a word for it."""
    return bool(match.new.texts) and plain(match.new.texts[0]) == plain(match.described["wording"])


def _measured_alike(match: _Match) -> bool:
    """Whether a key variable is held as before: an age band is no year of birth, whatever the label."""
    old, new = match.old, match.new
    if match.described["measured_as"] == "text":
        return True
    if old.kind != new.kind:
        return False
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return True
    return new.low <= old.high and old.low <= new.high


def _called(column: Column, code: str) -> str:
    """The value label of a code; a code that is no number is its own where it has none."""
    return column.options.get(code) or (code if re.search("[^0-9.-]", code) else "")


def _one_code_list(old: Column, new: Column) -> bool:
    """Whether two columns without labels have the same codes, but for rare ones."""
    ours, theirs = ({code for code, share in column.shares.items() if share >= RARE} for column in (old, new))
    return bool(ours) and ours == theirs


def _may_be_written(code: str, known: Mapping[str, object]) -> bool:
    """Whether a code without a value label says nothing of a person."""
    return code in known or CODE.fullmatch(code) is not None


def _one_meaning(pairs: Iterable[tuple[str, Meaning]]) -> dict[str, Meaning]:
    """What each word means, where it means one thing; blank words mean nothing."""
    meanings: dict[str, set[Meaning]] = {}
    for word, meaning in pairs:
        meanings.setdefault(word, set()).add(meaning)
    return {word: found.pop() for word, found in meanings.items() if word and len(found) == 1}
