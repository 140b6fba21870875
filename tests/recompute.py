"""A second opinion: every number again from the raw files, in plain pandas.

Nothing is shared with the pipeline or with the generator of the synthetic files. The registry and the
crosswalk seeds are read as data; the rules are applied one after the other, in the order written down.

    python tests/recompute.py data/raw dbt_project/seeds
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat

PERSON_RULES = ("duplicate", "not_returned", "not_eligible", "not_useable")
GIVEN = ("answered", "dont_know", "not_applicable")  # treatments of an answer that the person gave
OUTCOMES = {"undelivered": "undeliverable", "died": "died", "not_eligible": "not_eligible"}


# -------------------------------------------------------------------------------- reading


def as_text(value) -> str:
    """Give a stored value as text: whole numbers without a point, nothing for a missing one."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def read_raw(path: Path, file_format: str, encoding: str) -> pd.DataFrame:
    """Read one raw file as trimmed text; headers in lower case; blank is the empty text."""
    if file_format in ("sav", "dta"):
        reader = pyreadstat.read_sav if file_format == "sav" else pyreadstat.read_dta
        data, _ = reader(
            str(path), user_missing=True, apply_value_formats=False, disable_datetime_conversion=True
        )
    else:
        layout = {"sep": "\t", "quoting": 3} if file_format == "tab" else {"sep": ","}
        data = pd.read_csv(path, dtype=str, keep_default_na=False, encoding=encoding, **layout)
    columns = {}
    for name in data.columns:
        codes, values = pd.factorize(data[name])  # -1 is a missing value
        texts = np.array([as_text(v).strip() for v in values] + [""], dtype=object)
        columns[name.strip().lstrip("\ufeff").lower()] = texts[codes]
    return pd.DataFrame(columns, index=range(1, len(data) + 1), dtype=object)


def read_seed(seeds_dir: Path, name: str) -> pd.DataFrame:
    """Read one seed as text."""
    return pd.read_csv(Path(seeds_dir) / f"{name}.csv", dtype=str, keep_default_na=False)


def number(text: str) -> float | None:
    """Give a setting as a number; blank is None."""
    return float(text) if text.strip() else None


class Wave:
    """The settings, crosswalk rows and files of one wave."""

    def __init__(self, year: str, seeds: dict, files: dict):
        """Pick out of every seed the rows of this wave."""
        self.year = int(year)
        self.files = files
        mine = {n: s[s["survey_year"] == year] if "survey_year" in s else s for n, s in seeds.items()}
        settings = mine["waves"].iloc[0]
        self.scheme, self.frame = settings["weighting_scheme"], settings["sample_frame"]
        for name in ("minimum_age", "plausible_age_from", "plausible_age_to", "age_reference_year"):
            setattr(self, name, number(settings[name]))
        self.min_answered = number(settings["min_answered"]) or 0
        self.min_cell = number(settings["min_cell"]) or 1
        bands = mine["age_bands"].sort_values("position", key=pd.to_numeric)
        self.bands = [(b.age_band, number(b.from_age), number(b.to_age)) for b in bands.itertuples()]
        self.genders = list(seeds["genders"].sort_values("position", key=pd.to_numeric)["gender"])
        self.variables, self.codes = {}, {}
        for v in mine["key_variables"].itertuples():
            self.variables[v.file_role, v.variable] = (v.raw_column.lower(), v.measured_as)
        for c in mine["key_codes"].itertuples():
            self.codes.setdefault((c.file_role, c.variable), {})[c.code] = c.value
        self.questions = dict(
            zip(mine["question_map"]["question_id"], mine["question_map"]["raw_column"], strict=True)
        )
        self.responses = {}
        for r in mine["response_map"].itertuples():
            self.responses.setdefault(r.question_id, {})[r.code] = (r.treatment, r.response)
        self.routing = {}
        for r in mine["routing"].itertuples():
            filters = self.routing.setdefault(r.question_id, {})
            filters.setdefault(r.filter_question_id, set()).add(r.filter_code)


