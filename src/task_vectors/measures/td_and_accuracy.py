"""Does decodability predict accuracy? The relation over tasks and numbers of demonstrations, and how sure it is.

A point is one task at one number of demonstrations (Han et al. 2025, Fig. 6). With more demonstrations both rise, so
that over all points together they go along even where no task that is encoded better is done better: the relation
within a number of demonstrations, and within a task, says more.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

DRAWS = 2000
UNITS = ("prompts", "tasks", "both")


class Relation(NamedTuple):
    """Statistics of S numbers of demonstrations and K tasks; nan where one of the two does not vary."""

    r2: float  # share of the accuracy's variance that a line through all S · K points explains
    slope: float  # of that line
    rank: float  # Spearman's correlation over all points
    within_demos: np.ndarray  # [S] Spearman's correlation over the K tasks at each number of demonstrations
    within_task: np.ndarray  # [K] slope of accuracy over decodability in each task


def relation(td: np.ndarray, accuracy: np.ndarray) -> Relation:
    """Relation of decodabilities and accuracies, [S, K] each."""
    return Relation(
        _correlation(td.ravel(), accuracy.ravel()) ** 2,
        _slope(td.ravel(), accuracy.ravel()),
        _correlation(stats.rankdata(td), stats.rankdata(accuracy)),
        np.array([_correlation(*map(stats.rankdata, row)) for row in zip(td, accuracy, strict=True)]),
        np.array([_slope(*column) for column in zip(td.T, accuracy.T, strict=True)]),
    )


def resampled(named: np.ndarray, right: np.ndarray, units: str, draws: int = DRAWS, seed: int = 0) -> list[Relation]:
    """Relations of bootstrap samples of `named` and `right`, [S, K, B] of bool each.

    units: "prompts" draws the B groups anew (all tasks of a group together), "tasks" the K tasks, "both" both.
    """
    if units not in UNITS:
        raise ValueError(f"unknown units {units!r}; there are: {', '.join(UNITS)}")
    _, K, B = named.shape
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        tasks = rng.integers(K, size=K) if units != "prompts" else np.arange(K)
        groups = rng.integers(B, size=B) if units != "tasks" else np.arange(B)
        found.append(relation(*(values[:, tasks][:, :, groups].mean(-1) for values in (named, right))))
    return found


def slope_of_gains(td: np.ndarray, accuracy: np.ndarray) -> float:
    """Slope of gains in accuracy over gains in decodability [G, S, K] of G bands of layers, S seeds, and K tasks.

    What a task gains in all bands, and a band in all tasks, is taken out: it needs no encoding to be so.
    """
    return _slope(*(_without_means(gains).ravel() for gains in (td, accuracy)))


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


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's, or nan where one of the two does not vary."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(np.ravel(x), np.ravel(y))[0, 1])


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return np.nan if np.ptp(x) < 1e-12 else float(np.polyfit(x, y, 1)[0])
