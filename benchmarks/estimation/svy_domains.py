"""The peer svy: one post-stratified sample a wave, one `prop` per question and breakdown.

    python svy_domains.py DECODED ESTIMATES.csv

Shares in percent, standard errors, Wilson intervals.
"""

import sys
from pathlib import Path

import polars as pl
import svy
from measure import Costs

BREAKDOWNS = ("all", "trust", "age_band", "gender")


def main(decoded: Path, estimates: Path) -> None:
    """Estimate all waves, print the costs and write the estimates."""
    tables = {name: pl.read_parquet(decoded / f"{name}.parquet") for name in ("respondents", "totals", "asked")}
    cell = (pl.col("trust") + " " + pl.col("weight_cell")).alias("cell")
    made = []
    costs = Costs()
    with costs.step("estimates"):
        for (year,), wave in tables["respondents"].with_columns(cell).group_by("survey_year", maintain_order=True):
            totals = tables["totals"].filter(pl.col("survey_year") == year).select(cell, "total")
            sample = svy.Sample(wave, svy.Design(stratum="trust", wgt="trust_weight")).weighting.poststratify(
                dict(totals.iter_rows()), cells="cell"
            )
            for question in tables["asked"].filter(pl.col("survey_year") == year)["question_id"]:
                for breakdown in BREAKDOWNS:
                    inside = svy.col(question).is_not_null()
                    if breakdown == "all":
                        found = sample.estimation.prop(question, where=inside, ci_method="wilson")
                    else:
                        inside = inside & (svy.col(breakdown) != "unknown")
                        found = sample.estimation.prop(question, by=breakdown, where=inside, ci_method="wilson")
                    category = pl.lit("all") if breakdown == "all" else pl.col(breakdown)
                    made.append(
                        found.to_polars().select(
                            pl.lit(year).alias("survey_year"),
                            pl.lit(breakdown).alias("breakdown"),
                            category.alias("category"),
                            pl.lit(question).alias("question_id"),
                            pl.col(question).cast(pl.Int64).alias("number"),
                            (100 * pl.col("est")).alias("estimate"),
                            (100 * pl.col("se")).alias("se"),
                            (100 * pl.col("lci")).alias("ci_low"),
                            (100 * pl.col("uci")).alias("ci_high"),
                        )
                    )
    table = pl.concat(made)
    costs.report(estimates=len(table), versions=f"svy {svy.__version__}")
    table.write_csv(estimates)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
