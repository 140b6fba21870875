"""Shares that moved from one wave to the next by more than chance explains.

Belongs here: the test, and the allowance for many tests. Does not: what is counted, or whether a change is real.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Expected share of false alarms among what is shown.
FALSE_DISCOVERIES = 0.01
# In a smaller expected number of persons the normal distribution is no good (Cochran, Biometrics 10, 417-451).
FEWEST_EXPECTED = 5


@dataclass(frozen=True)
class Share:
    """Who gave an answer in one wave: for each trust how many did (`counts`), and how many could have (`bases`)."""

    counts: Sequence[int]
    bases: Sequence[int]

    @property
    def count(self) -> int:
        """Persons of all trusts who gave it."""
        return sum(self.counts)

    @property
    def base(self) -> int:
        """Persons of all trusts who could have given it."""
        return sum(self.bases)

    @property
    def share(self) -> float:
        """The unweighted share, from 0 to 1."""
        return self.count / self.base

    def variance(self, expected: float) -> float:
        """The larger one of two variances of the share, so that the test errs on the side of silence.

        One is that of a simple random sample in which `expected` is the share. The other takes trusts for clusters
        drawn at random: m / (m - 1) * sum((x_t - p * n_t)^2) / n^2 over m trusts (Hansen, Hurwitz and Madow, Sample
        Survey Methods and Theory, volume 1). Trusts are strata of this survey, which makes shares more precise than
        either; but what a trust does differently in a year is no news of the whole country.
        """
        simple = expected * (1 - expected) / self.base
        trusts = len(self.bases)
        if trusts < 2:
            return simple
        spread = sum((x - self.share * n) ** 2 for x, n in zip(self.counts, self.bases, strict=True))
        return max(simple, trusts / (trusts - 1) * spread / self.base**2)


def standard_errors(now: Share, before: Share) -> float | None:
    """The difference of two shares in its standard errors; None where too few persons are expected to tell.

    Two independent samples with their pooled share (Fleiss, Levin and Paik, Statistical Methods for Rates and
    Proportions, 3rd edition, 3.1), with the variances of `Share.variance`. That the two waves have most trusts in
    common would make the difference more precise still; it is left out.
    """
    if not now.base or not before.base:
        return None
    pooled = (now.count + before.count) / (now.base + before.base)
    if min(pooled, 1 - pooled) * min(now.base, before.base) < FEWEST_EXPECTED:
        return None
    return (now.share - before.share) / math.sqrt(now.variance(pooled) + before.variance(pooled))


def clear(differences: Sequence[float], false_discoveries: float = FALSE_DISCOVERIES) -> list[bool]:
    """Which of these differences, in standard errors, are clear when all of them are looked at together.

    Two-sided p-values of the normal distribution, by the step-up rule of Benjamini and Hochberg (J. R. Statist. Soc. B
    57, 289-300): with m of them, all up to the largest p-value that is at most its rank / m * false_discoveries.
    """
    p_values = [math.erfc(abs(z) / math.sqrt(2)) for z in differences]
    largest = -1.0
    for rank, p in enumerate(sorted(p_values), start=1):
        if p <= rank / len(p_values) * false_discoveries:
            largest = p
    return [p <= largest for p in p_values]
