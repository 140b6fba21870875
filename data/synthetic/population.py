"""The people drawn by each trust, who replies, and what they would answer on a clean form.

Belongs here: the invented world before anything goes wrong. What goes wrong is in `dirt.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from instrument import (
    ANSWERED,
    BAND_FROM,
    BAND_TO,
    BANDS,
    BLANK,
    DONT_KNOW,
    GENDERS,
    NOT_APPLICABLE,
    NOT_ROUTED,
    UNDER,
    UNKNOWN,
    Wave,
)

RETURNED, UNDELIVERED, DIED, OPTED_OUT, NOT_ELIGIBLE, NOT_RETURNED = 1, 2, 3, 4, 5, 6
REPLY_BY_BAND = np.array([-0.48, -0.14, 0.24, 0.38])
REPLY_BY_GENDER = np.array([0.10, -0.12, 0.00])
LIKING_BY_BAND = np.array([-0.36, -0.14, 0.10, 0.44])
LIKING_BY_GENDER = np.array([-0.08, 0.12, -0.25])
NO_NEED_BY_BAND = np.array([0.85, 0.93, 1.05, 1.20])
NO_NEED_BY_BAND_WORK = np.array([0.75, 0.85, 1.10, 1.35])
PARALLEL = 0.55  # how much the answers of one person go together


@dataclass
class Trusts:
    """What sets each trust apart, the same in every wave."""

    reply: dict[str, float]
    liking: dict[str, float]


def draw_trusts(codes: list[str], rng: np.random.Generator) -> Trusts:
    """Trust effects on replying and on liking; trusts that are liked are replied to a little more."""
    reply = np.clip(rng.normal(0, 0.22, len(codes)), -0.38, 0.42)
    liking = rng.normal(0, 0.25, len(codes)) + 0.7 * reply
    return Trusts(dict(zip(codes, reply, strict=True)), dict(zip(codes, liking, strict=True)))


def band_of(age: np.ndarray) -> np.ndarray:
    """Age band of an age in years, or UNDER."""
    return np.where(age < BAND_FROM[0], UNDER, np.searchsorted(BAND_FROM, age, side="right") - 1)


def _solve(function, target: np.ndarray, low: float = -12.0, high: float = 12.0) -> np.ndarray:
    """Where an increasing function meets each target, by halving."""
    low, high = np.full(len(target), low), np.full(len(target), high)
    for _ in range(45):
        middle = (low + high) / 2
        under = function(middle) < target
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return (low + high) / 2


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def draw_people(wave: Wave, effects: Trusts, rng: np.random.Generator) -> pd.DataFrame:
    """Everybody drawn in a wave: one row a person, with what the sample frame says and the outcome."""
    sizes = wave.trusts["sampled"].to_numpy()
    trust = np.repeat(np.arange(len(sizes)), sizes)
    count = len(trust)
    mix = rng.dirichlet(60 * np.array([0.28, 0.28, 0.25, 0.19]), len(sizes))
    band = (rng.random(count)[:, None] > np.cumsum(mix, axis=1)[trust]).sum(axis=1).clip(0, 3)
    men = np.clip(rng.normal(0.47, 0.04, len(sizes)), 0.38, 0.56)
    gender = (rng.random(count) < men[trust]).astype(int)
    age = rng.integers(BAND_FROM[band], BAND_TO[band] + 1)
    record = np.concatenate([1001 + rng.permutation(size) for size in sizes])
    blocked = np.zeros(count, bool)
    fixed = np.zeros(count, bool)

    def make_other(where: int, bands: list[int]) -> np.ndarray:
        chosen = rng.choice(np.flatnonzero((trust == where) & ~fixed), len(bands), replace=False)
        gender[chosen] = 2
        age[chosen] = rng.integers(BAND_FROM[bands], BAND_TO[bands] + 1)
        fixed[chosen] = True
        return chosen

    planned = {wave.trust_index(code) for code in wave.empty_cells["trust"]}
    if wave.flag("other_gender"):
        free = [index for index in range(len(sizes)) if index not in planned]
        for where in rng.choice(free, 14, replace=False):
            first = int(rng.integers(0, 3))
            make_other(int(where), [int(first + step) for step in rng.integers(0, 2, rng.integers(1, 4))])
    for cell in wave.empty_cells.query("kind == 'no_respondent' and gender == 'other'").itertuples():
        band_index = BANDS.index(cell.age_band)
        blocked[make_other(wave.trust_index(cell.trust), [band_index] * 2)] = True

    frame_age = age.copy()
    slip = (rng.random(count) < 0.015) & ~fixed
    frame_age[slip] = np.maximum(18, frame_age[slip] + rng.integers(-6, 7, slip.sum()))
    if wave.flag("under_age_in_frame"):
        young = (rng.random(count) < 0.0035) & ~fixed
        frame_age[young] = rng.integers(16, 18, young.sum())
        age[young] = np.where(rng.random(young.sum()) < 0.6, frame_age[young], rng.integers(18, 22, young.sum()))
    frame_gender = gender.copy()
    turned = (rng.random(count) < 0.003) & ~fixed
    frame_gender[turned] = 1 - frame_gender[turned]
    frame_band = band_of(frame_age)
    no_age = (rng.random(count) < 0.007) & ~fixed
    wild = np.zeros(count, bool)
    key = wave.key("frame_age")
    if key is not None and key["measured_as"] == "years":
        wild = (rng.random(count) < 0.0012) & ~fixed & ~no_age
        frame_age[wild] = rng.choice([0, 1, 2, 116, 120, 199], wild.sum())
    frame_band[no_age | wild] = UNKNOWN
    frame_gender[(rng.random(count) < 0.003) & ~fixed] = UNKNOWN

    for cell in wave.empty_cells.query("kind == 'no_respondent' and gender != 'other'").itertuples():
        blocked |= (
            (trust == wave.trust_index(cell.trust))
            & (frame_band == BANDS.index(cell.age_band))
            & (frame_gender == GENDERS.index(cell.gender))
        )
    outcome = np.full(count, NOT_RETURNED)
    luck = rng.random(count)
    outcome[luck < 0.060] = NOT_ELIGIBLE
    outcome[luck < 0.048] = DIED
    outcome[luck < 0.040] = UNDELIVERED
    reached = outcome == NOT_RETURNED
    reply = np.array([effects.reply[code] for code in wave.trusts["code"]])[trust]
    reply = reply + REPLY_BY_BAND[np.maximum(band_of(age), 0)] + REPLY_BY_GENDER[gender]
    rate = np.array([float(wave.facts["response_rate"]) / 100])
    level = _solve(lambda x: np.array([_logistic(x[0] + reply[reached]).mean()]), rate)[0]
    outcome[reached & ~blocked & (rng.random(count) < _logistic(level + reply))] = RETURNED
    outcome[(outcome == NOT_RETURNED) & (rng.random(count) < 0.07)] = OPTED_OUT
    return pd.DataFrame(
        {
            "trust": trust,
            "record": record,
            "age": age,
            "gender": gender,
            "outcome": outcome,
            "frame_age": frame_age,
            "frame_no_age": no_age,
            "frame_band": frame_band,
            "frame_gender": frame_gender,
            "fixed": fixed,
        }
    ).sort_values(["trust", "record"], ignore_index=True)


def draw_answers(
    wave: Wave,
    effects: Trusts,
    people: pd.DataFrame,
    rows: pd.DataFrame,
    published: dict[tuple[str, int], dict[str, float]],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """A clean form of each row, as positions in the option lists; people are for the balance of the cells.

    Liking depends on trust, age and gender. Thresholds are set so that the equally weighted trusts, each
    with its own mix of people drawn, come near the wanted shares.
    """
    trusts = len(wave.trusts)
    liking = np.array([effects.liking[code] for code in wave.trusts["code"]])
    cell_liking = liking[:, None, None] + LIKING_BY_BAND[None, :, None] + LIKING_BY_GENDER[None, None, :]
    drawn = np.zeros((trusts, 4, 3))
    np.add.at(drawn, (people["trust"], np.maximum(band_of(people["age"].to_numpy()), 0), people["gender"]), 1)
    drawn /= drawn.sum(axis=(1, 2), keepdims=True) * trusts
    where = (
        rows["trust"].to_numpy(),
        np.maximum(band_of(rows["age"].to_numpy()), 0),
        rows["gender"].to_numpy(),
    )
    person = rng.normal(size=len(rows))
    answers = {}
    for item, options in wave.options.items():
        asked = options.of_kind(ANSWERED, DONT_KNOW, NOT_APPLICABLE)
        share = wave.shares[item].copy()
        valid = options.kinds[asked] == ANSWERED
        known = published.get((item, wave.year), {})
        listed = np.array([options.answers[i] in known for i in asked])
        if listed.any():
            wanted = np.array([known.get(options.answers[i], 0.0) for i in asked])
            inside = share[valid].sum()
            if listed[valid].all():
                share[valid] = inside * wanted[valid] / wanted.sum()
            else:
                rest = valid & ~listed
                share[listed] = inside * wanted[listed] / 100
                share[rest] *= (inside - share[listed].sum()) / share[rest].sum()
        by_band = NO_NEED_BY_BAND_WORK if item == "support_work" else NO_NEED_BY_BAND
        outside = share[~valid].sum()
        habit = np.exp(rng.normal(0, 0.06, trusts))
        aside = np.minimum(outside * by_band[None, :, None] * habit[:, None, None], 0.72) + np.zeros((1, 1, 3))
        order = asked[valid][np.argsort(options.favour[asked[valid]])]
        portion = np.array([share[list(asked).index(i)] for i in order])
        cumulative = np.cumsum(portion / portion.sum())[:-1]
        level = cell_liking + rng.normal(0, 0.12, trusts)[:, None, None]
        weight = (drawn * (1 - aside)).ravel()
        weight /= weight.sum()
        flat = level.ravel()
        cuts = _solve(lambda x, flat=flat, weight=weight: _logistic(x[:, None] - flat[None, :]) @ weight, cumulative)
        mood = PARALLEL * person + np.sqrt(1 - PARALLEL**2) * rng.normal(size=len(rows))
        even = (np.argsort(np.argsort(mood)) + 0.5) / len(rows)
        latent = level[where] + np.log(even / (1 - even))
        answer = order[np.searchsorted(cuts, latent)]
        off = rng.random(len(rows)) < aside[where]
        if off.any() and outside:
            answer[off] = rng.choice(asked[~valid], off.sum(), p=share[~valid] / outside)
        answers[item] = answer.astype(np.int16)
    return answers


def follow_routes(wave: Wave, answers: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Questions that an earlier answer sends the person past become the routing code, or blank."""
    for item, options in wave.options.items():
        past = np.zeros(len(answers[item]), bool)
        for target, gate, code in wave.routes:
            if target == item:
                past |= answers[gate] == code
        if past.any():
            code = options.of_kind(NOT_ROUTED)[0]
            answers[item][past] = np.where(rng.random(past.sum()) < 0.7, code, BLANK)