# -------------------------------------------------------------------------------- key variables


def coded(wave: Wave, role: str, variable: str, data: pd.DataFrame) -> pd.Series | None:
    """Translate a coded key variable; blank stays blank; a code that no seed lists is an error."""
    if (role, variable) not in wave.variables:
        return None
    column, _ = wave.variables[role, variable]
    codes = {"": "", **wave.codes.get((role, variable), {})}
    strange = set(data[column]) - set(codes)
    if strange:
        raise ValueError(
            f"{wave.year} {role} {variable} ({column}): codes not in key_codes: {sorted(strange)[:9]}"
        )
    return data[column].map(codes)


def gender_of(wave: Wave, role: str, variable: str, data: pd.DataFrame) -> pd.Series | None:
    """Give the gender; blank where it is missing."""
    values = coded(wave, role, variable, data)
    return None if values is None else values.replace("missing", "")


def age_of(wave: Wave, role: str, variable: str, data: pd.DataFrame) -> pd.DataFrame | None:
    """Give the age band (blank if none), whether the age is under the minimum, and whether it is known."""
    if (role, variable) not in wave.variables:
        return None
    column, measured_as = wave.variables[role, variable]
    if measured_as == "code":
        values = coded(wave, role, variable, data).replace("missing", "")
        under = values == "under_minimum"
        return pd.DataFrame({"band": values.where(~under, ""), "under": under, "known": values != ""})
    missing_codes = wave.codes.get((role, variable), {})
    years = pd.to_numeric(data[column].where(~data[column].isin(missing_codes)), errors="coerce")
    if measured_as == "birth_year":
        years = wave.age_reference_year - years
    if wave.plausible_age_from is not None:
        years = years.where(years >= wave.plausible_age_from)
    if wave.plausible_age_to is not None:
        years = years.where(years <= wave.plausible_age_to)
    under = years < wave.minimum_age if wave.minimum_age is not None else pd.Series(False, index=data.index)
    band = pd.Series("", index=data.index, dtype=object)
    for name, from_age, to_age in wave.bands:
        inside = (years >= from_age) & (years <= (np.inf if to_age is None else to_age))
        band[inside & ~under] = name
    return pd.DataFrame({"band": band, "under": under, "known": years.notna()})


def cell_of(band: pd.Series, gender: pd.Series) -> pd.Series:
    """Name the weight cell: gender and band, or `unknown` where either is missing."""
    return (gender + ":" + band).where((gender != "") & (band != ""), "unknown")


# -------------------------------------------------------------------------------- persons


