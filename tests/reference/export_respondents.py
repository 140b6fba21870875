"""The respondents of every wave as tables for R, made from the raw files and the crosswalk without the warehouse.

    python -m tests.reference.export_respondents <folder>

writes into the folder

    respondents_<year>.csv  one row per respondent that counts; what each column holds: `respondents`
    offered.csv             survey_year, question_id, response, is_numeric: every response on offer
    trusts.csv              survey_year, trust, reason: the trusts whose own estimates are compared, chosen by rule
    geographies.csv         the seed: what the survey calls its country

These are rows of persons: they belong in a temporary folder, never in the repository.
"""

import argparse
from pathlib import Path

import pandas as pd

from tests.recompute import Wave, age_of, coded, read_persons, read_sample, read_seed, statuses, weigh

ROOT = Path(__file__).parents[2]


def breakdowns(wave: Wave) -> pd.DataFrame:
    """Age band and gender of every raw row: the questionnaire's, the frame's where that is blank, else `unknown`."""
    data = wave.read("responses")
    found = pd.DataFrame("", index=data.index, columns=["age_band", "gender"])
    for source in ("questionnaire", "frame"):
        age = age_of(wave, "responses", f"{source}_age", data)
        gender = coded(wave, "responses", f"{source}_gender", data)
        if age is not None:
            found["age_band"] = found["age_band"].where(found["age_band"] != "", age["band"])
        if gender is not None:
            found["gender"] = found["gender"].where(found["gender"] != "", gender)
    return found.replace("", "unknown")


