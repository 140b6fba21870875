"""The peer samplics: one estimator per wave, question and breakdown. Its weights are fixed: it cannot post-stratify.

    python samplics_domains.py DECODED ESTIMATES.csv [QUESTIONS]

Shares in percent and standard errors with the final weights taken as given, which is less work than the product's
variance; intervals are the package's own. QUESTIONS limits the run to so many questions of each wave.
"""

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from measure import Costs
from samplics import TaylorEstimator
from samplics.utils.types import PopParam

OUTSIDE = "outside"
BREAKDOWNS = ("all", "trust", "age_band", "gender")


def main(decoded: Path, estimates: Path, limit: int | None) -> None:
    """Estimate all waves, print the costs and write the estimates."""
    respondents = pd.read_parquet(decoded / "respondents.parquet")
    asked = pd.read_parquet(decoded / "asked.parquet")
    questions = {
        year: list(rows["question_id"])[:limit]
        for year, rows in asked.sort_values("question_id").groupby("survey_year")
    }
    made = []
    # Shares of 0 divide by zero in its intervals.
    warnings.simplefilter("ignore")
    costs = Costs()
    with costs.step("estimates"):
        for year, wave in respondents.groupby("survey_year"):
            for question in questions[year]:
                answered = wave[question].notna().to_numpy()
                answer = wave[question].fillna(0).to_numpy(dtype=np.int64)
                for breakdown in BREAKDOWNS:
                    category = (
                        wave[breakdown].to_numpy(dtype=object) if breakdown != "all" else np.full(len(wave), "all")
                    )
                    # Whoever gave no valid answer stays in the stratum, in a domain of their own.
                    domain = np.where(answered & (category != "unknown"), category, OUTSIDE)
                    estimator = TaylorEstimator(PopParam.prop)
                    estimator.estimate(
                        y=answer, samp_weight=wave["weight"].to_numpy(), stratum=wave["trust"].to_numpy(), domain=domain
                    )
                    made += [
                        (year, breakdown, category, question, number, 100 * share, 100 * error, 100 * low, 100 * high)
                        for category, shares in estimator.point_est.items()
                        if category != OUTSIDE
                        for number, share, error, low, high in zip(
                            shares,
                            shares.values(),
                            estimator.stderror[category].values(),
                            estimator.lower_ci[category].values(),
                            estimator.upper_ci[category].values(),
                            strict=True,
                        )
                        if number != 0
                    ]
    columns = ["survey_year", "breakdown", "category", "question_id", "number", "estimate", "se", "ci_low", "ci_high"]
    table = pd.DataFrame(made, columns=columns)
    done, all_questions = sum(map(len, questions.values())), len(asked)
    costs.report(estimates=len(table), share=done / all_questions, versions=f"samplics {version('samplics')}")
    table.to_csv(estimates, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
