"""What mean states do to accuracy when they stand in place of a prompt's own: changes, by kind of mean and by layer."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from task_vectors.experiments.patched_means import KINDS, NONE
from task_vectors.measures.statistics import Estimate, mean_over_groups
from task_vectors.pages.from_records.families import LONG_NAMES
from task_vectors.paths import project_root
from task_vectors.records.store import Record
from task_vectors.tasks.families.family import TaskFamily

BEFORE = "before"  # without a patch
Right = Mapping[str, np.ndarray]  # is each prompt right? [K - 1, B, L] by kind; nan where a task has no such mean


def right_by_kind(record: Record) -> dict[str, np.ndarray]:
    """A record of patched_means as Right, with BEFORE, which is the same at all layers."""
    patched = {kind: record.tensors("patched")[kind].numpy().astype(float) for kind in KINDS}
    before = record.tensors("before")["right"].numpy().astype(float)  # [K - 1, B]
    n_layers = patched[KINDS[0]].shape[-1]
    right = {BEFORE: np.repeat(before[..., None], n_layers, -1)}
    return right | {kind: np.where(found == NONE, np.nan, found) for kind, found in patched.items()}


def has_mean(right: Right, kind: str = "positive") -> np.ndarray:
    """Which tasks have such a mean: [K - 1] of bool."""
    return ~np.isnan(right[kind]).any((1, 2))


def change(right: Right, layer: int, kind: str, less: str = BEFORE, tasks: np.ndarray | None = None) -> Estimate:
    """Accuracy with one mean less that with another, at one layer, over groups of prompts (`mean_over_groups`).

    tasks: which of them, [K - 1] of bool; all that have both means, if none are given.
    """
    both = right[kind][..., layer] - right[less][..., layer]  # [K - 1, B]
    return mean_over_groups(both[has_mean(right, kind) & has_mean(right, less) if tasks is None else tasks])


def change_table(right: Right, layer: int, names: tuple[str, ...]) -> dict[str, str]:
    """Changes at one layer as text, over all tasks, and over those (out of `names`) that have a positive mean."""
    having, others = has_mean(right), KINDS[1:]
    estimates = {f"{kind} (all tasks)": change(right, layer, kind) for kind in others}
    estimates |= {"positive (tasks that have one)": change(right, layer, "positive")}
    estimates |= {f"{kind} (the same tasks)": change(right, layer, kind, tasks=having) for kind in others}
    estimates |= {"positive less unselected": change(right, layer, "positive", "unselected")}
    estimates |= {"unselected less wrong task": change(right, layer, "unselected", "wrong task")}
    shown = {name: "–" if np.isnan(found.mean) else format(found, "+.2f") for name, found in estimates.items()}
    tasks = [task for task, has in zip(names, having, strict=False) if has]
    listed = "all" if having.all() else ", ".join(tasks) or "none"
    return {"tasks with a positive mean": listed, "layer": str(layer + 1)} | shown


def changes_by_layer(right: Mapping[str, Right]) -> pd.DataFrame:
    """Change of accuracy after each layer (family, what, layer, change), over the tasks that have such a mean.

    right: by family. The change is that of the same tasks, so that kinds of means that fewer tasks have compare too.
    """
    rows = []
    for family, found in right.items():
        for kind in KINDS:
            both = (found[kind] - found[BEFORE])[has_mean(found, kind)]  # [tasks, B, L]
            if len(both):
                rows += [(family, kind, i, value) for i, value in enumerate(both.mean((0, 1)), start=1)]
    return pd.DataFrame(rows, columns=["family", "what", "layer", "change"])


def accuracy_by_task(
    right: Mapping[str, Right], layers: Mapping[str, int], families: Mapping[str, TaskFamily]
) -> pd.DataFrame:
    """Accuracy of each task at its family's layer: family, task, what (BEFORE or a kind), accuracy."""
    rows = []
    for name, found in right.items():
        for kind, values in found.items():
            at_layer = values[..., layers[name]].mean(1)
            rows += [(name, task, kind, value) for task, value in zip(families[name].tasks, at_layer, strict=False)]
    return pd.DataFrame(rows, columns=["family", "task", "what", "accuracy"]).dropna()


def published_changes() -> pd.DataFrame:
    """Changes by family (rows) as Han et al. 2025 print them, means over the six tasks of Llama 3.1 8B.

    Of accuracy: "positive" and "negative" of the means, "better" of the task in words. Of TD: "told" of the words.
    """
    table = pd.read_csv(project_root() / "data/published/han2025_task_accuracy.csv")
    means = table.groupby(["family", "condition"]).accuracy_percent.mean().unstack() / 100
    table = pd.read_csv(project_root() / "data/published/han2025_table1.csv")
    td = table.pivot(index="family", columns="condition", values="td")
    found = {
        "positive": means.positive - means.unperturbed,
        "negative": means.negative - means.unperturbed,
        "better": means.prompted - means.pretrained,
        "told": td.prompting - td.pretrained,
    }
    return pd.DataFrame(found).rename(index={long: short for short, long in LONG_NAMES.items()})
