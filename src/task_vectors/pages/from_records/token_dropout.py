"""The records of transformers that were trained with token dropout, as the arrays and tables of a page."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from task_vectors.linear_attention.dropout import second_moment
from task_vectors.linear_attention.heavy_tails import DIMENSION
from task_vectors.measures.seeds import drawn_best
from task_vectors.measures.statistics import Estimate, interval
from task_vectors.records.store import Record

Setting = tuple[float, bool]  # share of tokens kept, causal


def setting_name(keep: float, causal: bool) -> str:
    """How a page calls the share of tokens kept, and who sees whom."""
    return f"p = {keep:g}, {'causal' if causal else 'all see all'}"


def learned_weights(record: Record) -> np.ndarray:
    """Weights of demonstrations in arrows that each seed has learned: [S, n, n + 1], each of norm 1."""
    table = record.table("weights")
    return np.stack(
        [
            table[table.seed == seed].pivot(index="demo", columns="arrow", values="weight").to_numpy()
            for seed in record.table("risks").seed
        ]
    )


def best_seed(record: Record) -> int:
    """The seed with the least risk on fresh prompts."""
    return int(record.table("risks").risk.idxmin())


def excesses(record: Record, predicted: np.ndarray, keep: float) -> np.ndarray:
    """Second moment of each seed's weights in excess of that of the predicted ones [n, n + 1], over it: [S]."""
    least = second_moment(predicted, keep, DIMENSION)
    return np.array([second_moment(weights, keep, DIMENSION) / least - 1 for weights in learned_weights(record)])


def excess_table(records: Mapping[Setting, Record], predicted: Mapping[Setting, np.ndarray]) -> pd.DataFrame:
    """Excess of the best seed, of the seeds at either end, and of random weights, for each setting."""
    rows = {}
    for (keep, causal), record in records.items():
        least = predicted[keep, causal]
        found = excesses(record, least, keep)
        random = np.random.default_rng(0).normal(size=least.shape)
        random /= np.linalg.norm(random)
        over = second_moment(random, keep, DIMENSION) / second_moment(least, keep, DIMENSION) - 1
        rows[setting_name(keep, causal)] = [found[best_seed(record)], found.min(), found.max(), over]
    columns = ["excess of the best seed", "least of all seeds", "largest of all seeds", "random weights"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("setting")


def largest_excess(records: Mapping[Setting, Record], predicted: Mapping[Setting, np.ndarray]) -> Estimate:
    """Excess of the best seed in the setting where it is largest, with its interval over seeds, drawn anew."""
    rng, best, drawn = np.random.default_rng(0), [], []
    for (keep, causal), record in records.items():
        found = excesses(record, predicted[keep, causal], keep)
        best.append(found[best_seed(record)])
        drawn.append(drawn_best(record.table("risks").risk, found, rng))
    return interval(max(best), np.max(drawn, axis=0))
