"""The questionnaire of each wave as the generator knows it, read from `instrument/*.csv`.

Belongs here: columns, code lists, routes and trusts of the invented survey. Does not belong here: anything
of the warehouse's crosswalk, which is what the files made from this are meant to test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent / "instrument"
GENDERS = ("female", "male", "other")
BANDS = ("age_18_35", "age_36_50", "age_51_65", "age_66_plus")
BAND_FROM = np.array([18, 36, 51, 66])
BAND_TO = np.array([35, 50, 65, 92])
UNDER, UNKNOWN, BLANK = -2, -1, -1
KINDS = ("answered", "dont_know", "not_applicable", "multiple", "out_of_range", "not_answered", "not_routed")
ANSWERED, DONT_KNOW, NOT_APPLICABLE, MULTIPLE, OUT_OF_RANGE, NOT_ANSWERED, NOT_ROUTED = range(7)


def read(name: str) -> pd.DataFrame:
    """One of the instrument's CSVs, all text, empty cells as empty text."""
    return pd.read_csv(FOLDER / f"{name}.csv", dtype=str, keep_default_na=False)


@dataclass
class Options:
    """The codes of one question in one wave; an answer is held as the position of its code in `codes`."""

    codes: list[str]
    labels: list[str]
    kinds: np.ndarray
    answers: list[str]
    favour: np.ndarray
    declared: list[bool]

    def of_kind(self, *kinds: int) -> np.ndarray:
        """Positions of the codes of these kinds."""
        return np.flatnonzero(np.isin(self.kinds, kinds))

    def position(self, code: str) -> int:
        """Position of a code."""
        return self.codes.index(code)


@dataclass
class Wave:
    """Everything that is fixed about one wave before a person is drawn."""

    year: int
    facts: dict[str, str]
    columns: pd.DataFrame
    files: pd.DataFrame
    trusts: pd.DataFrame
    options: dict[str, Options]
    value_sets: dict[str, pd.DataFrame]
    routes: list[tuple[str, str, int]]
    small_bases: pd.DataFrame
    empty_cells: pd.DataFrame
    shares: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def items(self) -> list[str]:
        """Questions of the wave, in the order of their columns."""
        return list(self.options)

    @property
    def in_file(self) -> bool:
        """Whether those who did not reply are rows of the responses file."""
        return self.facts["frame"] == "in_file"

    def flag(self, name: str) -> bool:
        """A true/false fact."""
        return self.facts[name] == "true"

    def trust_index(self, code: str) -> int:
        """Position of a trust in this wave's list."""
        return list(self.trusts["code"]).index(code)

    def key(self, item: str, role: str = "responses") -> pd.Series | None:
        """The column that holds a key variable, if the file has one."""
        found = self.columns.query("file_role == @role and kind == 'key' and item == @item")
        return found.iloc[0] if len(found) else None


def _options(rows: pd.DataFrame, special: pd.DataFrame) -> Options:
    kinds = [*rows["kind"], *special["kind"]]
    return Options(
        codes=[*rows["code"], *special["code"]],
        labels=[*rows["label"], *special["label"]],
        kinds=np.array([KINDS.index(kind) for kind in kinds]),
        answers=[*rows["answer"], *[""] * len(special)],
        favour=np.array([float(value or "nan") for value in [*rows["favour"], *[""] * len(special)]]),
        declared=[True] * len(rows) + [value == "true" for value in special["declared"]],
    )


def load() -> list[Wave]:
    """All waves, oldest first."""
    tables = {path.stem: read(path.stem) for path in sorted(FOLDER.glob("*.csv"))}
    codes = {str(name): rows for name, rows in tables["codes"].groupby("option_set", sort=False)}
    waves = []
    for facts in tables["waves"].to_dict("records"):
        text = facts["survey_year"]
        year = int(text)

        def of(name: str, text: str = text) -> pd.DataFrame:
            table = tables[name]
            return table[table["survey_year"] == text]

        questions = of("columns").query("kind == 'question'")
        special = of("special_codes")
        options = {
            q.item: _options(codes[q.option_set], special[special["item"] == q.item]) for q in questions.itertuples()
        }
        trusts = tables["trusts"]
        trusts = trusts[(trusts["first_year"].astype(int) <= year) & (trusts["last_year"].astype(int) >= year)]
        sizes = dict(of("sample_sizes")[["trust", "sampled"]].itertuples(index=False))
        usual = facts["usual_sample"]
        trusts = trusts.assign(sampled=[int(sizes.get(c, usual)) for c in trusts["code"]])
        expected = tables["expected_answers"]
        expected = expected[(expected["from_year"].astype(int) <= year) & (expected["to_year"].astype(int) >= year)]
        shares = {}
        for item, choice in options.items():
            asked = choice.of_kind(ANSWERED, DONT_KNOW, NOT_APPLICABLE)
            wanted = expected[expected["item"] == item]["pct"].astype(float).to_numpy()[: len(asked)]
            shares[item] = wanted / wanted.sum()
        routes = [
            (r.item, r.filter_item, options[r.filter_item].position(r.filter_code)) for r in of("routing").itertuples()
        ]
        waves.append(
            Wave(
                year,
                facts,
                of("columns"),
                of("files"),
                trusts.reset_index(drop=True),
                options,
                codes,
                routes,
                of("small_bases"),
                of("empty_cells"),
                shares,
            )
        )
    return waves
