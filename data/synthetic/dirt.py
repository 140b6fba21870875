"""Everything that goes wrong with real forms, planted on purpose and counted.

Belongs here: what is changed in the rows of a wave, one function a kind, each noted in the log. How text
cells get stray white space is here too; how a file is written is in `write_files.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from instrument import (
    ANSWERED,
    BANDS,
    BLANK,
    DONT_KNOW,
    GENDERS,
    MULTIPLE,
    NOT_ANSWERED,
    NOT_APPLICABLE,
    NOT_ROUTED,
    OUT_OF_RANGE,
    UNDER,
    UNKNOWN,
    Options,
    Wave,
)
from population import NOT_RETURNED, OPTED_OUT, RETURNED

VALUE, EMPTY, MISSING_CODE = 0, 1, 2  # how the questionnaire's age is given


@dataclass
class Log:
    """What was planted: survey_year, kind, n, note."""

    entries: list[tuple[int, str, int, str]] = field(default_factory=list)

    def add(self, year: int, kind: str, count: int, note: str = "") -> None:
        """Note one kind of dirt of a wave."""
        if count:
            self.entries.append((year, kind, int(count), note))


@dataclass
class Rows:
    """The rows of one responses file: a table of keys, and answers as positions in the option lists."""

    keys: pd.DataFrame
    answers: dict[str, np.ndarray]

    def __len__(self) -> int:
        """How many rows."""
        return len(self.keys)

    def copy_of(self, index: np.ndarray) -> Rows:
        """A copy of some rows."""
        keys = self.keys.iloc[index].reset_index(drop=True)
        return Rows(keys, {item: values[index].copy() for item, values in self.answers.items()})

    def extended(self, more: Rows) -> Rows:
        """These rows followed by more."""
        keys = pd.concat([self.keys, more.keys], ignore_index=True)
        return Rows(keys, {item: np.concatenate([v, more.answers[item]]) for item, v in self.answers.items()})

    def in_order(self) -> Rows:
        """The rows as they will stand in the file."""
        return self.copy_of(np.argsort(self.keys["place"].to_numpy(), kind="stable"))


class Dirt:
    """Plants the dirt of one wave; a person gets one kind of personal dirt at most."""

    def __init__(self, wave: Wave, rows: Rows, people: pd.DataFrame, log: Log, rng: np.random.Generator):
        """Rows that are returned and not needed as they are may get personal dirt."""
        self.wave, self.rows, self.people, self.log, self.rng = wave, rows, people, log, rng
        keys = rows.keys
        self.free = (keys["outcome"] == RETURNED).to_numpy() & ~keys["fixed"].to_numpy()
        self.free &= ~keys["trust"].isin([wave.trust_index(code) for code in wave.small_bases["trust"]]).to_numpy()

    def note(self, kind: str, count: int, note: str = "") -> None:
        """Add to the log."""
        self.log.add(self.wave.year, kind, count, note)

    def take(self, count: int, mask: np.ndarray | None = None) -> np.ndarray:
        """Rows that have no personal dirt yet; they are spoken for from now on."""
        pool = np.flatnonzero(self.free if mask is None else self.free & mask)
        chosen = self.rng.choice(pool, count, replace=False)
        self.free[chosen] = False
        return chosen

    def sent_past(self, item: str) -> np.ndarray:
        """Rows that a filter sends past a question."""
        past = np.zeros(len(self.rows), bool)
        for target, gate, code in self.wave.routes:
            if target == item:
                past |= self.rows.answers[gate] == code
        return past

    def outside_the_base(self) -> None:
        """Count the honest answers that are outside every base; nothing is changed."""
        for kind, name, note in (
            (DONT_KNOW, "dont_know_answer", "don't know, not sure, can't remember, over all questions"),
            (
                NOT_APPLICABLE,
                "not_applicable_answer",
                "no need, has support, and the like, over all questions",
            ),
            (NOT_ROUTED, "routing_code", "sent past and coded so; others sent past are blank"),
        ):
            found = [(o.kinds[v] == kind) & (v != BLANK) for v, o in self._values_and_options()]
            self.note(name, sum(int(each.sum()) for each in found), note)

    def _values_and_options(self) -> list[tuple[np.ndarray, Options]]:
        return [(self.rows.answers[item], options) for item, options in self.wave.options.items()]

    # ---- answers ----
    def unanswered(self) -> None:
        """Questions left out, as a missing code or as a blank; older people leave out more."""
        codes = blanks = 0
        old = (self.rows.keys["frame_band"] == 3).to_numpy()
        returned = (self.rows.keys["outcome"] == RETURNED).to_numpy()
        for item, options in self.wave.options.items():
            values = self.rows.answers[item]
            chance = (0.05 if item.startswith("support") else 0.032) + 0.025 * old
            given = returned & np.isin(options.kinds[values], (0, 1, 2)) & (values != BLANK)
            left = given & (self.rng.random(len(values)) < chance)
            coded = left & (self.rng.random(len(values)) < 0.6)
            values[left] = BLANK
            values[coded] = options.of_kind(NOT_ANSWERED)[0]
            codes, blanks = codes + coded.sum(), blanks + (left & ~coded).sum()
        self.note("missing_code", codes, "question left out, coded as missing")
        self.note("blank_answer", blanks, "question left out, no value at all")

    def bad_codes(self) -> None:
        """Codes a question does not have, and two boxes ticked."""
        for kind, name, each, note in (
            (OUT_OF_RANGE, "out_of_range", 20, "a code the question does not have"),
            (MULTIPLE, "multiple", 26, "two boxes ticked in a question with one answer"),
        ):
            planted = 0
            for item, options in self.wave.options.items():
                values = self.rows.answers[item]
                pool = np.flatnonzero((options.kinds[values] == ANSWERED) & (values != BLANK) & self.free)
                chosen = self.rng.choice(pool, each, replace=False)
                bad = options.of_kind(kind)
                values[chosen] = bad[np.arange(each) % len(bad)]
                planted += each
            self.note(name, planted, note)

    def rogue_answers(self) -> None:
        """Answers behind a filter that sent the person past, a few of them bad codes on top."""
        for item, options in self.wave.options.items():
            past = self.sent_past(item) & self.free
            if not past.any():
                continue
            chosen = self.take(70 if item == "contact_care_coordinator" else 40, past)
            valid = options.of_kind(ANSWERED)
            worst = valid[np.argsort(options.favour[valid])][0]
            values = np.where(self.rng.random(len(chosen)) < 0.5, worst, self.rng.choice(valid, len(chosen)))
            values[:3], values[3:5] = options.of_kind(OUT_OF_RANGE)[0], options.of_kind(MULTIPLE)[0]
            self.rows.answers[item][chosen] = values
            self.note("routing_violation", len(chosen), f"{item}: answered although sent past; 5 of them bad codes")

    def blank_filters(self) -> None:
        """A filter left blank with an answer behind it, and a routing code behind a blank filter."""
        gate, item = "in_charge_known", "contact_care_coordinator"
        options = self.wave.options[item]
        values = self.rows.answers[item]
        chosen = self.take(35, (options.kinds[values] == ANSWERED) & (values != BLANK) & ~self.sent_past(item))
        self.rows.answers[gate][chosen] = BLANK
        self.note("blank_filter_answer_behind", len(chosen), "the answer behind it is kept")
        routed = options.of_kind(NOT_ROUTED)[0]
        chosen = self.take(15, values == routed)
        for name in {gate for target, gate, _ in self.wave.routes if target == item}:
            self.rows.answers[name][chosen] = BLANK
        self.note(
            "blank_filter_routing_code_behind",
            len(chosen),
            "the code alone says that the person was sent past",
        )

    # ---- persons ----
    def not_useable(self) -> None:
        """Forms with fewer answers than a useable return needs."""
        chosen = self.take(34)
        items = self.wave.items
        for number, row in enumerate(chosen):
            keep = set(self.rng.choice(len(items), number % 5, replace=False))
            for index, item in enumerate(items):
                options, values = self.wave.options[item], self.rows.answers[item]
                given = values[row] != BLANK and options.kinds[values[row]] <= NOT_APPLICABLE
                if index not in keep or not given:
                    values[row] = BLANK if number % 2 else options.of_kind(NOT_ANSWERED)[0]
        self.note("not_useable", len(chosen), "forms with 0 to 4 answers")

    def ages_and_genders(self) -> None:
        """Under age, impossible years of birth both ways, two-figure years, missing age or gender."""
        keys = self.rows.keys
        in_frame = (keys["outcome"] == RETURNED) & (keys["frame_band"] == UNDER)
        adult = in_frame & (keys["age"] >= 18)
        self.note("under_age_frame", in_frame.sum(), "returned, under 18 in the sample frame")
        self.note("under_age_frame_only", adult.sum(), "of these, an adult by the questionnaire")
        self.free &= ~in_frame.to_numpy()
        known = (keys["frame_band"] >= 0).to_numpy()
        chosen = self.take(30 if not self.wave.flag("under_age_in_frame") else 18, known)
        keys.loc[chosen, "own_age"] = self.rng.integers(14, 18, len(chosen))
        self.note("under_age_questionnaire", len(chosen), "returned, under 18 by the questionnaire only")
        year = self.wave.year
        years = self.wave.key("questionnaire_age")["measured_as"] == "years"
        for kind, count, values, note in (
            ("age_impossibly_low", 24, range(9), "born after, or a few years before, the survey"),
            ("age_impossibly_high", 24, range(112, 165), "born too long ago"),
            ("age_two_figures", 8, range(year - 85, year - 25), "year of birth written with two figures"),
        ):
            if years and kind == "age_two_figures":
                continue
            chosen = self.take(count)
            keys.loc[chosen, "own_age"] = self.rng.choice(np.array(values), count)
            self.note(kind, count, note)
        for kind, share in (("own_age", 0.025), ("own_gender", 0.02)):
            pool = np.flatnonzero(self.free)
            chosen = pool[self.rng.random(len(pool)) < share]
            code = self.rng.random(len(chosen)) < 0.5
            if kind == "own_age":
                keys.loc[chosen, "own_age_state"] = np.where(code, MISSING_CODE, EMPTY)
            else:
                keys.loc[chosen, "own_gender"] = np.where(code, -2, -1)
            self.note(f"missing_{kind}", len(chosen), "half a code, half blank; the sample frame serves instead")
        returned = keys[keys["outcome"] == RETURNED]
        self.note("missing_frame_age", returned["frame_no_age"].sum(), "returned rows, weight cell unknown")
        wild = (returned["frame_band"] == UNKNOWN) & ~returned["frame_no_age"]
        self.note("frame_age_impossible", wild.sum(), "returned rows, weight cell unknown")
        self.note("missing_frame_gender", (returned["frame_gender"] == UNKNOWN).sum(), "returned rows")

    def not_in_frame(self) -> None:
        """A respondent whose gender in the respondents' file is one of which the frame counted nobody."""
        keys = self.rows.keys
        for cell in self.wave.empty_cells.query("kind == 'not_in_frame'").itertuples():
            where = self.wave.trust_index(cell.trust)
            mask = (keys["trust"] == where) & (keys["frame_band"] == BANDS.index(cell.age_band))
            chosen = self.take(1, (mask & (keys["frame_gender"] >= 0)).to_numpy())
            person = keys.loc[chosen[0], "person"]
            keys.loc[chosen, "frame_gender"] = GENDERS.index(cell.gender)
            self.people.loc[person, "frame_gender"] = UNKNOWN
            self.note("cell_respondent_without_frame", 1, f"{cell.trust} {cell.gender} {cell.age_band}")

    def duplicates(self) -> None:
        """The same record twice: copies fuller, thinner, equal or different, and late replies."""
        rows, keys = self.rows, self.rows.keys
        last = float(keys["place"].max())
        plan = [
            ("fuller_later", 10),
            ("fuller_first", 10),
            ("equal", 7),
            ("different", 7),
            ("three_times", 3),
        ]
        if self.wave.in_file:
            plan.append(("reply_after_no_reply", 6))
        for kind, count in plan:
            chosen = self.take(count)
            for part in range(2 if kind == "three_times" else 1):
                copy = rows.copy_of(chosen)
                near = np.arange(count) % 3 > 0
                copy.keys["place"] = np.where(near, copy.keys["place"] + 0.25 * (part + 1), last + 1 + np.arange(count))
                last += count + 1
                copy.keys["spaced"] = np.arange(count) % 2 == 0
                copy.keys["twin"] = True
                if kind in ("fuller_first", "three_times"):
                    self._thin(copy, np.arange(count))
                elif kind == "different":
                    for item in ("overall_experience", "support_finance", "listened_to", "enough_time"):
                        if item in copy.answers:
                            valid = self.wave.options[item].of_kind(ANSWERED)
                            given = np.isin(copy.answers[item], valid)
                            copy.answers[item][given] = self.rng.choice(valid, given.sum())
                elif kind == "reply_after_no_reply":
                    for values in copy.answers.values():
                        values[:] = BLANK
                    copy.keys["outcome"] = NOT_RETURNED
                    copy.keys["own_age_state"], copy.keys["own_gender"] = EMPTY, -1
                    copy.keys["place"] = keys.loc[chosen, "place"].to_numpy() - 0.25
                rows = rows.extended(copy)
            if kind == "fuller_later":
                self._thin(rows, chosen)
            rows.keys.loc[chosen, "twin"] = True
            self.note("duplicate", count * (2 if kind == "three_times" else 1), f"extra rows: {kind}")
        self.free = np.concatenate([self.free, np.zeros(len(rows) - len(self.free), bool)])
        self.rows = rows

    def _thin(self, rows: Rows, index: np.ndarray) -> None:
        """Blank about half of the answers of some rows."""
        for values in rows.answers.values():
            values[index[self.rng.random(len(index)) < 0.5]] = BLANK
        first = rows.answers[self.wave.items[0]]
        first[index] = BLANK

    def late_forms(self) -> None:
        """Forms that came too late or from people who then opted out: answers, but not a return."""
        if self.wave.in_file:
            chosen = self.take(30)
            outcome = np.where(np.arange(30) % 3 == 0, OPTED_OUT, NOT_RETURNED)
            self.rows.keys.loc[chosen, "outcome"] = outcome
            self.note("answers_without_return", 30, "a filled form, but the outcome is not a return")

    # ---- small bases ----
    def small_bases(self) -> None:
        """A trust where nearly nobody is in the base of a question."""
        for plan in self.wave.small_bases.itertuples():
            options, values = self.wave.options[plan.item], self.rows.answers[plan.item]
            where = self.rows.keys["trust"].to_numpy() == self.wave.trust_index(plan.trust)
            pool = np.flatnonzero(where & (options.kinds[values] == ANSWERED) & (values != BLANK))
            chosen = self.rng.permutation(pool)[22:]
            values[chosen] = self.rng.choice(options.of_kind(NOT_APPLICABLE), len(chosen))
            self.note("small_base", len(chosen), f"{plan.trust} {plan.item}: answers turned to not applicable")

    def plant(self) -> Rows:
        """All of it, in an order in which no kind undoes another."""
        for values in self.rows.answers.values():
            values[(self.rows.keys["outcome"] != RETURNED).to_numpy()] = BLANK
        self.outside_the_base()
        self.not_in_frame()
        self.late_forms()
        self.unanswered()
        self.bad_codes()
        self.rogue_answers()
        self.blank_filters()
        self.ages_and_genders()
        self.not_useable()
        self.duplicates()
        self.small_bases()
        keys = self.rows.keys
        if not self.wave.in_file:
            twin_counts = keys["person"].value_counts()
            assert (twin_counts > 1).sum() >= 30
        return self.rows.in_order()


def stray_spaces(table: pd.DataFrame, columns: list[str], count: int, rng: np.random.Generator) -> int:
    """White space around some non-empty text cells, in place; how many."""
    for _ in range(count):
        column = table.columns.get_loc(columns[rng.integers(len(columns))])
        row = int(rng.integers(len(table)))
        value = table.iat[row, column]
        table.iat[row, column] = (f" {value}", f"{value} ", f"  {value}  ")[rng.integers(3)]
    return count