def read_persons(wave: Wave, without: frozenset) -> tuple[pd.DataFrame, dict]:
    """Give every raw row its person status (blank if none applies), and the codes of every question."""
    data = read_raw(*wave.files["responses"])
    role = "responses"
    answers = {q: data[column.lower()] for q, column in wave.questions.items()}
    for question, codes in answers.items():
        strange = set(codes) - set(wave.responses.get(question, {})) - {""}
        if strange:
            raise ValueError(f"{wave.year} {question}: codes not in response_map: {sorted(strange)[:9]}")

    def text(variable: str) -> pd.Series:
        column = wave.variables.get((role, variable), (None,))[0]
        return data[column] if column else pd.Series("", index=data.index, dtype=object)

    persons = pd.DataFrame(
        {"row": data.index, "trust": text("trust"), "record": text("record")}, index=data.index
    )

    frame_age, own_age = (age_of(wave, role, f"{s}_age", data) for s in ("frame", "questionnaire"))
    frame_age, own_age = (
        own_age if frame_age is None else frame_age,
        frame_age if own_age is None else own_age,
    )
    frame_sex, own_sex = (gender_of(wave, role, f"{s}_gender", data) for s in ("frame", "questionnaire"))
    frame_sex, own_sex = (
        own_sex if frame_sex is None else frame_sex,
        frame_sex if own_sex is None else own_sex,
    )
    persons["cell"] = "unknown"
    persons["frame_under"] = persons["own_under"] = False
    if frame_age is not None:
        persons["frame_under"] = frame_age["under"]
        persons["own_under"] = own_age["under"].where(own_age["known"], frame_age["under"]).astype(bool)
        if frame_sex is not None:
            persons["cell"] = cell_of(frame_age["band"], frame_sex)

    outcome = coded(wave, role, "outcome", data)
    persons["outcome"] = "" if outcome is None else outcome
    persons["returned"] = True if outcome is None else outcome == "returned"
    if (role, "weight") in wave.variables:
        raw = text("weight")
        raw = raw.where(~raw.isin(wave.codes.get((role, "weight"), {})))
        persons["supplied"] = pd.to_numeric(raw, errors="coerce").fillna(0.0)

    persons["answered"] = 0
    for question, codes in answers.items():
        given = {c for c, (treatment, _) in wave.responses[question].items() if treatment in GIVEN}
        persons["answered"] += codes.isin(given).astype(int)

    # Duplicates: most answers first, then the earlier row; whoever is not the first of trust and record goes.
    ordered = persons.sort_values(["answered", "row"], ascending=[False, True])
    identified = (ordered["trust"] != "") & (ordered["record"] != "")
    persons["duplicate"] = ordered.duplicated(["trust", "record"]) & identified
    persons["not_returned"] = ~persons["returned"]
    persons["not_eligible"] = persons["own_under"] | persons["frame_under"]
    persons["not_useable"] = persons["answered"] < wave.min_answered
    persons["status"] = ""
    for rule in PERSON_RULES:
        if rule not in without:
            persons.loc[(persons["status"] == "") & persons[rule], "status"] = rule
    return persons, answers


# -------------------------------------------------------------------------------- weights


def read_sample(wave: Wave, persons: pd.DataFrame, without: frozenset) -> pd.DataFrame | None:
    """Give the persons drawn by trust, cell and outcome, those under the minimum age left out."""
    if wave.frame == "none":
        return None
    if wave.frame == "in_file":
        drawn = persons[~persons["frame_under"]]
        if "duplicate" not in without:
            drawn = drawn[~drawn["duplicate"]]
        return drawn[["trust", "cell", "outcome"]].assign(persons=1)
    data = read_raw(*wave.files["sampled"])
    age, sex = age_of(wave, "sampled", "frame_age", data), gender_of(wave, "sampled", "frame_gender", data)
    outcome = coded(wave, "sampled", "outcome", data)
    drawn = pd.DataFrame({"trust": data[wave.variables["sampled", "trust"][0]]}, index=data.index)
    drawn["cell"] = "unknown" if age is None or sex is None else cell_of(age["band"], sex)
    drawn["outcome"] = "" if outcome is None else outcome
    drawn["persons"] = pd.to_numeric(data[wave.variables["sampled", "persons"][0]]).astype(int)
    return drawn if age is None else drawn[~age["under"]]


def fails(group: dict, min_cell: float) -> bool:
    """Say whether a group of cells cannot carry a weight of its own."""
    return group["n"] < min_cell or group["N"] == 0 < group["n"]


def partners(group: dict, groups: list[dict], wave: Wave) -> list[dict]:
    """Choose what a failing group is merged into: older, else younger, else across gender."""
    others = [g for g in groups if g is not group]
    same = sorted((g for g in others if g["gender"] == group["gender"]), key=lambda g: g["first"])
    older = [g for g in same if g["first"] > group["first"]]
    if same:
        return [older[0]] if older else [same[-1]]
    found = []
    for gender in wave.genders:
        overlap = [
            g
            for g in others
            if g["gender"] == gender and g["first"] <= group["last"] and g["last"] >= group["first"]
        ]
        if overlap:
            found.append(overlap)
    for overlap in found:
        if not any(fails(g, wave.min_cell) for g in overlap):
            return overlap
    if found:
        return found[0]
    # Nobody of the same span in another gender: the nearest group (the rules are silent here).
    return sorted(others, key=lambda g: (abs(g["first"] - group["first"]), wave.genders.index(g["gender"])))[
        :1
    ]


