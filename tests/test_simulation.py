"""The warehouse's 95 % intervals contain the truth in 95 % of simulated surveys, and wrong ones would not pass."""

import sys

import pandas as pd
import pytest
from conftest import ROOT, Warehouse

sys.path.append(str(ROOT / "benchmarks"))
import simulation

SURVEYS, SEED = 120, 1
ONE_QUESTION = simulation.QUESTIONS["usual"][:1]
# The last line of the variance in the compiled int_estimates.
VARIANCE = "/ (weight * weight) as variance"


@pytest.fixture(scope="module")
def models(six_waves: Warehouse) -> dict[str, str]:
    return simulation.read_models(six_waves.settings.dbt_target_dir / "compiled" / "cmhs" / "models" / "intermediate")


@pytest.fixture(scope="module")
def moments(models: dict[str, str]) -> pd.DataFrame:
    return simulation.simulate(models, SURVEYS, SEED, questions=ONE_QUESTION)[0]


def off(found: dict[str, float], tolerance: float) -> list[str]:
    """How intervals fail: coverage more than `tolerance` points and three Monte Carlo errors from 95 %, or none."""
    allowed = tolerance + 3 * 100 * (0.95 * 0.05 / found["intervals"]) ** 0.5
    problems = [f"covers {found['coverage']:.1f} %"] if abs(found["coverage"] - 95) > allowed else []
    return problems + ([f"{found['without']:.0f} have no interval"] if found["without"] else [])


def england(moments: pd.DataFrame, response: str, method: str) -> dict[str, float]:
    return simulation.line(moments, **simulation.ENGLAND, response=response, **simulation.METHODS[method])


def trusts(moments: pd.DataFrame, response: str) -> dict[str, float]:
    return simulation.line(moments, **simulation.TRUST, response=response, **simulation.POST_STRATIFIED)


@pytest.mark.parametrize("response", ["forty", "twenty", "three"])
def test_the_intervals_of_england_cover(moments: pd.DataFrame, response: str) -> None:
    found = england(moments, response, "post-stratified")
    assert found["intervals"] == SURVEYS
    assert off(found, 0) == []
    assert abs(found["bias"]) < 0.2


@pytest.mark.parametrize("response", ["forty", "twenty", "three"])
def test_the_intervals_of_trusts_cover(moments: pd.DataFrame, response: str) -> None:
    found = trusts(moments, response)
    assert found["intervals"] == SURVEYS * simulation.TRUSTS
    assert off(found, 1) == []
    assert 0.95 < found["se_ratio"] < 1.02


def test_domains_and_differences_cover(moments: pd.DataFrame) -> None:
    for breakdown, categories in (("age_band", 4), ("gender", 2)):
        found = simulation.line(moments, breakdown=breakdown, response="forty", **simulation.POST_STRATIFIED)
        assert found["intervals"] == SURVEYS * categories
        assert off(found, 0) == []
    for method, surveys in (("change", SURVEYS // 2), ("difference", SURVEYS)):
        found = simulation.line(moments, **simulation.TRUST, variance_method=method, response="forty")
        assert found["intervals"] == surveys * simulation.TRUSTS
        assert off(found, 1) == []


def test_estimates_without_weights_do_not_cover(moments: pd.DataFrame) -> None:
    for method in ("unweighted", "trust weights only"):
        assert off(england(moments, "forty", method), 0), method


def test_a_wrong_variance_does_not_cover(models: dict[str, str]) -> None:
    assert models["int_estimates"].count(VARIANCE) == 1
    for factor in ("/ 2.25", "* 2.25"):  # standard errors 1.5 times too small, and too large
        wrong = models["int_estimates"].replace(VARIANCE, f"/ (weight * weight) {factor} as variance")
        found, _ = simulation.simulate(models | {"int_estimates": wrong}, 40, SEED, questions=ONE_QUESTION)
        assert off(trusts(found, "forty"), 1), factor
        assert not 0.95 < trusts(found, "forty")["se_ratio"] < 1.02


def test_the_same_seed_gives_the_same_tables(models: dict[str, str]) -> None:
    first, second, other = (simulation.simulate(models, 10, seed, questions=ONE_QUESTION)[0] for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert not first["covered"].equals(other["covered"])
