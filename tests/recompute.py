"""A second opinion: every number again from the raw files, in plain pandas.

Nothing is shared with the pipeline or with the generator of the synthetic files. The registry and the crosswalk
seeds are read as data; the rules are applied one after the other, in the order written down.

    python tests/recompute.py data/raw dbt_project/seeds
"""

import argparse
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat

GIVEN = ("answered", "dont_know", "not_applicable")  # treatments of an answer that the person gave
OUTCOMES = {"undelivered": "undeliverable", "died": "died", "not_eligible": "not_eligible"}


# ---- reading ----
def as_text(value) -> str:
    """A stored value as text: whole numbers without a point, nothing for a missing one."""
    if isinstance(value, str):
        return value
    if value is None or np.isnan(value):
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


@cache
def read_raw(path: Path, file_format: str, encoding: str) -> pd.DataFrame:
    """One raw file as trimmed text; headers in lower case; blank is the empty text."""
    if file_format in ("sav", "dta"):
        reader = pyreadstat.read_sav if file_format == "sav" else pyreadstat.read_dta
        data, _ = reader(str(path), user_missing=True, disable_datetime_conversion=True)
    else:
        layout = {"sep": "\t", "quoting": 3} if file_format == "tab" else {"sep": ","}
        data = pd.read_csv(path, dtype=str, keep_default_na=False, encoding=encoding, **layout)
    columns = {}
    for name in data.columns:
        places, values = pd.factorize(data[name])  # -1 is a missing value
        texts = np.array([as_text(v).strip() for v in values] + [""], dtype=object)
        columns[name.strip().lstrip("\ufeff").lower()] = texts[places]
    return pd.DataFrame(columns, index=range(1, len(data) + 1), dtype=object)


@cache
def read_seed(seeds_dir: Path, name: str) -> pd.DataFrame:
    """One seed as text."""
    return pd.read_csv(seeds_dir / f"{name}.csv", dtype=str, keep_default_na=False)


def number(text: str) -> float | None:
    """A setting as a number; blank is None."""
    return float(text) if text.strip() else None


class Wave:
    """The settings, crosswalk rows and files of one wave."""

    def __init__(self, year: str, seeds_dir: Path, files: dict):
        def rows(name: str) -> pd.DataFrame:
            seed = read_seed(seeds_dir, name)
            return seed[seed["survey_year"] == year]

        self.year, self.files = int(year), files
        settings = rows("waves").iloc[0]
        self.scheme, self.frame = settings["weighting_scheme"], settings["sample_frame"]
        for name in ("minimum_age", "plausible_age_from", "plausible_age_to", "age_reference_year"):
            setattr(self, name, number(settings[name]))
        self.min_answered = number(settings["min_answered"]) or 0
        self.min_cell = number(settings["min_cell"]) or 1
        bands = rows("age_bands").sort_values("position", key=pd.to_numeric)
        self.bands = [(b.age_band, number(b.from_age), number(b.to_age)) for b in bands.itertuples()]
        genders = read_seed(seeds_dir, "genders").sort_values("position", key=pd.to_numeric)
        self.genders = list(genders["gender"])
        self.variables = {
            (v.file_role, v.variable): (v.raw_column.lower(), v.measured_as) for v in rows("key_variables").itertuples()
        }
        self.codes, self.responses, self.routing = {}, {}, {}
        for c in rows("key_codes").itertuples():
            self.codes.setdefault((c.file_role, c.variable), {})[c.code] = c.value
        self.columns = {q.question_id: q.raw_column.lower() for q in rows("question_map").itertuples()}
        for r in rows("response_map").itertuples():
            self.responses.setdefault(r.question_id, {})[r.code] = (r.treatment, r.response)
        for r in rows("routing").itertuples():
            filters = self.routing.setdefault(r.question_id, {})
            filters.setdefault(r.filter_question_id, set()).add(r.filter_code)
        self.corrections = [c for c in rows("corrections").itertuples() if c.file_role in files]

    def read(self, role: str) -> pd.DataFrame:
        """A file of the wave with its known errors corrected, each where the file itself has it."""
        landed = read_raw(*self.files[role])
        data = landed.copy()
        for c in self.corrections:
            if c.file_role == role:
                wrong = landed[c.raw_column.lower()] == c.found
                if c.condition_column:
                    wrong &= landed[c.condition_column.lower()] == c.condition_value
                if not wrong.any():
                    raise ValueError(f"{self.year} {role}: correction {c.correction} matches nothing")
                data.loc[wrong, c.raw_column.lower()] = c.replacement
        return data


