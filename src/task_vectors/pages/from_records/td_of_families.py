"""Decodability and accuracy of each task, by model, family and number of demonstrations; and as published."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from task_vectors.measures.statistics import Estimate, interval, mean_over_units
from task_vectors.measures.td_and_accuracy import Relation, relation
from task_vectors.pages.from_records.families import LONG_NAMES, TITLES, Outcomes, outcomes
from task_vectors.paths import project_root
from task_vectors.records.store import Record
from task_vectors.tasks.families.family import TaskFamily

COLUMNS = ["model", "family", "task", "demonstrations", "td", "accuracy"]


def at_layer(records: Sequence[Record], layer: int) -> Outcomes:
    """Outcomes of all tasks but Null, with `named` at one layer: both [S, K - 1, B] for S records."""
    found = [outcomes(record) for record in records]
    return Outcomes(np.stack([one.named[:-1, :, layer] for one in found]), np.stack([one.right[:-1] for one in found]))


def log_probs(records: Sequence[Record]) -> np.ndarray:
    """Log-probabilities of the right answers, [S, K - 1, B] for S records, as `at_layer`."""
    shape = outcomes(records[0]).right.shape
    return np.stack([record.table("prompts").log_prob.to_numpy().reshape(shape)[:-1] for record in records])


def by_task(
    runs: Mapping[tuple[str, str, int], Record],
    layers: Mapping[tuple[str, str], int],
    families: Mapping[str, TaskFamily],
) -> pd.DataFrame:
    """TD and accuracy of each task, with Null, in COLUMNS.

    runs: by model, family and number of demonstrations. layers: that are read, by model and family.
    """
    rows = []
    for (model, family, count), record in runs.items():
        named, right = outcomes(record)
        for k, task in enumerate(families[family].tasks):
            td = named[k, :, layers[model, family]].mean()
            rows.append((model, TITLES[family], task, count, td, right[k].mean()))
    return pd.DataFrame(rows, columns=COLUMNS)


def with_intervals(
    found: Relation, both: Relation | None = None, these: Relation | None = None
) -> dict[str, Estimate | np.ndarray]:
    """What a relation says by name, with intervals of bootstrap samples (see `resampled`) where there are some.

    both: samples of tasks and prompts. these: of prompts alone, so that they speak of these tasks. "rank, by shots" is
    found.within_demos as it is, and "slope in a task" the mean over tasks with Student's interval.
    """

    def estimate(name: str, samples: Relation | None) -> Estimate:
        return interval(getattr(found, name), getattr(samples, name) if samples else [])

    return {
        "R²": estimate("r2", both),
        "R², these tasks": estimate("r2", these),
        "slope": estimate("slope", both),
        "slope, these tasks": estimate("slope", these),
        "rank": estimate("rank", both),
        "rank, by shots": found.within_demos,
        "mean rank": estimate("mean_rank", both),
        "slope in a task": mean_over_units(found.within_task),
    }


def published_relation(family: str) -> dict[str, Estimate | np.ndarray]:
    """The same of the published points of a family."""
    mine = published_by_task()
    mine = mine[mine.family == TITLES[family]]
    td, accuracy = (mine.pivot(index="demonstrations", columns="task", values=name) for name in ("td", "accuracy"))
    return with_intervals(relation(td.to_numpy(), accuracy.to_numpy()))


def relation_table(relations: Mapping[tuple[str, str], Mapping[str, Estimate | np.ndarray]]) -> pd.DataFrame:
    """Relations by (model, family) as text, a family's models together."""
    rows = {
        (TITLES[family].split()[0], model): {name: _text(value) for name, value in found.items()}
        for (model, family), found in sorted(relations.items(), key=lambda item: list(TITLES).index(item[0][1]))
    }
    return pd.DataFrame(rows).T


def _text(value: Estimate | np.ndarray) -> str:
    if isinstance(value, Estimate):
        return str(value) if np.isfinite(value.low) else f"{value.mean:.2f}"
    return " ".join("–" if np.isnan(one) else f"{one:.2f}".replace("0.", ".") for one in value)


def published_by_task() -> pd.DataFrame:
    """The points of Han et al. 2025, Fig. 6, in COLUMNS."""
    table = _published("data/published/han2025_td_accuracy_points.csv").rename(columns={"shots": "demonstrations"})
    return table.assign(accuracy=table.accuracy_percent / 100, model=table.model + " (published)")[COLUMNS]


def published_r2() -> pd.DataFrame:
    """R² of a line through the points of each model and family, as printed there: model, family, r2."""
    return _published("data/published/han2025_r2.csv").rename(columns={"r2_td_accuracy": "r2"})


def _published(path: str) -> pd.DataFrame:
    table = pd.read_csv(project_root() / path)
    return table.assign(family=table.family.map({long: TITLES[short] for short, long in LONG_NAMES.items()}))