def merge_cells(cells: list[tuple[str, int, int]], wave: Wave) -> list[dict]:
    """Merge the known cells (name, N, n) of one trust until none fails, one merge at a time."""
    positions = {name: i for i, (name, _, _) in enumerate(wave.bands)}
    groups = []
    for name, drawn, responded in cells:
        gender, band = name.split(":", 1)
        at = positions[band]
        groups.append(
            {"members": [name], "gender": gender, "first": at, "last": at, "N": drawn, "n": responded}
        )
    while len(groups) > 1:
        failing = [g for g in groups if fails(g, wave.min_cell)]
        if not failing:
            break
        group = min(failing, key=lambda g: (g["first"], wave.genders.index(g["gender"])))
        into = partners(group, groups, wave)
        joined = [group, *into]
        merged = {
            "members": [m for g in joined for m in g["members"]],
            "gender": into[0]["gender"],
            "first": min(g["first"] for g in joined),
            "last": max(g["last"] for g in joined),
            "N": sum(g["N"] for g in joined),
            "n": sum(g["n"] for g in joined),
        }
        groups = [g for g in groups if all(g is not j for j in joined)] + [merged]
    return groups


def weigh(wave: Wave, persons: pd.DataFrame, sample: pd.DataFrame | None) -> tuple[pd.Series, pd.DataFrame]:
    """Give the weight of every trust, and the weight cells where a wave is weighted to its population."""
    kept = persons[persons["status"] == ""]
    n_h = kept["trust"].value_counts()
    big_n_h = n_h if sample is None else sample.groupby("trust")["persons"].sum()
    trust_weight = (n_h.sum() / (big_n_h > 0).sum()) / n_h
    rows = []
    if wave.scheme == "trust_population":
        drawn = sample.groupby(["trust", "cell"])["persons"].sum()
        responded = kept.groupby(["trust", "cell"]).size()
        counts = pd.DataFrame({"N": drawn, "n": responded}).fillna(0).astype(int).reset_index()
        counts = counts[(counts["N"] > 0) | (counts["n"] > 0)]
        positions = {name: i for i, (name, _, _) in enumerate(wave.bands)}
        for trust, cells in counts.groupby("trust"):
            base = {c.cell: (int(c.N), int(c.n)) for c in cells.itertuples()}
            if "unknown" in base:
                rows.append((trust, "unknown", None, *base.pop("unknown"), trust_weight.get(trust, np.nan)))
            known_drawn = sum(a for a, _ in base.values())
            known_responded = sum(b for _, b in base.values())
            for group in merge_cells([(name, *pair) for name, pair in base.items()], wave):
                weight = trust_weight.get(trust, np.nan)
                if group["n"] == 0:
                    weight = np.nan
                elif group["N"] > 0:
                    weight *= (group["N"] / known_drawn) * (known_responded / group["n"])
                name = min(
                    group["members"],
                    key=lambda m: (positions[m.split(":", 1)[1]], wave.genders.index(m.split(":", 1)[0])),
                )
                for member in group["members"]:
                    into = name if len(group["members"]) > 1 else None
                    rows.append((trust, member, into, *base[member], weight))
    cells = pd.DataFrame(rows, columns=["trust", "cell", "merged_into", "sampled", "responded", "weight"])
    cells.insert(0, "survey_year", wave.year)
    return trust_weight, cells


# -------------------------------------------------------------------------------- questions


