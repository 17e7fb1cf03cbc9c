"""Means with intervals, for accuracies of prompts that share demonstrations and pairs, for tasks, and for trainings."""

from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A mean with its interval; nan where it cannot be estimated. In a text as 0.14 [0.04, 0.24]."""

    mean: float  #: in the units of what was estimated
    low: float  #: lower end of the interval
    high: float  #: upper end of the interval
    freedom: float = np.inf  #: of the Student's t that the interval is taken from; infinite for a bootstrap's

    def __str__(self) -> str:
        return format(self, ".2f")

    def __format__(self, form: str) -> str:
        """Each of the three numbers in this form, as 0.14 [0.04, 0.24]; the mean alone where there is no interval."""
        mean, low, high = (format(value, form or ".2f") for value in self[:3])
        if np.isnan(self.low):
            return mean
        # Spaces that do not break: a table's cell keeps its interval on one line.
        return f"{mean}\u00a0[{low},\u00a0{high}]"


def clustered_mean(
    values: np.ndarray, *clusters: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> Estimate:
    """Mean of values in [0, 1] that are correlated within clusters (prompts of one prefix, prompts of one pair).

    Pigeonhole bootstrap (Owen 2007): each clustering is resampled on its own, and a value weighs as the product of its
    clusters' counts; it errs on the wide side. Where all values are 0 or all are 1 resampling shows no spread: the
    interval is then the exact binomial one (Clopper-Pearson) with as many trials as the smallest number of clusters.

    Args:
        values: [n].
        clusters: each [n], the labels of one clustering; without any, each value is drawn by itself.
        level: of the interval.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        Estimate; nan without values.
    """
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return Estimate(np.nan, np.nan, np.nan)
    labels = [np.unique(np.asarray(c), return_inverse=True)[1] for c in clusters or [np.arange(len(values))]]
    if values.min() == values.max() and values[0] in (0, 1):
        n = min(label.max() + 1 for label in labels)
        low, high = stats.binomtest(int(values[0]) * n, n).proportion_ci(level, method="exact")
        return Estimate(float(values[0]), float(low), float(high))
    rng = np.random.default_rng(seed)
    weights = np.ones((draws, len(values)))
    for label in labels:
        size = label.max() + 1
        weights *= rng.multinomial(size, np.full(size, 1 / size), draws)[:, label]  # [draws, n]
    total = weights.sum(1)
    means = (weights @ values)[total > 0] / total[total > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def mean_over_units(values: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of independent units (tasks, seeds) with Student's t interval.

    No interval (nan) with fewer than three units, and where nothing varies.

    Args:
        values: [n], one a unit; those that are nan are left out.
        level: of the interval.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) < 3 or np.ptp(values) == 0:
        return Estimate(float(values.mean()) if len(values) else np.nan, np.nan, np.nan)
    freedom = len(values) - 1
    half = stats.t.ppf((1 + level) / 2, freedom) * values.std(ddof=1) / np.sqrt(len(values))
    return Estimate(float(values.mean()), float(values.mean() - half), float(values.mean() + half), freedom)


def mean_over_trainings(values: np.ndarray, level: float = 0.95) -> Estimate:
    """Mean of values [S, B] of S trainings that are tested on the same B groups of prompts.

    The interval has the spread of both: its variance is that of the mean over trainings plus that over groups, and
    Student's t takes Satterthwaite's degrees of freedom. It errs on the wide side. nan with fewer than two trainings or
    groups, and where nothing varies.
    """
    S, B = values.shape
    mean = float(values.mean())
    if min(S, B) < 2:
        return Estimate(mean, np.nan, np.nan)
    parts = np.array([values.mean(1).var(ddof=1) / S, values.mean(0).var(ddof=1) / B])
    if not parts.any():
        return Estimate(mean, np.nan, np.nan)
    freedom = parts.sum() ** 2 / (parts**2 / [S - 1, B - 1]).sum()
    half = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(parts.sum())
    return Estimate(mean, float(mean - half), float(mean + half), float(freedom))


def interval(value: float, drawn: list[float], level: float = 0.95) -> Estimate:
    """A statistic with the quantiles of its bootstrap sample; draws that are nan are left out."""
    drawn = np.asarray(drawn, dtype=float)
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(drawn):
        return Estimate(float(value), np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high))


def mean_over_groups(values: np.ndarray, draws: int = 2000, seed: int = 0, level: float = 0.95) -> Estimate:
    """Mean of values [..., B], of B groups of prompts, with a bootstrap interval that draws groups.

    All values of a group (its tasks, say) are drawn together: the interval is about these tasks alone. Without values,
    nan.
    """
    if not values.size:
        return Estimate(np.nan, np.nan, np.nan)
    rng, B = np.random.default_rng(seed), values.shape[-1]
    drawn = [values[..., rng.integers(B, size=B)].mean() for _ in range(draws)]
    return interval(float(values.mean()), drawn, level)
