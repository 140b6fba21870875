"""A few of the thousands of mutations that `make torture` tries, by the same code: see tests/torture/mutations.py."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from conftest import Warehouse

from tests.torture.changes import KINDS
from tests.torture.mutations import Mutation, mutations

SEED = 11


def tried(hand_worked: Warehouse, folder: Path, numbers: list[int]) -> list[Mutation]:
    return sorted(mutations(folder, hand_worked.settings, SEED, numbers, workers=1), key=lambda m: m.number)


def number_of(target: str, name: str) -> int:
    [number] = [n for n, kind in enumerate(KINDS) if (kind.target, kind.name) == (target, name)]
    return number


# What must come of some changes, whatever the seed.
CERTAIN = {
    ("raw", "table: written again as it is"): "no effect",
    ("raw", "table: a column removed"): "blocked by a check",
    ("raw", "table: words for an answer"): "blocked by a check",
    ("raw", "text file: empty"): "blocked at reading",
    ("registry", "sha256: another one"): "blocked at reading",
    ("registry", "file: columns in another order"): "no effect",
    ("crosswalk", "file: saved as windows-1252"): "blocked at reading",
    ("crosswalk", "file: every cell in quotes"): "no effect",
    ("crosswalk", "words for a number"): "blocked: a model could not be built",
}
# dbt parses the project anew for these, which takes seconds.
SLOW = {number_of("crosswalk", "file: missing"), number_of("crosswalk", "file: one more")}


# How many kinds of each class are drawn; what is damaged in a file's bytes, in its table, in what it says of itself.
CLASSES = {
    "raw: text file": 4,
    "raw: SPSS file": 3,
    "raw: Stata file": 3,
    "raw: table": 8,
    "raw: labels": 2,
    "raw: types": 2,
    "raw: codebook": 1,
    "registry": 8,
    "crosswalk: file": 3,
    "crosswalk": 6,
}


def class_of(number: int) -> str:
    kind = KINDS[number % len(KINDS)]
    part, colon, _ = kind.name.partition(":")
    return f"{kind.target}: {part}" if colon and kind.target != "registry" else kind.target


@pytest.fixture(scope="module")
def some(hand_worked: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> list[Mutation]:
    """One mutation of some kinds of each class, drawn at random, and of those whose outcome is certain."""
    certain = {number_of(*kind) for kind in CERTAIN}
    random = Random(SEED)
    drawn = [
        number
        for of, n in CLASSES.items()
        for number in random.sample([k for k in range(len(KINDS)) if class_of(k) == of and k not in SLOW | certain], n)
    ]
    return tried(hand_worked, tmp_path_factory.mktemp("mutations"), sorted({*certain, *drawn}))


def test_no_mutation_has_a_fault(some: list[Mutation]) -> None:
    assert {class_of(number) for number in range(len(KINDS))} == set(CLASSES) == {class_of(m.number) for m in some}
    assert {m.number: m.faults for m in some if m.faults} == {}


def test_changed_raw_files_are_refused_by_the_registry_as_it_was(some: list[Mutation]) -> None:
    verdicts = Counter(m.untouched for m in some if m.target == "raw")

    assert verdicts["refused"] > 15
    assert set(verdicts) <= {"refused", ""}  # blank where the same bytes were written again


@pytest.mark.parametrize("kind", CERTAIN, ids=": ".join)
def test_some_outcomes_are_certain(some: list[Mutation], kind: tuple[str, str]) -> None:
    [outcome] = [m.outcome for m in some if (m.target, m.kind) == kind]
    assert outcome == CERTAIN[kind]
