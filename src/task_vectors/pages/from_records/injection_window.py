"""What the first chapter shows of the layers after which a vector works (experiment injection_window)."""

from collections.abc import Sequence

import pandas as pd
from torch import Tensor

from task_vectors.measures.statistics import Estimate, clustered_mean
from task_vectors.records.store import Record

TASKS = ("country_to_capital", "present_to_gerund", "singular_to_plural", "english_to_french")
DESIGN = {"n_demos": 10, "seed": 0, "template": "Example:{x} → {y}"}
FLOOR = 0.2  # accuracy that the query's own state must reach for a task to count
# What is put in, and into which prompt: the experiment's WAYS in words.
LABELS = {
    "vector": "task vector",
    "own": "the query's own state",
    "added": "their change, added",
    "rescaled": "task vector, as long as what it replaces",
    "sink": "task vector, a first token in front",
    "sentence": "task vector, a sentence in front",
}

SHORT = {"vector": "replaced", "rescaled": "same length", "sentence": "sentence in front", "added": "added"}


def counted(records: Sequence[Record]) -> list[Record]:
    """Those of tasks that the model does: with the query's own state put in it is right on FLOOR of the prompts."""
    return [record for record in records if accuracy_by_layer(record, "own").max() >= FLOOR]


def accuracy_by_layer(record: Record, way: str) -> Tensor:
    """Share of exact answers with the state put in after each layer, [L]."""
    return record.tensors(way)["exact"].float().mean(0)


def by_depth(records: Sequence[Record], ways: Sequence[str]) -> pd.DataFrame:
    """Mean over each model's tasks: model, way, depth (0 to 1, of the layers), accuracy, layer."""
    rows = []
    for model, group in _by_model(records).items():
        for way in ways:
            accuracy = sum(accuracy_by_layer(record, way) for record in group) / len(group)  # [L]
            L = len(accuracy)
            for layer, value in enumerate(accuracy.tolist()):
                where = {"model": model, "what is put in": LABELS[way], "layer": layer, "depth": (layer + 1) / L}
                rows.append(where | {"accuracy": value})
    return pd.DataFrame(rows)


def open_layers(record: Record, way: str) -> list[int]:
    """Layers after which the state is right on at least half of what the query's own state reaches at best."""
    bar = accuracy_by_layer(record, "own").max() / 2
    return (accuracy_by_layer(record, way) >= bar).nonzero()[:, 0].tolist()


def width(record: Record, way: str) -> float:
    """Share of the layers that are open."""
    return len(open_layers(record, way)) / len(accuracy_by_layer(record, way))


def held_out_best(record: Record, way: str) -> float:
    """Accuracy at the best layer, chosen on half of the sets of demonstrations and scored on the other, both ways."""
    exact = record.tensors(way)["exact"].float()  # [B, L]
    odd = Tensor(record.table("prompts").prefix.to_numpy() % 2).bool()  # [B]
    halves = (exact[odd], exact[~odd])
    scores = [scored[:, chosen.mean(0).argmax()].mean() for chosen, scored in (halves, halves[::-1])]
    return float(sum(scores) / 2)


def widths(records: Sequence[Record]) -> pd.DataFrame:
    """Of each model, means over tasks: where its window opens, how wide it is by way, and the best accuracy."""
    rows = []
    for model, group in _by_model(records).items():
        L = len(accuracy_by_layer(group[0], "own"))
        opens = [min(open_layers(record, "own")) for record in group]
        row = {("", "tasks"): len(group), ("", "layers"): L, ("", "opens after"): _range(opens)}
        for way, name in SHORT.items():
            row["open layers", name] = f"{sum(width(record, way) for record in group) / len(group):.0%}"
        for way in ("vector", "added"):
            row["accuracy", SHORT[way]] = f"{sum(held_out_best(record, way) for record in group) / len(group):.2f}"
        rows.append(pd.Series(row, name=model))
    return pd.DataFrame(rows)


def wider(records: Sequence[Record], way: str) -> Estimate:
    """By how much the window of a way is wider than the task vector's, in shares of the depth."""
    return _over_models_and_tasks(records, [width(record, way) - width(record, "vector") for record in records])


def more_accurate(records: Sequence[Record], way: str) -> Estimate:
    """By how much a way is more accurate than the task vector, each at its best layer, over models and tasks."""
    gains = [held_out_best(record, way) - held_out_best(record, "vector") for record in records]
    return _over_models_and_tasks(records, gains)


def opens_later(records: Sequence[Record]) -> Estimate:
    """Layers between the arrival of the demonstrations and the opening for what they change, over models and tasks."""
    both = [record for record in records if open_layers(record, "added")]
    late = [min(open_layers(record, "added")) - min(open_layers(record, "own")) for record in both]
    return _over_models_and_tasks(both, late)


def _over_models_and_tasks(records: Sequence[Record], values: list[float]) -> Estimate:
    labels = ([record.parameters[name] for record in records] for name in ("model", "task"))
    return clustered_mean(values, *labels)


def _by_model(records: Sequence[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.parameters["model"], []).append(record)
    return groups


def _range(layers: list[int]) -> str:
    return f"{min(layers)}" if min(layers) == max(layers) else f"{min(layers)} to {max(layers)}"
