"""Every rule of exclusion matters: without it, counts and figures of the six waves are others.

The pipeline equals the recomputation and the ledger (test_six_waves), so a pipeline that lost a rule would be found.
"""

import pandas as pd
import pytest
from conftest import RAW, ROOT, SEEDS
from recompute import beside_published, recompute

RULES = [
    "duplicate",
    "not_returned",
    "not_eligible",
    "not_useable",
    "routing_violation",
    "not_routed",
    "multiple",
    "out_of_range",
    "not_answered",
    "dont_know",
    "not_applicable",
]


@pytest.fixture(scope="module")
def with_all_rules() -> pd.Series:
    return beside_published(recompute(RAW, SEEDS)["estimates"], SEEDS)["trust_population"]


def test_the_rules_tried_are_all_statuses_but_the_two_that_exclude_nobody_who_was_asked() -> None:
    statuses = pd.read_csv(SEEDS / "exclusion_reasons.csv")["status"]
    assert set(RULES) == set(statuses) - {"not_asked", "answered"}


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_counts_and_published_figures_change(rule: str, with_all_rules: pd.Series) -> None:
    ledger = pd.read_csv(ROOT / "data" / "synthetic" / "ledger.csv")
    assert ledger.loc[ledger["status"] == rule, "n"].sum() > 0
    keys = ["survey_year", "question_id", "status"]
    lacking = recompute(RAW, SEEDS, without={rule})
    counts = lacking["exclusions"].merge(ledger, on=keys, how="outer", suffixes=("", "_planted")).fillna(0)
    changed = counts[counts["n"] != counts["n_planted"]]
    assert set(changed["status"]) >= {rule}
    assert not (lacking["exclusions"]["status"] == rule).any()
    pct = beside_published(lacking["estimates"], SEEDS)["trust_population"]
    assert len(pct) == len(with_all_rules) == 79
    assert pct.notna().all()
    assert ((pct - with_all_rules).abs() > 1e-6).any()
