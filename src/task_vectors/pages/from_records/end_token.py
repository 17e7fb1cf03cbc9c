"""The records of prompts with an end token, and of two heads, beside triplets under one."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from task_vectors.measures.seeds import drawn_best
from task_vectors.measures.statistics import Estimate, interval
from task_vectors.records.store import Record

Records = Mapping[tuple[str, int], Record]  # by kind and demonstrations


def seed_risks(records: Records, n_seeds: int) -> pd.DataFrame:
    """Selection and risk of the first `n_seeds` seeds of each record: columns kind, n, seed, selection, risk."""
    tables = []
    for (kind, n), record in records.items():
        table = record.table("risks")
        tables.append(table[table.seed < n_seeds].assign(kind=kind, n=n))
    return pd.concat(tables)[["kind", "n", "seed", "selection", "risk"]].reset_index(drop=True)


def histories(records: Records, n: int, n_seeds: int) -> dict[str, pd.DataFrame]:
    """How the risk of the median seed falls in training, by kind: columns step, risk."""
    found = {}
    for kind in (kind for kind, size in records if size == n):
        table = records[kind, n].table("history")
        found[kind] = table[table.seed < n_seeds].groupby("step", as_index=False).risk.median()
    return found


def best_of_seeds(risks: pd.DataFrame) -> pd.DataFrame:
    """Risk of the seed that other prompts chose: [n, kinds]."""
    chosen = risks.loc[risks.groupby(["n", "kind"]).selection.idxmin()]
    return chosen.pivot(index="n", columns="kind", values="risk")


def extreme_excess(risks: pd.DataFrame, over: str, under: str, draws: int = 2000, seed: int = 0) -> Estimate:
    """Risk of one kind over that of another, less 1, at the n where they differ most; the interval draws the seeds."""
    rng, drawn, best = np.random.default_rng(seed), [], best_of_seeds(risks)
    for _, rows in risks.groupby("n"):
        kinds = {kind: rows[rows.kind == kind] for kind in (over, under)}
        values = {kind: drawn_best(own.selection, own.risk, rng, draws) for kind, own in kinds.items()}
        drawn.append(values[over] / values[under])
    return interval(_farthest((best[over] / best[under]).to_numpy()) - 1, _farthest(np.stack(drawn, -1)) - 1)


def _farthest(ratios: np.ndarray) -> np.ndarray:
    """Of ratios [..., n] the one farthest from 1, up or down: [...]."""
    place = np.abs(np.log(ratios)).argmax(-1)
    return np.take_along_axis(ratios, place[..., None], -1)[..., 0]