def statuses(
    wave: Wave, question: str, persons: pd.DataFrame, answers: dict, without: frozenset
) -> pd.DataFrame:
    """Give status, response and response as it stands (no rule applied) of every raw row for a question."""
    codes = answers[question]
    mapped = wave.responses[question]
    treatment = codes.map({"": "not_answered", **{c: t for c, (t, _) in mapped.items()}})
    as_it_stands = codes.map({"": "", **{c: r if t == "answered" else "" for c, (t, r) in mapped.items()}})
    sent_past = pd.Series(False, index=codes.index)
    for filter_question, filter_codes in wave.routing.get(question, {}).items():
        sent_past |= answers[filter_question].isin(filter_codes)
    silent = treatment.isin(["not_answered", "not_routed"])

    status = persons["status"].copy()
    if "routing_violation" not in without:
        status[(status == "") & sent_past & ~silent] = "routing_violation"
    if "not_routed" not in without:
        status[(status == "") & ((sent_past & silent) | (treatment == "not_routed"))] = "not_routed"
    response = as_it_stands.copy()
    for rule in ("multiple", "out_of_range", "not_answered", "dont_know", "not_applicable", "not_routed"):
        here = (status == "") & (treatment == rule)
        if rule in without:  # switched off: the code counts as one more response
            response[here] = "code " + codes[here]
        else:
            status[here] = rule
    status[status == ""] = "answered"
    return pd.DataFrame({"status": status, "response": response, "as_it_stands": as_it_stands})


def percentages(response: pd.Series, weight: pd.Series, listed: list[str]) -> list[tuple[str, float, int]]:
    """Give response, percentage and base for every listed response, also those that nobody gave."""
    total = weight.sum()
    by_response = weight.groupby(response).sum()
    return [(r, 100 * by_response.get(r, 0.0) / total if total else np.nan, len(response)) for r in listed]


