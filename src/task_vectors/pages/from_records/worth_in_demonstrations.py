"""The number of demonstrations that a task vector is worth (experiment worth_in_demonstrations), by task and model."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from task_vectors.measures.statistics import Estimate, mean_over_units
from task_vectors.pages.names import readable
from task_vectors.records.store import Record

GATE = 0.6  # share of first tokens that ICL must get right for a task to count
KINDS = {"shot": "demonstrations", "replaced": "vector, replaced", "added": "vector, added"}


def followed(record: Record) -> bool:
    """Does the model do the task from the most demonstrations?"""
    return bool(record.tensors("answers")["top"].mean(0)[len(record.parameters["shots"]) - 1] >= GATE)


def distances(records: Sequence[Record], measure: str = "to_vector") -> pd.DataFrame:
    """Mean over queries, a row for each record, candidate and k: model, task, kind, n, k, distance (nats)."""
    rows = []
    for record in records:
        mean = record.tensors("distances")[measure].mean(0).tolist()  # [C, K]
        name = {"model": record.parameters["model"], "task": record.parameters["task"]}
        for (kind, n), row in zip(record.table("candidates").itertuples(index=False), mean, strict=True):
            pairs = zip(record.parameters["shots"], row, strict=True)
            rows += [name | {"kind": kind, "n": n, "k": k, "distance": value} for k, value in pairs]
    return pd.DataFrame(rows)


def nearest(shots: Sequence[float], curve: Sequence[float]) -> float:
    """The k of the least distance: the vertex of the parabola through the lowest point and its neighbors.

    The first or last k where that is the lowest: then the true one may lie beyond.
    """
    i = int(np.argmin(curve))
    if i in (0, len(curve) - 1):
        return float(shots[i])
    a, b, _ = np.polyfit(shots[i - 1 : i + 2], curve[i - 1 : i + 2], 2)
    return float(-b / (2 * a)) if a > 0 else float(shots[i])


def equally_likely(shots: Sequence[float], log_probs: Sequence[float], reached: float) -> float:
    """The k at which prompts first give the answer as much log-probability as `reached`, between points linearly."""
    return float(np.interp(reached, np.maximum.accumulate(log_probs), shots))


def worths(records: Sequence[Record], measure: str = "to_vector") -> pd.DataFrame:
    """A row for each record and candidate: model, task, kind, n, and in numbers of demonstrations

    nearest (by this one of the experiment's MEASURES) and likely (equal log-probability of the answer); and excess,
    log2 of its distance over that of a true prompt, both at the k of the grid that is nearest to it.
    """
    rows = []
    for record in records:
        shots, mean = record.parameters["shots"], record.tensors("distances")[measure].mean(0).numpy()  # [C, K]
        log_prob = record.tensors("answers")["log_prob"].mean(0).tolist()  # [C]
        name = {"model": record.parameters["model"], "task": record.parameters["task"]}
        for c, (kind, n) in enumerate(record.table("candidates").itertuples(index=False)):
            at = int(mean[c].argmin())
            row = {"kind": kind, "n": n, "nearest": nearest(shots, mean[c])}
            row |= {"likely": equally_likely(shots, log_prob[: len(shots)], log_prob[c])}
            # Zero-shot prompts are all the same: nothing can be as near to them.
            excess = np.log2(mean[c, at] / mean[at, at]) if shots[at] else np.nan
            rows.append(name | row | {"excess": float(excess)})
    return pd.DataFrame(rows)


def miscalibration(table: pd.DataFrame) -> float:
    """By how many demonstrations a true prompt is misjudged, on average over tasks and over n but the first and last,
    which cannot be misjudged both ways."""
    true = table[table.kind == "shot"]
    inner = true[(true.n > true.n.min()) & (true.n < true.n.max())]
    return float((inner.nearest - inner.n).abs().mean())


def over_tasks(table: pd.DataFrame, kind: str, n: int, column: str = "nearest") -> Estimate:
    """Mean over the tasks of a table of one model's `worths`."""
    return mean_over_units(table.query("kind == @kind and n == @n")[column])


def growth(table: pd.DataFrame, kind: str, least: int, most: int) -> Estimate:
    """By how much more a vector from the most demonstrations is worth than one from the least; one model's tasks."""
    by = table[table.kind == kind].pivot_table(index="task", columns="n", values="nearest")
    return mean_over_units(by[most] - by[least])


def beside_likely(table: pd.DataFrame, kind: str, n: int) -> Estimate:
    """How many demonstrations more by the answer's log-probability than by distance; one model's tasks."""
    mine = table.query("kind == @kind and n == @n")
    return mean_over_units(mine.likely - mine.nearest)


def by_layer(records: Sequence[Record], measure: str = "to_vector") -> pd.DataFrame:
    """Nearest k of the vector from the most demonstrations after each layer: model, task, depth (0 to 1), nearest."""
    rows = []
    for record in records:
        curves = record.tensors("layers")[measure].mean(0).numpy()  # [L, K]
        name = {"model": record.parameters["model"], "task": record.parameters["task"]}
        for layer, curve in enumerate(curves):
            found = nearest(record.parameters["shots"], curve)
            rows.append(name | {"depth": (layer + 1) / len(curves), "layer": layer, "nearest": found})
    return pd.DataFrame(rows)


def by_task(table: pd.DataFrame, kind: str, n: int) -> pd.DataFrame:
    """Nearest k for each task (rows) and model (columns)."""
    mine = table.query("kind == @kind and n == @n")
    shown = mine.pivot_table(index="task", columns="model", values="nearest", sort=False)
    return shown.rename(index=readable).rename_axis(index=None, columns=None)
