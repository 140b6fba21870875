"""Swaps answers until the published values come out, and says how far other ways of counting miss them.

Belongs here: the search. It changes valid answers into other valid answers of persons who are in the base
anyway, so no status and no weight moves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from dirt import Rows
from instrument import ANSWERED, Wave
from truth import Truth, share_of_response

VARIANTS = ("product", "unweighted", "trust_only", "unexcluded")


def read_published(path: Path) -> pd.DataFrame:
    """The final published values, with the tolerance of their rounding."""
    table = pd.read_csv(path, dtype={"response": str, "vintage": str})
    table = table[table["status"] == "final"].copy()
    table["tolerance"] = 0.5 * 10.0 ** -table["decimals"]
    return table


def by_question(published: pd.DataFrame) -> dict[tuple[str, int], dict[str, float]]:
    """question, wave -> response -> percent; a full list of responses is scaled to 100."""
    result = {}
    for (item, year), rows in published.groupby(["question_id", "survey_year"]):
        values = dict(zip(rows["response"], rows["published_pct"].astype(float), strict=True))
        if len(values) > 1:
            total = sum(values.values())
            values = {response: 100 * value / total for response, value in values.items()}
        result[item, int(year)] = values
    return result


def calibrate(
    wave: Wave,
    rows: Rows,
    truth: Truth,
    published: dict[tuple[str, int], dict[str, float]],
    rng: np.random.Generator,
) -> int:
    """Swap answers of the wave's published questions; how many were swapped."""
    swapped = 0
    for item, options in wave.options.items():
        wanted = published.get((item, wave.year))
        if not wanted:
            continue
        base = np.flatnonzero(truth.status[item] == "answered")
        values, weight = rows.answers[item][base], truth.weight[base]
        movable = ~rows.keys["twin"].to_numpy()[base]
        total = weight.sum()
        valid = options.of_kind(ANSWERED)
        now = np.array([weight[values == code].sum() for code in valid])
        listed = np.array([options.answers[code] in wanted for code in valid])
        goal = np.array([wanted.get(options.answers[code], 0.0) / 100 * total for code in valid])
        if not listed.all():
            goal[~listed] = now[~listed] * (total - goal[listed].sum()) / now[~listed].sum()
        for _ in range(5000):
            gap = now - goal
            most, least = int(gap.argmax()), int(gap.argmin())
            need = min(gap[most], -gap[least])
            pool = np.flatnonzero((values == valid[most]) & movable)
            if need > 8:
                pick = rng.permutation(pool)
                pick = pick[np.cumsum(weight[pick]) <= need - 4]
            else:
                pick = pool[[np.abs(weight[pool] - need).argmin()]]
                if abs(need - weight[pick[0]]) >= need:
                    break
            values[pick] = valid[least]
            now[most] -= weight[pick].sum()
            now[least] += weight[pick].sum()
            swapped += len(pick)
        rows.answers[item][base] = values
    return swapped


def compare(wave: Wave, rows: Rows, truth: Truth, published: pd.DataFrame) -> pd.DataFrame:
    """Each final published value of the wave beside what each variant makes of the rows."""
    own = published[published["survey_year"] == wave.year].copy()
    for variant in VARIANTS:
        own[variant] = [
            share_of_response(wave, rows, truth, r.question_id, r.response, variant) for r in own.itertuples()
        ]
    return own
