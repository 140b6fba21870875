"""The peer polars: the same as pandas_groupby.py, as lazy expressions.

python polars_groupby.py DECODED ESTIMATES.csv
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl
from measure import Costs
from scipy.stats import t as student

CELL = ["survey_year", "trust", "weight_cell"]
BREAKDOWNS = ("all", "trust", "age_band", "gender")
DOMAIN = ["survey_year", "category"]


def moments(
    respondents: pl.LazyFrame, cells: pl.LazyFrame, question: str, numbers: list[int], breakdown: str
) -> pl.LazyFrame:
    """Sums that a share and its variance need, by response and category of one breakdown."""
    extra = [breakdown] if breakdown in ("age_band", "gender") else []
    inside = pl.col(question).is_not_null()
    for column in extra:
        inside = inside & (pl.col(column) != "unknown")
    counts = (
        respondents.filter(inside)
        .group_by(*CELL, *extra, pl.col(question).alias("number"))
        .agg(pl.len().cast(pl.Float64).alias("k"))
        .with_columns(pl.col("k").sum().over(*CELL, *extra).alias("b"))
        .join(cells, on=CELL)
        .with_columns(
            (pl.lit("all") if breakdown == "all" else pl.col(breakdown)).alias("category"),
            (pl.col("factor") * pl.col("weight") ** 2).alias("w2"),
        )
    )
    chosen = counts.group_by(*DOMAIN, "number").agg(
        (pl.col("weight") * pl.col("k")).sum().alias("w_k"),
        (pl.col("w2") * (pl.col("k") - pl.col("k") ** 2 / pl.col("c"))).sum().alias("kk"),
        (pl.col("w2") * pl.col("k") * (1 - pl.col("b") / pl.col("c"))).sum().alias("kb"),
    )
    bases = (
        counts.unique([*CELL, *extra])
        .group_by(DOMAIN)
        .agg(
            (pl.col("weight") * pl.col("b")).sum().alias("w_b"),
            (pl.col("w2") * (pl.col("b") - pl.col("b") ** 2 / pl.col("c"))).sum().alias("bb"),
            pl.col("b").sum().alias("base"),
            pl.col("trust").n_unique().alias("strata"),
        )
    )
    # A response that nobody chose is a share of 0.
    return (
        bases.join(pl.LazyFrame({"number": pl.Series(numbers, dtype=pl.Int8)}), how="cross")
        .join(chosen, on=[*DOMAIN, "number"], how="left")
        .with_columns(
            pl.col("w_k", "kk", "kb").fill_null(0),
            pl.lit(breakdown).alias("breakdown"),
            pl.lit(question).alias("question_id"),
        )
    )


def finish(table: pl.DataFrame) -> pl.DataFrame:
    """Shares in percent, standard errors and Wilson intervals."""
    freedom = (table["base"] - table["strata"]).to_numpy()
    t, n, p = pl.col("t"), pl.col("n"), pl.col("p")
    p_q = p * (1 - p)
    half = t / (2 * n) * (4 * n * p_q + t**2).sqrt()
    return (
        table.with_columns(
            (pl.col("w_k") / pl.col("w_b")).alias("p"),
            pl.Series("t", student.ppf(0.975, np.where(freedom > 0, freedom, np.nan))),
        )
        .with_columns(
            (
                (pl.col("kk") - 2 * p * pl.col("kb") + p**2 * pl.col("bb")).clip(lower_bound=0) / pl.col("w_b") ** 2
            ).alias("v")
        )
        .with_columns(pl.when(p_q == 0).then(pl.col("base")).when(pl.col("v") > 0).then(p_q / pl.col("v")).alias("n"))
        .select(
            "survey_year",
            "breakdown",
            "category",
            "question_id",
            "number",
            (100 * p).alias("estimate"),
            (100 * pl.col("v").sqrt()).alias("se"),
            (100 * pl.when(p == 0).then(0.0).otherwise((p + t**2 / (2 * n) - half) / (1 + t**2 / n))).alias("ci_low"),
            (100 * pl.when(p == 1).then(1.0).otherwise((p + t**2 / (2 * n) + half) / (1 + t**2 / n))).alias("ci_high"),
        )
    )


def main(decoded: Path, estimates: Path) -> None:
    """Estimate all waves, print the costs and write the estimates."""
    respondents = pl.read_parquet(decoded / "respondents.parquet").with_columns(
        pl.col("trust", "weight_cell", "age_band", "gender").cast(pl.Categorical)
    )
    responses = pl.read_parquet(decoded / "responses.parquet")
    asked = pl.read_parquet(decoded / "asked.parquet")
    costs = Costs()
    with costs.step("estimates"):
        cells = (
            respondents.lazy()
            .group_by(CELL)
            .agg(pl.len().cast(pl.Float64).alias("c"), pl.col("weight").first())
            .with_columns(pl.col("c").sum().over("survey_year", "trust").alias("persons"))
            .with_columns((pl.col("persons") / (pl.col("persons") - 1)).alias("factor"))
            .collect()
            .lazy()
        )
        lazy = [
            moments(respondents.lazy(), cells, question, list(numbers["number"]), breakdown)
            for (question,), numbers in responses.group_by("question_id", maintain_order=True)
            for breakdown in BREAKDOWNS
        ]
        table = finish(
            pl.concat([frame.with_columns(pl.col("category").cast(pl.String)) for frame in pl.collect_all(lazy)])
        )
    table = table.join(asked, on=["survey_year", "question_id"], how="semi")
    costs.report(estimates=len(table), versions=f"polars {pl.__version__}")
    table.write_csv(estimates)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
