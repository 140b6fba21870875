"""Makes the synthetic survey: six waves of raw files, their registry and the ledgers of what is in them.

    python data/synthetic/generate.py --out data/raw [--seed N]

Nothing in it is a real person, trust or answer. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from calibrate import VARIANTS, by_question, calibrate, compare, read_published
from dirt import VALUE, Dirt, Log, Rows
from instrument import BANDS, GENDERS, Wave, load
from population import RETURNED, Trusts, draw_answers, draw_people, draw_trusts, follow_routes
from truth import PERSON_STATUSES, Truth, tell
from write_files import write_csv, write_wave

HERE = Path(__file__).parent
COMMITTED = HERE.parent / "raw"
PUBLISHED = HERE.parent.parent / "dbt_project" / "seeds" / "published_figures.csv"
SEED = 20180131
STATUS_ORDER = [
    "not_asked",
    *PERSON_STATUSES[1:],
    "routing_violation",
    "not_routed",
    "multiple",
    "out_of_range",
]
STATUS_ORDER += ["not_answered", "dont_know", "not_applicable", "answered"]


def make_rows(wave: Wave, effects: Trusts, people: pd.DataFrame, published: dict, rng: np.random.Generator) -> Rows:
    """Clean rows of the responses file."""
    keys = people if wave.in_file else people[people["outcome"] == RETURNED]
    keys = keys.assign(person=keys.index).reset_index(drop=True)
    returned = (keys["outcome"] == RETURNED).to_numpy()
    keys["own_age"] = keys["age"]
    keys["own_age_state"] = np.where(returned, VALUE, 1)
    own_gender = keys["gender"].to_numpy().copy()
    if wave.flag("other_gender"):
        own_gender[rng.random(len(keys)) < 0.004] = 2
    keys["own_gender"] = np.where(returned, own_gender, -1)
    keys["place"] = np.arange(len(keys), dtype=float)
    keys["spaced"] = keys["twin"] = False
    answers = draw_answers(wave, effects, people, keys, published, rng)
    follow_routes(wave, answers, rng)
    return Rows(keys, answers)


def ledger_of(wave: Wave, rows: Rows, truth: Truth, all_items: list[str]) -> list[tuple[int, str, str, int]]:
    """How many rows of the wave have each status, for every question of the survey."""
    lines = []
    for item in all_items:
        if item not in truth.status:
            lines.append((wave.year, item, "not_asked", len(rows)))
            continue
        names, counts = np.unique(truth.status[item].astype(str), return_counts=True)
        found = dict(zip(names, counts, strict=True))
        lines += [(wave.year, item, status, int(found[status])) for status in STATUS_ORDER if status in found]
    return lines


def check_bases(wave: Wave, rows: Rows, truth: Truth) -> None:
    """Small bases are exactly the planned ones, and no other is near."""
    planned = set(wave.small_bases[["trust", "item"]].itertuples(index=False, name=None))
    trust = rows.keys["trust"].to_numpy()
    for item, status in truth.status.items():
        bases = np.bincount(trust[status == "answered"], minlength=len(wave.trusts))
        for code, base in zip(wave.trusts["code"], bases, strict=True):
            small = (code, item) in planned
            assert base < 30 if small else base >= 35, f"{wave.year} {code} {item}: base {base}"


def note_truth(wave: Wave, truth: Truth, log: Log) -> None:
    """Merges and large exclusions, as they came out."""
    for trust, cell, group, across in truth.merges:
        kind = "cell_merged_across_gender" if across else "cell_merged_in_gender"
        names = " + ".join(f"{GENDERS[c // 4]}:{BANDS[c % 4]}" for c in sorted(group))
        log.add(
            wave.year,
            kind,
            1,
            f"{wave.trusts['code'][trust]} {GENDERS[cell // 4]}:{BANDS[cell % 4]} -> {names}",
        )


def generate(out: Path, seed: int, ledgers: Path) -> pd.DataFrame:
    """Write everything; the comparison with the published values."""
    waves = load()
    published = read_published(PUBLISHED)
    wanted = by_question(published)
    codes = sorted({code for wave in waves for code in wave.trusts["code"]})
    effects = draw_trusts(codes, np.random.default_rng([seed, 0]))
    all_items = sorted({item for wave in waves for item in wave.items})
    log, registry, ledger, compared = Log(), [], [], []
    for wave in waves:
        rng = np.random.default_rng([seed, wave.year])
        people = draw_people(wave, effects, rng)
        rows = make_rows(wave, effects, people, wanted, rng)
        rows = Dirt(wave, rows, people, log, rng).plant()
        truth = tell(wave, rows, people)
        note_truth(wave, truth, log)
        check_bases(wave, rows, truth)
        swapped = calibrate(wave, rows, truth, wanted, rng)
        log.add(wave.year, "calibration_swaps", swapped, "valid answers swapped until published values agree")
        registry += write_wave(wave, rows, people, out, log, rng)
        ledger += ledger_of(wave, rows, truth, all_items)
        compared.append(compare(wave, rows, truth, published))
        useable = int((truth.person == 0).sum())
        print(f"{wave.year}: {len(people)} drawn, {len(rows)} rows, {useable} in the base, {swapped} swaps")
    for before, after in itertools.pairwise(waves):
        ended = before.trusts[(before.trusts["merged_into"] != "") & ~before.trusts["code"].isin(after.trusts["code"])]
        for line in ended.itertuples():
            log.add(after.year, "trust_merged", 1, f"{line.code} is part of {line.merged_into} from this wave on")
    registry.sort(key=lambda line: (line["wave"], line["role"]))
    write_csv(registry, out / "registry.csv")
    write_csv(ledger, ledgers / "ledger.csv", ["survey_year", "question_id", "status", "n"])
    write_csv(sorted(log.entries), ledgers / "dirt.csv", ["survey_year", "kind", "n", "note"])
    return pd.concat(compared, ignore_index=True)


def report(compared: pd.DataFrame) -> bool:
    """Print how each variant agrees with the published values; whether the product does everywhere."""
    for variant in VARIANTS:
        difference = (compared[variant] - compared["published_pct"]).abs()
        agree = difference <= compared["tolerance"] + 1e-9
        worst = (difference / compared["tolerance"]).max()
        counts = f"{agree.sum()} of {len(agree)} agree, {(~agree).sum()} miss"
        print(f"{variant:>11}: {counts}, worst {worst:.2f} x tolerance")
    return bool(((compared["product"] - compared["published_pct"]).abs() <= compared["tolerance"]).all())


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the synthetic raw files and their ledgers.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the yearly files and registry.csv")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the random numbers (default %(default)s)")
    parser.add_argument(
        "--ledgers",
        type=Path,
        help="folder for ledger.csv and dirt.csv (default: the committed ones for data/raw, else OUT_ledgers)",
    )
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    ledgers = arguments.ledgers or (HERE if out == COMMITTED else out.with_name(f"{out.name}_ledgers"))
    ledgers.mkdir(parents=True, exist_ok=True)
    return 0 if report(generate(out, arguments.seed, ledgers)) else 1


if __name__ == "__main__":
    sys.exit(main())
