"""The truth about a wave, from the planted rows alone: statuses, weights, shares.

Belongs here: the generator's own reading of the rules, in numpy, needed to calibrate and to write the ledger.
It shares nothing with the warehouse, so that the two can disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from dirt import VALUE, Rows
from instrument import ANSWERED, BLANK, DONT_KNOW, NOT_ANSWERED, NOT_APPLICABLE, NOT_ROUTED, UNDER, Wave
from population import RETURNED

MINIMUM_AGE, PLAUSIBLE_FROM, PLAUSIBLE_TO, MIN_ANSWERED, MIN_CELL = 18, 10, 110, 5, 1
UNKNOWN_CELL = 12  # cells 0-11 are gender * 4 + band
PERSON_STATUSES = ("", "duplicate", "not_returned", "not_eligible", "not_useable")
KIND_STATUS = {
    ANSWERED: "answered",
    DONT_KNOW: "dont_know",
    NOT_APPLICABLE: "not_applicable",
    3: "multiple",
    4: "out_of_range",
    NOT_ANSWERED: "not_answered",
    NOT_ROUTED: "not_routed",
}


@dataclass
class Truth:
    """Statuses, weight cells and weights of one wave."""

    person: np.ndarray
    status: dict[str, np.ndarray]
    cell: np.ndarray
    weight: np.ndarray
    trust_weight: np.ndarray
    merges: list[tuple[int, int, tuple[int, ...], bool]]


def _cells(band: np.ndarray, gender: np.ndarray) -> np.ndarray:
    return np.where((band < 0) | (gender < 0), UNKNOWN_CELL, gender * 4 + band)


def person_status(wave: Wave, rows: Rows) -> np.ndarray:
    """Position in PERSON_STATUSES of each row."""
    keys = rows.keys
    answered = np.zeros(len(rows), int)
    for item, options in wave.options.items():
        values = rows.answers[item]
        answered += (values != BLANK) & (options.kinds[values] <= NOT_APPLICABLE)
    order = np.lexsort((np.arange(len(rows)), -answered, keys["record"], keys["trust"]))
    same = keys[["trust", "record"]].iloc[order].duplicated().to_numpy()
    duplicate = np.zeros(len(rows), bool)
    duplicate[order[same]] = True
    own = keys["own_age"].to_numpy()
    own_ok = (keys["own_age_state"] == VALUE).to_numpy() & (own >= PLAUSIBLE_FROM) & (own <= PLAUSIBLE_TO)
    frame_under = (keys["frame_band"] == UNDER).to_numpy()
    under = frame_under | (own_ok & (own < MINIMUM_AGE))
    return np.select(
        [duplicate, (keys["outcome"] != RETURNED).to_numpy(), under, answered < MIN_ANSWERED], [1, 2, 3, 4], 0
    )


def question_status(wave: Wave, rows: Rows, person: np.ndarray) -> dict[str, np.ndarray]:
    """Status of each row for each question of the wave."""
    result = {}
    for item, options in wave.options.items():
        values = rows.answers[item]
        kind = np.where(values == BLANK, NOT_ANSWERED, options.kinds[values])
        past = np.zeros(len(rows), bool)
        for target, gate, code in wave.routes:
            if target == item:
                past |= rows.answers[gate] == code
        status = np.array([KIND_STATUS[k] for k in range(7)], dtype=object)[kind]
        silent = np.isin(kind, (NOT_ANSWERED, NOT_ROUTED))
        status[past & silent] = "not_routed"
        status[past & ~silent] = "routing_violation"
        named = np.array(PERSON_STATUSES, dtype=object)[person]
        result[item] = np.where(person > 0, named, status)
    return result


def merge_cells(drawn: np.ndarray, kept: np.ndarray) -> tuple[dict[int, tuple[int, ...]], list]:
    """Cells of one trust, merged until none fails: member -> the cells it ends up with, and the steps."""
    groups = [(c,) for c in range(12) if drawn[c] > 0 or kept[c] > 0]
    steps = []

    def total(values: np.ndarray, group: tuple[int, ...]) -> float:
        return sum(values[c] for c in group)

    def failing(group: tuple[int, ...]) -> bool:
        n = total(kept, group)
        return n < MIN_CELL or (total(drawn, group) == 0 and n > 0)

    def bands(group: tuple[int, ...]) -> list[int]:
        return [c % 4 for c in group]

    def home(group: tuple[int, ...]) -> int:
        return group[0] // 4

    while True:
        bad = sorted((g for g in groups if failing(g)), key=lambda g: (min(bands(g)), home(g)))
        if not bad or len(groups) == 1:
            break
        group = bad[0]
        kin = sorted((g for g in groups if home(g) == home(group)), key=lambda g: min(bands(g)))
        across = len(kin) == 1
        if not across:
            place = kin.index(group)
            partners = [kin[place + 1] if place + 1 < len(kin) else kin[place - 1]]
        else:
            span = range(min(bands(group)), max(bands(group)) + 1)
            choices = []
            for gender in range(3):
                over = [g for g in groups if home(g) == gender != home(group) and set(bands(g)) & set(span)]
                if over:
                    choices.append((any(failing(g) for g in over), gender, over))
            assert choices and not choices[0][0], "an unclear merge: choose another seed"
            assert sorted(set(bands(group))) == list(span), "an unclear merge: choose another seed"
            partners = min(choices)[2]
        merged = (partners[0] if across else ()) + (group if not across else ())
        for partner in partners if not across else partners[1:]:
            merged += partner
        if across:
            merged += group
        groups = [g for g in groups if g is not group and g not in partners] + [merged]
        steps.append((group[0], merged, across))
    return {c: g for g in groups for c in g}, steps


def weigh(drawn: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, list]:
    """Weight of each trust x cell (13 cells), the weight of a trust, and the merges."""
    trusts = np.count_nonzero(drawn.sum(axis=1) > 0)
    count = kept.sum()
    weight = np.zeros(drawn.shape)
    alone = np.zeros(len(drawn))
    merges = []
    for t in range(len(drawn)):
        inside = kept[t].sum()
        alone[t] = count / trusts / inside
        weight[t] = alone[t]
        known_drawn, known_kept = drawn[t, :12].sum(), kept[t, :12].sum()
        ends, steps = merge_cells(drawn[t], kept[t])
        merges += [(t, *step) for step in steps]
        for cell, group in ends.items():
            cell_drawn, cell_kept = drawn[t, list(group)].sum(), kept[t, list(group)].sum()
            weight[t, cell] = alone[t] * (cell_drawn / known_drawn) * (known_kept / cell_kept)
    return weight, alone, merges


def tell(wave: Wave, rows: Rows, people: pd.DataFrame) -> Truth:
    """The whole truth about a wave."""
    keys = rows.keys
    person = person_status(wave, rows)
    status = question_status(wave, rows, person)
    cell = _cells(keys["frame_band"].to_numpy(), keys["frame_gender"].to_numpy())
    trust = keys["trust"].to_numpy()
    size = len(wave.trusts)
    drawn, kept = np.zeros((size, 13)), np.zeros((size, 13))
    if wave.in_file:
        frame = keys[(person != 1) & (keys["frame_band"] != UNDER)]
    else:
        frame = people[people["frame_band"] != UNDER]
    frame_cell = _cells(frame["frame_band"].to_numpy(), frame["frame_gender"].to_numpy())
    np.add.at(drawn, (frame["trust"].to_numpy(), frame_cell), 1)
    useable = person == 0
    np.add.at(kept, (trust[useable], cell[useable]), 1)
    weight, alone, merges = weigh(drawn, kept)
    assert (kept.sum(axis=1) >= 120).all(), f"{wave.year}: a trust with {kept.sum(axis=1).min()} respondents"
    under = (keys["frame_band"] == UNDER).to_numpy()
    row_weight = np.where(under, alone[trust], weight[trust, cell])
    assert np.isclose(row_weight[useable].sum(), useable.sum())
    return Truth(person, status, cell, row_weight, alone[trust], merges)


def share_of_response(
    wave: Wave, rows: Rows, truth: Truth, item: str, response: str, variant: str = "product"
) -> float:
    """Percent of a response under a variant: product, unweighted, trust_only or unexcluded."""
    options, values = wave.options[item], rows.answers[item]
    chosen = np.array([a == response for a in options.answers])[values] & (values != BLANK)
    if variant == "unexcluded":
        base = (rows.keys["outcome"] == RETURNED).to_numpy()
    else:
        base = truth.status[item] == "answered"
    weight = {"unweighted": np.ones(len(rows)), "trust_only": truth.trust_weight}.get(variant, truth.weight)
    return 100 * weight[base & chosen].sum() / weight[base].sum()