def recompute(raw_dir, seeds_dir, without=frozenset(), registry=None) -> dict[str, pd.DataFrame]:
    """Recompute estimates, exclusions, weight cells and response rates from the raw files.

    `without` names statuses whose rule is off; `registry` is the registry if it lies apart from the files.
    """
    raw_dir, seeds_dir, without = Path(raw_dir), Path(seeds_dir), frozenset(without)
    names = "waves age_bands genders key_variables key_codes questions question_map response_map routing"
    seeds = {name: read_seed(seeds_dir, name) for name in names.split()}
    files = pd.read_csv(registry or raw_dir / "registry.csv", dtype=str, keep_default_na=False)
    listed: dict[str, list[str]] = {}
    for r in read_seed(seeds_dir, "responses").itertuples():
        listed.setdefault(r.question_id, []).append(r.response)
    estimates, exclusions, weight_cells, rates = [], [], [], []
    for year in sorted(files["wave"].unique(), key=int):
        rows = files[files["wave"] == year]
        wave = Wave(
            year, seeds, {f.role: (raw_dir / f.path, f.format, f.encoding) for f in rows.itertuples()}
        )
        persons, answers = read_persons(wave, without)
        sample = read_sample(wave, persons, without)
        trust_weight, cells = weigh(wave, persons, sample)
        weight_cells.append(cells)

        by_trust = persons["trust"].map(trust_weight).fillna(0.0)
        by_cell = pd.Series(
            cells["weight"].to_numpy(float), pd.MultiIndex.from_frame(cells[["trust", "cell"]])
        )
        schemes = {"none": pd.Series(1.0, index=persons.index)}
        if wave.scheme == "supplied":
            schemes["supplied"] = persons["supplied"]
        if wave.scheme in ("trust", "trust_population"):
            schemes["trust"] = by_trust
        if wave.scheme == "trust_population":
            own = by_cell.reindex(pd.MultiIndex.from_frame(persons[["trust", "cell"]]))
            schemes["trust_population"] = pd.Series(own.to_numpy(), persons.index).fillna(by_trust)

        for question in seeds["questions"]["question_id"]:
            if question not in answers:
                exclusions.append((wave.year, question, "not_asked", len(persons)))
                continue
            result = statuses(wave, question, persons, answers, without)
            for status, n in result["status"].value_counts().items():
                exclusions.append((wave.year, question, status, int(n)))
            answered = result["status"] == "answered"
            for scheme, weight in schemes.items():
                for row in percentages(result.loc[answered, "response"], weight[answered], listed[question]):
                    estimates.append((wave.year, question, row[0], scheme, *row[1:]))
            returned, full = persons["returned"], schemes[wave.scheme]
            for row in percentages(result.loc[returned, "as_it_stands"], full[returned], listed[question]):
                estimates.append((wave.year, question, row[0], "unexcluded", *row[1:]))

        responded = persons.loc[persons["status"] == "", "trust"].value_counts()
        drawn = pd.Series(dtype=int) if sample is None else sample.groupby("trust")["persons"].sum()
        for trust in sorted(set(responded.index) | set(drawn.index)):
            row = {
                "survey_year": wave.year,
                "trust": trust,
                "sampled": None if sample is None else drawn.get(trust, 0),
            }
            mine = (
                None
                if sample is None or not (sample["outcome"] != "").any()
                else sample[sample["trust"] == trust]
            )
            for outcome, column in OUTCOMES.items():
                row[column] = None if mine is None else mine.loc[mine["outcome"] == outcome, "persons"].sum()
            rates.append({**row, "responded": responded.get(trust, 0)})

    rates = pd.DataFrame(rates)
    counts = list(rates.columns[2:])
    rates[counts] = rates[counts].astype("Int64")
    keys = ["survey_year", "question_id"]
    return {
        "estimates": pd.DataFrame(estimates, columns=[*keys, "response", "scheme", "pct", "base"]),
        "exclusions": pd.DataFrame(exclusions, columns=[*keys, "status", "n"])
        .sort_values([*keys, "status"])
        .reset_index(drop=True),
        "weight_cells": pd.concat(weight_cells)
        .sort_values(["survey_year", "trust", "cell"])
        .reset_index(drop=True),
        "response_rates": rates,
    }


def compare(estimates: pd.DataFrame, seeds_dir) -> pd.DataFrame:
    """Put every final published value beside the recomputed one, for every scheme."""
    published = read_seed(Path(seeds_dir), "published_figures").query("status == 'final'")
    published = published.astype({"survey_year": int, "decimals": int, "published_pct": float})
    keys = ["question_id", "survey_year", "response"]
    table = published.merge(
        estimates.pivot(index=keys, columns="scheme", values="pct").reset_index(), how="left", on=keys
    )
    table["tolerance"] = 0.5 * 10.0 ** -table["decimals"]
    return table


def main() -> None:
    """Print the recomputed indicators beside the published figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("raw_dir", type=Path)
    parser.add_argument("seeds_dir", type=Path)
    parser.add_argument("--registry", type=Path)
    given = parser.parse_args()
    estimates = recompute(given.raw_dir, given.seeds_dir, registry=given.registry)["estimates"]
    table = compare(estimates, given.seeds_dir)
    waves = read_seed(given.seeds_dir, "waves")
    own = dict(zip(waves["survey_year"].astype(int), waves["weighting_scheme"], strict=True))
    table["own"] = [row[own[row["survey_year"]]] for _, row in table.iterrows()]
    schemes = ["own", *(s for s in ("none", "trust", "unexcluded") if s in table)]
    agree = {s: (table[s] - table["published_pct"]).abs() <= table["tolerance"] + 1e-9 for s in schemes}
    print(
        table[["question_id", "survey_year", "response", "published_pct", *schemes]]
        .round(3)
        .to_string(index=False)
    )
    for scheme in schemes:
        print(f"{scheme}: agree {int(agree[scheme].sum())}/{len(table)}")


if __name__ == "__main__":
    main()
