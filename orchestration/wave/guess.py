"""Which column of a new file is which known one, by labels, value labels and answers; names are a hint at most.

Belongs here: comparing columns and putting them together one to one. Does not: reading files or the crosswalk (draft).
A number or a name that stays while its meaning moves is the classic error, so a name never counts where both columns
have a label, and nothing is called likely without one.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

Certainty = Literal["likely", "uncertain"]
Kind = Literal["codes", "numbers", "text", "blank"]

# Of 100. Two labels that are less alike than this share some words, as any two questions do.
LABELS_FROM = 70
# Where a column has no label, its answers count for half of what a label does, and its name for a tenth. Together they
# have to reach this: answers that agree by four fifths, or by less under the same name.
ANSWERS_COUNT = 50
NAME_COUNTS = 10
WITHOUT_LABEL_FROM = 40
# A guess that is this close to another one for the same column is a tie.
TIE = 5
# Shares of answers that differ by more than this in sum, of 1, speak against a guess.
OTHER_ANSWERS = 0.5
# Value labels that this share of the columns has say nothing of one column: missing, not applicable.
CONVENTION = 0.5


@dataclass(frozen=True)
class Column:
    """What is known of a column but not of a person: `texts` are its label and wordings, the label first.

    `options` are its value labels by code, `shares` its answers by code (of 1, blanks left out; none for numbers),
    `low` and `high` the 5th and 95th percentile of kind numbers. `name` is blank where it may not count.
    """

    key: str
    name: str = ""
    texts: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    kind: Kind = "blank"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Guess:
    """`known` and `column` are keys of the two columns; `score` is of 100; `evidence` is in words."""

    known: str
    column: str
    certainty: Certainty
    score: int
    evidence: str


@dataclass(frozen=True)
class _Pair:
    score: float
    labelled: bool
    evidence: str
    doubts: tuple[str, ...]


def plain(text: str) -> str:
    """A text for comparison: words and numbers alone, in lower case."""
    folded = (
        unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("\N{RIGHT SINGLE QUOTATION MARK}", "")
    )
    return " ".join(re.findall(r"\w+", folded.replace("_", " ")))


def is_slip(one: str, other: str) -> bool:
    """Whether two plain texts differ by a slip of the pen: a letter in at most two of their longer words.

    Another word, another number or another beginning of a word ("unlikely") is another meaning.
    """
    from rapidfuzz.distance import OSA

    words = list(zip(one.split(), other.split(), strict=False))
    if len(one.split()) != len(other.split()):
        return False
    differing = [pair for pair in words if pair[0] != pair[1]]
    return len(differing) <= 2 and all(
        min(len(a), len(b)) >= 4
        and a[0] == b[0]
        and not re.search(r"\d", a + b)
        and OSA.distance(a, b, score_cutoff=1) <= 1
        for a, b in differing
    )


def alike(one: str, other: str) -> float:
    """How alike two texts are, 0 to 100; 100 only where their words are the same."""
    from rapidfuzz import fuzz

    a, b = plain(one), plain(other)
    if a == b:
        return 100.0
    ratio = max(fuzz.ratio(a, b), 0.85 * fuzz.token_set_ratio(a, b))
    if sorted(re.findall(r"\d+", a)) != sorted(re.findall(r"\d+", b)):
        return min(ratio, LABELS_FROM - 1.0)
    return min(ratio, 99.0)


def guess(known: Sequence[Column], columns: Sequence[Column]) -> list[Guess]:
    """The columns that go together, each at most once, in the order of `columns`.

    Likely are those whose label is the same but for a slip of the pen, is nobody else's, and is not contradicted by
    value labels or answers. What is alike without being the same is uncertain; a tie is; and what rests on answers
    or names alone. A column that is like none is left out.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    if not known or not columns:
        return []
    conventions = _conventions([*known, *columns])
    pairs = {
        (i, j): _pair(old, new, conventions) for (i, old), (j, new) in product(enumerate(known), enumerate(columns))
    }
    scores = np.array([[pairs[i, j].score for j in range(len(columns))] for i in range(len(known))])
    found = []
    for i, j in zip(*linear_sum_assignment(scores, maximize=True), strict=True):
        pair = pairs[i, j]
        rivals = [float(s) for s in [*np.delete(scores[i], j), *np.delete(scores[:, j], i)]]
        tied = max(rivals, default=0.0) > pair.score - TIE
        if pair.score < (LABELS_FROM if pair.labelled else WITHOUT_LABEL_FROM):
            continue
        if tied and not pair.labelled:
            continue
        doubts = [*pair.doubts, *(["another column is as much like it"] if tied else [])]
        evidence = pair.evidence + "".join(f"; but {doubt}" for doubt in doubts)
        certainty: Certainty = "uncertain" if doubts or not pair.labelled else "likely"
        found.append((j, Guess(known[i].key, columns[j].key, certainty, int(pair.score), evidence)))
    return [guessed for _, guessed in sorted(found, key=lambda pair: pair[0])]