def respondents(wave: Wave, merged: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per respondent that counts (no person status), and the weight cells of `weigh`.

    trust, stratum   the stratum is the trust, unless the seed merged_strata pools it with another
    cell             trust and weight cell after merging, `trust:gender:age_band`; blank without population weights
    cell_total       what the combined weights of the cell have to sum to, all respondents of it together
    trust_weight     (n / T) / n_h
    supplied_weight  the weight in the deposit; blank where there is none
    age_band, gender of the breakdowns
    q_<question_id>  the response; blank for whoever gave no valid answer
    """
    persons, answers = read_persons(wave, frozenset())
    trust_weight, cells = weigh(wave, persons, read_sample(wave, persons, frozenset()))
    counts = persons["status"] == ""
    merged = merged[merged["survey_year"] == str(wave.year)]
    table = persons.loc[counts, ["trust", "cell"]].join(breakdowns(wave))
    table["stratum"] = table["trust"].replace(dict(zip(merged["trust"], merged["stratum"], strict=True)))
    table["trust_weight"] = table["trust"].map(trust_weight)
    if wave.scheme == "trust_population":
        by_cell = cells.set_index(["trust", "cell"])[["weight_cell", "weight"]]
        of_person = by_cell.reindex(pd.MultiIndex.from_frame(table[["trust", "cell"]])).set_index(table.index)
        table["cell"] = table["trust"] + ":" + of_person["weight_cell"]
        table["cell_total"] = of_person["weight"].groupby(table["cell"]).transform("sum")
    else:
        table["cell"], table["cell_total"] = "", None
    table["supplied_weight"] = persons["supplied"] if wave.scheme == "supplied" else None
    for question in answers:
        result = statuses(wave, question, persons, answers, frozenset())
        table[f"q_{question}"] = result["response"].where(result["status"] == "answered", "")
    return table, cells


def chosen_trusts(table: pd.DataFrame, cells: pd.DataFrame, seeds_dir: Path) -> dict[str, str]:
    """About six trusts of a wave and the rule that chose each; of several that fit a rule, the first by code."""
    chosen: dict[str, str] = {}

    def choose(trusts: list[str], reason: str) -> None:
        for trust in trusts:
            chosen.setdefault(trust, reason)

    sizes = table["trust"].value_counts().sort_index()
    valid = table.filter(like="q_") != ""
    bases = valid.groupby(table["trust"]).sum()
    shared = table.groupby("stratum")["trust"].nunique()
    mergers = read_seed(seeds_dir, "trust_mergers")
    one_answer = [
        table.loc[valid[column], column].groupby(table["trust"]).nunique().pipe(lambda kinds: kinds[kinds == 1].index)
        for column in valid
    ]
    choose(sorted(set(table.loc[table["stratum"].map(shared) > 1, "trust"])), "shares its stratum")
    choose(sorted(set(mergers["trust"]) & set(sizes.index)), "made of two trusts in the course of the waves")
    choose([sizes.index[0]], "first code")
    choose([sizes.idxmax()], "most respondents")
    choose([sizes.idxmin()], "fewest respondents")
    choose([bases.where(bases > 0).min(axis=1).idxmin()], "fewest answers to a question")
    choose(sorted({trust for trusts in one_answer for trust in trusts})[:1], "all answers to a question are the same")
    if len(cells):
        moved = cells[cells["cell"] != cells["weight_cell"]].groupby("trust")[["responded", "sampled"]].sum()
        choose(list(moved.sort_values(["responded", "sampled"]).index[-1:]), "merged weight cells")
    return chosen


def offered(wave: Wave, seeds_dir: Path) -> pd.DataFrame:
    """Every response that the questionnaire of the wave offers, and whether its question has a mean."""
    numeric = read_seed(seeds_dir, "questions").set_index("question_id")["is_numeric"]
    rows = [
        (wave.year, question, response, numeric[question].lower())
        for question in wave.columns
        for response in dict.fromkeys(r for t, r in wave.responses[question].values() if t == "answered")
    ]
    return pd.DataFrame(rows, columns=["survey_year", "question_id", "response", "is_numeric"])


def export(raw_dir: Path, registry: Path, seeds_dir: Path, merged_strata: Path, folder: Path) -> None:
    """Write the tables of all waves of a registry into the folder."""
    merged = pd.read_csv(merged_strata, dtype=str, keep_default_na=False)
    folder.mkdir(parents=True, exist_ok=True)
    registered = pd.read_csv(registry, dtype=str, keep_default_na=False)
    on_offer, trusts = [], []
    for year, of_wave in registered.groupby("wave"):
        files = {file.role: (raw_dir / file.path, file.format, file.encoding) for file in of_wave.itertuples()}
        wave = Wave(year, seeds_dir, files)
        table, cells = respondents(wave, merged)
        table.to_csv(folder / f"respondents_{year}.csv", index=False)
        on_offer.append(offered(wave, seeds_dir))
        chosen = chosen_trusts(table, cells, seeds_dir)
        trusts.append(pd.DataFrame({"survey_year": wave.year, "trust": list(chosen), "reason": list(chosen.values())}))
        print(f"{year}: {len(table)} respondents, trusts {', '.join(f'{t} ({r})' for t, r in chosen.items())}")
    pd.concat(on_offer).to_csv(folder / "offered.csv", index=False)
    pd.concat(trusts).to_csv(folder / "trusts.csv", index=False)
    read_seed(seeds_dir, "geographies").to_csv(folder / "geographies.csv", index=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the respondents of every wave as tables for R.")
    parser.add_argument("folder", type=Path, help="a temporary folder: these are rows of persons")
    parser.add_argument("--raw-dir", type=Path, default=ROOT / "data" / "raw")
    parser.add_argument("--seeds-dir", type=Path, default=ROOT / "dbt_project" / "seeds")
    parser.add_argument("--registry", type=Path, help="where it does not lie beside the raw files")
    parser.add_argument("--merged-strata", type=Path, help="in place of the seed merged_strata")
    given = parser.parse_args()
    strata = given.merged_strata or given.seeds_dir / "merged_strata.csv"
    registry = given.registry or given.raw_dir / "registry.csv"
    export(given.raw_dir, registry, given.seeds_dir, strata, given.folder)
