"""How much of the gap to the Bayes predictor each part of the small transformer's blocks closes."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from task_vectors.records.store import Record


def mean_error(record: Record, stage: str = "end") -> float:
    """Mean square error over classes and numbers of demonstrations, at the "start" or at the "end"."""
    table = record.table("errors")
    return table[table.stage == stage].error.mean()


def gap_closed(record: Record, best: float) -> float:
    """Share of the error at the start, beyond that of the best predictor, that is gone at the end."""
    return 1 - (mean_error(record) - best) / (mean_error(record, "start") - best)


def token_td(records: Sequence[Record], layer: int) -> tuple[float, float]:
    """Decodability at the last demonstration's token at the start and at the end, mean over seeds and classes."""
    table = pd.concat([record.table("decodability") for record in records])
    table = table[(table.reading == "token") & (table.metric == "euclidean") & (table.layer == layer)]
    return tuple(table.groupby("stage").td.mean()[["start", "end"]])


def blocks_table(
    runs: Mapping[str, Sequence[Record]],
    chosen: Mapping[str, float],
    levels: Mapping[str, float],
    layers: Sequence[int],
) -> pd.DataFrame:
    """Rows: the model before, each part of its blocks (records, one a seed), and the errors of other predictors.

    chosen: each part's rate. levels: errors by predictor, the best one last. layers: where TD is read, from 1.
    """
    best = list(levels.values())[-1]
    before = np.mean([mean_error(record, "start") for record in next(iter(runs.values()))])
    rows = {"before": {"error": f"{before:.3f}"}}
    for blocks, records in runs.items():
        closed = [round(100 * gap_closed(record, best)) for record in records]
        spread = f"\u00a0({min(closed)} to {max(closed)})" if min(closed) < max(closed) else ""
        rows[blocks] = {
            "rate": f"{chosen[blocks]:g}",
            "error": f"{np.mean([mean_error(record) for record in records]):.3f}",
            "gap closed": f"{np.mean([gap_closed(record, best) for record in records]):.0%}{spread}",
        } | {f"TD, block {layer}": "{:.2f}\u00a0→\u00a0{:.2f}".format(*token_td(records, layer)) for layer in layers}
    rows |= {name: {"error": f"{error:.3f}"} for name, error in levels.items()}
    return pd.DataFrame(rows).T[list(rows[next(iter(runs))])].fillna("")
