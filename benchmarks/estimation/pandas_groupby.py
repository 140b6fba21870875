"""The peer pandas: the product's formulas by hand, from one groupby of the respondents per question and breakdown.

    python pandas_groupby.py DECODED ESTIMATES.csv

Shares in percent with post-stratified standard errors and Wilson intervals. The variance is that of
`dbt_project/models/intermediate/int_trust_sums.sql`: from counts k (response), b (base) and c (everybody) of a weight
cell, sum w^2 (k - k^2 / c) and its like, times n_h / (n_h - 1).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from measure import Costs
from scipy.stats import t as student

CELL = ["survey_year", "trust", "weight_cell"]
BREAKDOWNS = ("all", "trust", "age_band", "gender")


def estimate(
    respondents: pd.DataFrame, cells: pd.DataFrame, question: str, numbers: pd.Series, breakdown: str
) -> pd.DataFrame:
    """Shares of one question by the categories of one breakdown; `numbers` are its responses."""
    answered = respondents[respondents[question].notna()]
    if breakdown in ("age_band", "gender"):
        answered = answered[answered[breakdown] != "unknown"]
    extra = [breakdown] if breakdown in ("age_band", "gender") else []
    counts = answered.groupby([*CELL, *extra, question], observed=True).size().rename("k").reset_index()
    counts["b"] = counts.groupby([*CELL, *extra], observed=True)["k"].transform("sum")
    counts = counts.merge(cells, on=CELL)
    counts["category"] = "all" if breakdown == "all" else counts[breakdown]
    w2 = counts["factor"] * counts["weight"] ** 2
    counts["w_k"] = counts["weight"] * counts["k"]
    counts["kk"] = w2 * (counts["k"] - counts["k"] ** 2 / counts["c"])
    counts["kb"] = w2 * counts["k"] * (1 - counts["b"] / counts["c"])
    domain = ["survey_year", "category"]
    chosen = counts.groupby([*domain, question], observed=True)[["w_k", "kk", "kb"]].sum()
    first = counts.drop_duplicates([*CELL, *extra]).copy()
    first["w_b"] = first["weight"] * first["b"]
    first["bb"] = first["factor"] * first["weight"] ** 2 * (first["b"] - first["b"] ** 2 / first["c"])
    bases = first.groupby(domain, observed=True).agg(
        w_b=("w_b", "sum"), bb=("bb", "sum"), base=("b", "sum"), strata=("trust", "nunique")
    )
    # A response that nobody chose is a share of 0.
    table = (
        bases.reset_index()
        .merge(numbers.rename("number"), how="cross")
        .merge(chosen.rename_axis([*domain, "number"]).reset_index(), on=[*domain, "number"], how="left")
    )
    table[["w_k", "kk", "kb"]] = table[["w_k", "kk", "kb"]].fillna(0)
    p = table["w_k"] / table["w_b"]
    variance = np.maximum(table["kk"] - 2 * p * table["kb"] + p**2 * table["bb"], 0) / table["w_b"] ** 2
    p_q = p * (1 - p)
    n = np.where(p_q == 0, table["base"], p_q / variance.where(variance > 0))
    t = student.ppf(0.975, (table["base"] - table["strata"]).where(lambda df: df > 0))
    half = t / (2 * n) * np.sqrt(4 * n * p_q + t**2)
    return pd.DataFrame(
        {
            "survey_year": table["survey_year"],
            "breakdown": breakdown,
            "category": table["category"],
            "question_id": question,
            "number": table["number"],
            "estimate": 100 * p,
            "se": 100 * np.sqrt(variance),
            "ci_low": 100 * np.where(p == 0, 0, (p + t**2 / (2 * n) - half) / (1 + t**2 / n)),
            "ci_high": 100 * np.where(p == 1, 1, (p + t**2 / (2 * n) + half) / (1 + t**2 / n)),
        }
    )


def main(decoded: Path, estimates: Path) -> None:
    """Estimate all waves, print the costs and write the estimates."""
    respondents = pd.read_parquet(decoded / "respondents.parquet")
    responses = pd.read_parquet(decoded / "responses.parquet")
    asked = pd.read_parquet(decoded / "asked.parquet")
    for column in ("trust", "weight_cell", "age_band", "gender"):
        respondents[column] = respondents[column].astype("category")
    costs = Costs()
    with costs.step("estimates"):
        cells = (
            respondents.groupby(CELL, observed=True).agg(c=("weight", "size"), weight=("weight", "first")).reset_index()
        )
        persons = cells.groupby(["survey_year", "trust"], observed=True)["c"].transform("sum")
        cells["factor"] = persons / (persons - 1)
        made = [
            estimate(respondents, cells, question, numbers, breakdown)
            for question, numbers in responses.groupby("question_id")["number"]
            for breakdown in BREAKDOWNS
        ]
        table = pd.concat(made, ignore_index=True)
    # Responses that only other waves of the question offer are left out of the comparison by the benchmark.
    table = table.merge(asked, on=["survey_year", "question_id"])
    costs.report(estimates=len(table), versions=f"pandas {pd.__version__}")
    table.to_csv(estimates, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