# ---- key variables ----
def coded(wave: Wave, role: str, variable: str, data: pd.DataFrame) -> pd.Series | None:
    """A coded key variable in words, blank where it is missing; a code that no seed lists is an error."""
    if (role, variable) not in wave.variables:
        return None
    column, _ = wave.variables[role, variable]
    codes = {"": "", **wave.codes.get((role, variable), {})}
    if strange := set(data[column]) - set(codes):
        raise ValueError(f"{wave.year} {role} {variable} ({column}): unlisted codes {sorted(strange)[:9]}")
    return data[column].map(codes).replace("missing", "")


def age_of(wave: Wave, role: str, variable: str, data: pd.DataFrame) -> pd.DataFrame | None:
    """The age band (blank if none), whether the age is under the minimum, and whether it is known."""
    if (role, variable) not in wave.variables:
        return None
    column, measured_as = wave.variables[role, variable]
    if measured_as == "code":
        values = coded(wave, role, variable, data)
        under = values == "under_minimum"
        return pd.DataFrame({"band": values.where(~under, ""), "under": under, "known": values != ""})
    missing = wave.codes.get((role, variable), {})
    years = pd.to_numeric(data[column].where(~data[column].isin(missing)), errors="coerce")
    if measured_as == "birth_year":
        years = wave.age_reference_year - years
    years = years.where(years.between(wave.plausible_age_from, wave.plausible_age_to))
    under = years < wave.minimum_age
    band = pd.Series("", index=data.index, dtype=object)
    for name, from_age, to_age in wave.bands:
        band[years.between(from_age, np.inf if to_age is None else to_age) & ~under] = name
    return pd.DataFrame({"band": band, "under": under, "known": years.notna()})


def cell_of(age: pd.DataFrame | None, gender: pd.Series | None, index: pd.Index) -> pd.Series:
    """The weight cell: gender and band, or `unknown` where either is missing."""
    if age is None or gender is None:
        return pd.Series("unknown", index=index, dtype=object)
    return (gender + ":" + age["band"]).where((gender != "") & (age["band"] != ""), "unknown")


