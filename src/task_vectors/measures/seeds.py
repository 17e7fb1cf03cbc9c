"""What rests on the best of several trainings that differ in their seed."""

import numpy as np


def drawn_best(scores: np.ndarray, values: np.ndarray, rng: np.random.Generator, draws: int = 2000) -> np.ndarray:
    """Values [S, ...] of the seed with the least score [S], in bootstrap samples of the seeds: [draws, ...].

    It tells how much rests on single seeds, and not what more seeds would find: no draw is better than the best there
    is. A score that is nan is never the least.
    """
    scores = np.nan_to_num(np.asarray(scores, dtype=float), nan=np.inf)
    drawn = rng.integers(len(scores), size=(draws, len(scores)))  # [draws, S]
    best = np.take_along_axis(drawn, scores[drawn].argmin(1)[:, None], 1)[:, 0]
    return np.asarray(values)[best]
