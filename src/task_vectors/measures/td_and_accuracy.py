"""Does decodability predict accuracy? The relation over tasks and numbers of demonstrations, and how sure it is.

A point is one task at one number of demonstrations (Han et al. 2025, Fig. 6). With more demonstrations both rise, so
that over all points together they go along even where no task that is encoded better is done better: the relation
within a number of demonstrations, and within a task, says more.
"""

from itertools import permutations
from math import factorial
from typing import NamedTuple

import numpy as np
from scipy import stats

DRAWS = 2000
PERMUTATIONS = 10_000
UNITS = ("prompts", "tasks", "both")


class Relation(NamedTuple):
    """Statistics of S numbers of demonstrations and K tasks; nan where one of the two does not vary.

    Those of D bootstrap samples together have a first axis D.
    """

    r2: np.ndarray  # share of the accuracy's variance that a line through all S · K points explains
    slope: np.ndarray  # of that line
    rank: np.ndarray  # Spearman's correlation over all points
    within_demos: np.ndarray  # [S] Spearman's correlation over the K tasks at each number of demonstrations
    within_task: np.ndarray  # [K] slope of accuracy over decodability in each task

    @property
    def mean_rank(self) -> np.ndarray:
        """Mean of within_demos over the numbers of demonstrations that have one."""
        known = ~np.isnan(self.within_demos)
        with np.errstate(invalid="ignore"):  # none has one: nan
            return np.where(known, self.within_demos, 0).sum(-1) / known.sum(-1)


def relation(td: np.ndarray, accuracy: np.ndarray) -> Relation:
    """Relation of decodabilities and accuracies, [S, K] each, or [D, S, K]."""
    pooled = [values.reshape(*values.shape[:-2], -1) for values in (td, accuracy)]
    return Relation(
        _correlation(*pooled) ** 2,
        _slope(*pooled),
        _correlation(*(stats.rankdata(values, axis=-1) for values in pooled)),
        _correlation(*(stats.rankdata(values, axis=-1) for values in (td, accuracy))),
        _slope(np.swapaxes(td, -1, -2), np.swapaxes(accuracy, -1, -2)),
    )


def resampled(named: np.ndarray, right: np.ndarray, units: str, draws: int = DRAWS, seed: int = 0) -> Relation:
    """Relation of each of D bootstrap samples of `named` and `right`, [S, K, B] of bool each.

    units: "prompts" draws the B groups anew (all tasks of a group together), "tasks" the K tasks, "both" both.
    """
    if units not in UNITS:
        raise ValueError(f"unknown units {units!r}; there are: {', '.join(UNITS)}")
    _, K, B = named.shape
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        tasks = rng.integers(K, size=K) if units != "prompts" else np.arange(K)
        groups = rng.integers(B, size=B) if units != "tasks" else np.arange(B)
        found.append([values[:, tasks][:, :, groups].mean(-1) for values in (named, right)])
    td, accuracy = np.stack(found, 1)  # [D, S, K] each
    return relation(td, accuracy)


def permutation_p(td: np.ndarray, accuracy: np.ndarray, draws: int = PERMUTATIONS, seed: int = 0) -> float:
    """How often tasks whose accuracies changed places have at least the mean rank of these, [S, K] each.

    The K tasks are the units: one that changes places does so at all S numbers of demonstrations. All orders of the
    tasks where they are no more than `draws` (then the level is exact), else as many random ones and the one found.
    nan where no number of demonstrations has a rank correlation.
    """
    K, rng = td.shape[-1], np.random.default_rng(seed)
    exact = factorial(K) <= draws
    orders = list(permutations(range(K))) if exact else [range(K), *(rng.permutation(K) for _ in range(draws))]
    others = np.stack([accuracy[:, list(order)] for order in orders])  # [D, S, K], the first as it is
    ranks = relation(np.broadcast_to(td, others.shape), others).mean_rank
    return float((ranks >= ranks[0] - 1e-9).mean()) if np.isfinite(ranks[0]) else np.nan


def slope_of_gains(td: np.ndarray, accuracy: np.ndarray) -> float:
    """Slope of gains in accuracy over gains in decodability [G, S, K] of G bands of layers, S seeds, and K tasks.

    What a task gains in all bands, and a band in all tasks, is taken out: it needs no encoding to be so.
    """
    return float(_slope(*(_without_means(gains).ravel() for gains in (td, accuracy))))


def resampled_slopes(td: np.ndarray, accuracy: np.ndarray, draws: int = DRAWS, seed: int = 0) -> list[float]:
    """slope_of_gains of bootstrap samples of [G, S, K, B], which draw seeds, and groups of prompts, for all bands."""
    rng, found = np.random.default_rng(seed), []
    _, S, _, B = td.shape
    for _ in range(draws):
        seeds, counts = rng.integers(S, size=S), rng.multinomial(B, np.full(B, 1 / B)) / B
        found.append(slope_of_gains(td[:, seeds] @ counts, accuracy[:, seeds] @ counts))
    return found


def _without_means(gains: np.ndarray) -> np.ndarray:
    return gains - gains.mean((0, 1), keepdims=True) - gains.mean((1, 2), keepdims=True) + gains.mean()


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's along the last axis (one number without others), or nan where one of the two does not vary."""
    varies = (np.ptp(x, -1) > 0) & (np.ptp(y, -1) > 0)
    x, y = (values - values.mean(-1, keepdims=True) for values in (x, y))
    with np.errstate(invalid="ignore"):
        return np.where(varies, (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1)), np.nan)[()]


def _slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of the least-squares line along the last axis (one number without others), or nan where x does not vary."""
    varies = np.ptp(x, -1) > 1e-12
    x, y = (values - values.mean(-1, keepdims=True) for values in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(varies, (x * y).sum(-1) / (x * x).sum(-1), np.nan)[()]