# ---- persons ----
def read_persons(wave: Wave, without: frozenset) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Every raw row with its person status (blank if none applies), and the codes of every question."""
    data, role = wave.read("responses"), "responses"
    answers = {question: data[column] for question, column in wave.columns.items()}
    for question, codes in answers.items():
        if strange := set(codes) - set(wave.responses.get(question, {})) - {""}:
            raise ValueError(f"{wave.year} {question}: unlisted codes {sorted(strange)[:9]}")
    persons = pd.DataFrame({"row": data.index}, index=data.index)
    for variable in ("trust", "record"):
        persons[variable] = data[wave.variables[role, variable][0]]

    # A survey with one source of age, or of gender, uses it for both purposes.
    frame_age, own_age = (age_of(wave, role, f"{source}_age", data) for source in ("frame", "questionnaire"))
    frame_age, own_age = (own_age if frame_age is None else frame_age), (frame_age if own_age is None else own_age)
    frame_gender = coded(wave, role, "frame_gender", data)
    if frame_gender is None:
        frame_gender = coded(wave, role, "questionnaire_gender", data)
    persons["cell"] = cell_of(frame_age, frame_gender, data.index)
    persons["frame_under"], under = False, False
    if frame_age is not None:
        persons["frame_under"] = frame_age["under"]
        under = own_age["under"].where(own_age["known"], frame_age["under"]) | frame_age["under"]

    outcome = coded(wave, role, "outcome", data)
    persons["outcome"] = "" if outcome is None else outcome
    persons["returned"] = True if outcome is None else outcome == "returned"
    if (role, "weight") in wave.variables:
        weights = data[wave.variables[role, "weight"][0]]
        weights = weights.where(~weights.isin(wave.codes.get((role, "weight"), {})))
        persons["supplied"] = pd.to_numeric(weights, errors="coerce").fillna(0.0)
    persons["answered"] = 0
    for question, codes in answers.items():
        given = [code for code, (treatment, _) in wave.responses[question].items() if treatment in GIVEN]
        persons["answered"] += codes.isin(given).astype(int)

    # Duplicates: most answers first, then the earlier row; whoever is not the first of trust and record goes.
    ordered = persons.sort_values(["answered", "row"], ascending=[False, True])
    persons["duplicate"] = ordered.duplicated(["trust", "record"]) & (ordered["record"] != "")
    rules = {
        "duplicate": persons["duplicate"],
        "not_returned": ~persons["returned"],
        "not_eligible": pd.Series(under, index=data.index),
        "not_useable": persons["answered"] < wave.min_answered,
    }
    persons["status"] = ""
    for status, applies in rules.items():
        if status not in without:
            persons.loc[(persons["status"] == "") & applies, "status"] = status
    return persons, answers


def read_sample(wave: Wave, persons: pd.DataFrame, without: frozenset) -> pd.DataFrame | None:
    """The persons drawn by trust, cell and outcome, those under the minimum age left out."""
    if wave.frame == "none":
        return None
    if wave.frame == "in_file":
        drawn = persons[~persons["frame_under"]]
        if "duplicate" not in without:
            drawn = drawn[~drawn["duplicate"]]
        return drawn[["trust", "cell", "outcome"]].assign(persons=1)
    data, role = wave.read("sampled"), "sampled"
    age = age_of(wave, role, "frame_age", data)
    drawn = pd.DataFrame({"trust": data[wave.variables[role, "trust"][0]]})
    drawn["cell"] = cell_of(age, coded(wave, role, "frame_gender", data), data.index)
    outcome = coded(wave, role, "outcome", data)
    drawn["outcome"] = "" if outcome is None else outcome
    drawn["persons"] = pd.to_numeric(data[wave.variables[role, "persons"][0]]).astype(int)
    return drawn if age is None else drawn[~age["under"]]


# ---- weights ----
def fails(group: dict, min_cell: float) -> bool:
    """Whether a group of cells cannot carry a weight of its own."""
    return group["n"] < min_cell or group["N"] == 0 < group["n"]


def partners(group: dict, groups: list[dict], genders: list[str], min_cell: float) -> list[dict]:
    """What a failing group is merged into: the next older one, else the next younger, else across gender."""
    same = [g for g in groups if g is not group and g["gender"] == group["gender"]]
    if same:
        older = [g for g in same if g["first"] > group["first"]]
        return [min(older, key=lambda g: g["first"]) if older else max(same, key=lambda g: g["first"])]
    ranked = []
    for at, gender in enumerate(genders):
        hosts = [g for g in groups if g is not group and g["gender"] == gender]
        if hosts:
            apart = [max(0, g["first"] - group["last"], group["first"] - g["last"]) for g in hosts]
            near = [g for g, distance in zip(hosts, apart, strict=True) if distance == min(apart)]
            ranked.append((any(fails(g, min_cell) for g in hosts), min(apart) > 0, at, near))
    # A gender that can stand alone, one that has the same ages, then the order of the genders.
    return min(ranked)[-1]


def merge_cells(
    cells: list[tuple[str, int, int]], bands: list[str], genders: list[str], min_cell: float
) -> dict[str, str]:
    """Each known cell (name, N, n) of one trust with the cell it belongs to, after one merge at a time."""
    groups = []
    for cell, drawn, responded in cells:
        gender, band = cell.split(":", 1)
        at = bands.index(band)
        group = {"gender": gender, "first": at, "last": at, "N": drawn, "n": responded}
        groups.append({**group, "members": [(-responded, -at, genders.index(gender), cell)]})
    while len(groups) > 1:
        failing = [g for g in groups if fails(g, min_cell)]
        if not failing:
            break
        # Inside the genders as long as that helps, then across; the youngest first.
        left = Counter(g["gender"] for g in groups)
        group = min(failing, key=lambda g: (left[g["gender"]] == 1, g["first"], genders.index(g["gender"])))
        into = partners(group, groups, genders, min_cell)
        joined = [group, *into]
        own = joined if left[group["gender"]] > 1 else into  # a group's ages are those of its own gender
        merged = {
            "gender": into[0]["gender"],
            "first": min(g["first"] for g in own),
            "last": max(g["last"] for g in own),
            "N": sum(g["N"] for g in joined),
            "n": sum(g["n"] for g in joined),
            "members": [member for g in joined for member in g["members"]],
        }
        groups = [g for g in groups if all(g is not j for j in joined)] + [merged]
    # The most respondents give the name, then the oldest, then the order of the genders.
    return {member[-1]: min(g["members"])[-1] for g in groups for member in g["members"]}


def weigh(wave: Wave, persons: pd.DataFrame, sample: pd.DataFrame | None) -> tuple[pd.Series, pd.DataFrame]:
    """The weight of every trust, and the weight cells where a wave is weighted to its population."""
    kept = persons[persons["status"] == ""]
    n_h = kept["trust"].value_counts()
    big_n_h = n_h if sample is None else sample.groupby("trust")["persons"].sum()
    trust_weight = (n_h.sum() / (big_n_h > 0).sum()) / n_h
    if wave.scheme != "trust_population":
        return trust_weight, pd.DataFrame(columns=["trust", "cell", "weight"])
    drawn = sample.groupby(["trust", "cell"])["persons"].sum()
    counts = pd.DataFrame({"N": drawn, "n": kept.groupby(["trust", "cell"]).size()}).fillna(0).astype(int)
    cells = counts.query("N > 0 or n > 0").reset_index()
    known = cells[cells["cell"] != "unknown"]
    bands = [name for name, _, _ in wave.bands]
    cells["weight_cell"] = "unknown"
    for _, of_trust in known.groupby("trust"):
        table = list(of_trust[["cell", "N", "n"]].itertuples(index=False))
        merged = merge_cells(table, bands, wave.genders, wave.min_cell)
        cells.loc[of_trust.index, "weight_cell"] = of_trust["cell"].map(merged)
    of_group = cells.groupby(["trust", "weight_cell"])[["N", "n"]].transform("sum")
    of_known = known.groupby("trust")[["N", "n"]].transform("sum")
    population_weight = (of_group["N"] / of_known["N"]) / (of_group["n"] / of_known["n"])
    cells["weight"] = cells["trust"].map(trust_weight) * population_weight.where(cells["cell"] != "unknown", 1.0)
    return trust_weight, cells.rename(columns={"N": "sampled", "n": "responded"}).assign(survey_year=wave.year)


def rates_of(wave: Wave, persons: pd.DataFrame, sample: pd.DataFrame | None) -> pd.DataFrame:
    """Persons drawn, those who cannot have answered, and respondents by trust; none where no frame is known."""
    if sample is None:
        return pd.DataFrame()
    rates = pd.DataFrame({"sampled": sample.groupby("trust")["persons"].sum()})
    for outcome, column in OUTCOMES.items():
        counts = sample[sample["outcome"] == outcome].groupby("trust")["persons"].sum()
        rates[column] = counts.reindex(rates.index, fill_value=0) if any(sample["outcome"] != "") else None
    rates["responded"] = persons.loc[persons["status"] == "", "trust"].value_counts()
    return rates.fillna({"responded": 0}).reset_index().assign(survey_year=wave.year)


# ---- questions ----
def statuses(wave: Wave, question: str, persons: pd.DataFrame, answers: dict, without: frozenset) -> pd.DataFrame:
    """Status, response and response as it stands (no rule applied) of every raw row for a question."""
    codes, mapped = answers[question], wave.responses[question]
    treatment = codes.map({"": "not_answered", **{c: t for c, (t, _) in mapped.items()}})
    as_it_stands = codes.map({"": "", **{c: r if t == "answered" else "" for c, (t, r) in mapped.items()}})
    sent_past = pd.Series(False, index=codes.index)
    for filter_question, filter_codes in wave.routing.get(question, {}).items():
        sent_past |= answers[filter_question].isin(filter_codes)
    silent = treatment.isin(["not_answered", "not_routed"])

    rules = {
        "routing_violation": sent_past & ~silent,
        "not_routed": (sent_past & silent) | (treatment == "not_routed"),
    }
    for rule in ("multiple", "out_of_range", "not_answered", "dont_know", "not_applicable"):
        rules[rule] = treatment == rule
    status = persons["status"].copy()
    left = status == ""
    for rule, applies in rules.items():
        if rule not in without:
            status[left & applies] = rule
            left &= ~applies
    status[left] = "answered"
    # Where the rule for a code is off, the code counts as one more response.
    response = as_it_stands.where(treatment == "answered", "code " + codes)
    return pd.DataFrame({"status": status, "response": response, "as_it_stands": as_it_stands})


def percentages(response: pd.Series, weight: pd.Series, offered: list[str]) -> list[tuple[str, float, int]]:
    """Response, percentage and base for every response on offer, also those that nobody gave."""
    total, by_response = weight.sum(), weight.groupby(response).sum()
    return [(r, 100 * by_response.get(r, 0.0) / total if total else np.nan, len(response)) for r in offered]


def recompute(raw_dir, seeds_dir, without=(), registry=None) -> dict[str, pd.DataFrame]:
    """Estimates, exclusions, weight cells and response rates of trusts from the raw files.

    `without` names statuses whose rule is off; `registry` is the registry if it lies apart from the files.
    """
    raw_dir, seeds_dir, without = Path(raw_dir), Path(seeds_dir), frozenset(without)
    files = pd.read_csv(registry or raw_dir / "registry.csv", dtype=str, keep_default_na=False)
    estimates, exclusions, weight_cells, rates = [], [], [], []
    for year, of_wave in files.groupby("wave"):
        roles = {f.role: (raw_dir / f.path, f.format, f.encoding) for f in of_wave.itertuples()}
        wave = Wave(year, seeds_dir, roles)
        persons, answers = read_persons(wave, without)
        sample = read_sample(wave, persons, without)
        trust_weight, cells = weigh(wave, persons, sample)
        weight_cells.append(cells)
        rates.append(rates_of(wave, persons, sample))

        schemes = {"none": pd.Series(1.0, index=persons.index)}
        if wave.scheme == "supplied":
            schemes["supplied"] = persons["supplied"]
        if wave.frame != "none":
            schemes["trust"] = persons["trust"].map(trust_weight).fillna(0.0)
        if wave.scheme == "trust_population":
            by_cell = cells.set_index(["trust", "cell"])["weight"]
            own = by_cell.reindex(pd.MultiIndex.from_frame(persons[["trust", "cell"]])).to_numpy()
            schemes["trust_population"] = pd.Series(own, persons.index).fillna(schemes["trust"])

        for question in read_seed(seeds_dir, "questions")["question_id"]:
            if question not in answers:
                exclusions.append((wave.year, question, "not_asked", len(persons)))
                continue
            offered = list(dict.fromkeys(r for t, r in wave.responses[question].values() if t == "answered"))
            result = statuses(wave, question, persons, answers, without)
            exclusions += [(wave.year, question, s, n) for s, n in result["status"].value_counts().items()]
            answered, returned = result[result["status"] == "answered"], result[persons["returned"]]
            for scheme, weight in schemes.items():
                for row in percentages(answered["response"], weight[answered.index], offered):
                    estimates.append((wave.year, question, scheme, *row))
            for row in percentages(returned["as_it_stands"], schemes[wave.scheme][returned.index], offered):
                estimates.append((wave.year, question, "unexcluded", *row))
    keys = ["survey_year", "question_id"]
    return {
        "estimates": pd.DataFrame(estimates, columns=[*keys, "scheme", "response", "pct", "base"]),
        "exclusions": pd.DataFrame(exclusions, columns=[*keys, "status", "n"]),
        "weight_cells": pd.concat(weight_cells, ignore_index=True),
        "response_rates": pd.concat(rates, ignore_index=True),
    }


def beside_published(estimates: pd.DataFrame, seeds_dir: Path) -> pd.DataFrame:
    """Every final published value beside the recomputed ones, one column a scheme."""
    published = read_seed(seeds_dir, "published_figures").query("status == 'final'")
    published = published.astype({"survey_year": int, "decimals": int, "published_pct": float})
    published["tolerance"] = 0.5 * 10.0 ** -published["decimals"]
    keys = ["question_id", "survey_year", "response"]
    ours = estimates.pivot(index=keys, columns="scheme", values="pct").reset_index()
    return published.merge(ours, how="left", on=keys, validate="one_to_one")


def agreeing(table: pd.DataFrame, scheme: str) -> pd.Series:
    """Which rows of `beside_published` agree within the rounding of the published value."""
    return (table[scheme] - table["published_pct"]).abs() <= table["tolerance"] + 1e-9


def main() -> None:
    """Print the recomputed indicators beside the published figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("raw_dir", type=Path)
    parser.add_argument("seeds_dir", type=Path)
    given = parser.parse_args()
    table = beside_published(recompute(given.raw_dir, given.seeds_dir)["estimates"], given.seeds_dir)
    schemes = [scheme for scheme in ("trust_population", "trust", "none", "unexcluded") if scheme in table]
    shown = ["question_id", "survey_year", "response", "published_pct", *schemes]
    print(table[shown].round(3).to_string(index=False))
    for scheme in schemes:
        print(f"{scheme}: {agreeing(table, scheme).sum()} of {len(table)} agree")


if __name__ == "__main__":
    main()