def _conventions(columns: Sequence[Column]) -> set[str]:
    """Value labels that most columns with value labels have."""
    labelled = [{plain(label) for label in column.options.values()} for column in columns if column.options]
    counts = Counter(label for labels in labelled for label in labels)
    return {label for label, count in counts.items() if count >= max(2, CONVENTION * len(labelled))}


def _pair(old: Column, new: Column, conventions: set[str]) -> _Pair:
    if not old.texts or not new.texts:
        return _without_label(old, new, conventions)
    text, label = max((alike(one, other), one) for one, other in product(old.texts, new.texts))
    evidence = f'label "{new.texts[0]}" of column {new.key}' + ("" if text == 100 else f', was "{label}"')
    doubts = []
    if text < 100 and not any(is_slip(plain(a), plain(b)) for a, b in product(old.texts, new.texts)):
        doubts.append("its words differ")
    ours, theirs = _options(old, conventions), _options(new, conventions)
    score = text
    if ours and theirs:
        shared = len(ours & theirs) / min(len(ours), len(theirs))
        evidence += f"; {len(ours & theirs)} of {len(theirs)} answers are called the same"
        if shared == 0:
            return _Pair(0.0, True, evidence, ())
        score = 0.8 * text + 20 * shared if text < 100 else text - 10 * (1 - shared)
        if shared < 0.5:
            doubts.append("most of its answers are called otherwise")
    elif ours or theirs:
        doubts.append("only one of the two files has value labels for it")
    if old.kind != new.kind and "blank" not in (old.kind, new.kind):
        doubts.append(f"it held {old.kind} and holds {new.kind}")
    elif (similar := _similar(old, new)) is not None and similar < 1 - OTHER_ANSWERS:
        doubts.append("its answers are distributed otherwise")
    return _Pair(score, True, evidence, tuple(doubts))


def _without_label(old: Column, new: Column, conventions: set[str]) -> _Pair:
    """By answers, value labels where both have them, and a little by name."""
    # A column of one answer is like every other such column.
    agreeing = 0.0 if 1 in (len(old.shares), len(new.shares)) else _similar(old, new) or 0.0
    ours, theirs = _options(old, conventions), _options(new, conventions)
    if ours and theirs:
        agreeing = (agreeing + len(ours & theirs) / min(len(ours), len(theirs))) / 2
    named = alike(old.name, new.name) / 100 if old.name and new.name else 0.0
    evidence = f"column {new.key} has no label" if not new.texts else f"column {new.key} had no label before"
    evidence += f"; its answers agree by {agreeing:.0%}"
    if named:
        evidence += f", its name by {named:.0%}"
    return _Pair(ANSWERS_COUNT * agreeing + NAME_COUNTS * named, False, evidence, ())


def _options(column: Column, conventions: set[str]) -> set[str]:
    return {plain(option) for option in column.options.values()} - conventions


def _similar(old: Column, new: Column) -> float | None:
    """How far the answers agree, 0 to 1: by label where both have value labels, else by code; None where not known."""
    if old.kind != new.kind or old.kind == "blank":
        return None
    if old.shares and new.shares:
        by_label = bool(old.options and new.options)
        ours, theirs = (_shares(column, by_label) for column in (old, new))
        return sum(min(ours.get(code, 0.0), share) for code, share in theirs.items())
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return None
    width = max(old.high, new.high) - min(old.low, new.low)
    return max(0.0, min(old.high, new.high) - max(old.low, new.low)) / width if width else 1.0


def _shares(column: Column, by_label: bool) -> Mapping[str, float]:
    if not by_label:
        return column.shares
    shares: Counter[str] = Counter()
    for code, share in column.shares.items():
        shares[plain(column.options.get(code, code))] += share  # type: ignore[assignment]
    return shares
