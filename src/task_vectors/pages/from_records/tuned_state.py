"""What a record of tuned_state says: a task vector before and after fine-tuning, and the one state that carries it."""

import altair as alt
import pandas as pd
from torch import Tensor

from task_vectors.measures.statistics import Estimate, mean_over_units
from task_vectors.pages.charts import PALETTE
from task_vectors.pages.figures import curves
from task_vectors.records.store import Record

WHICH = ("before", "after")


def over_prompts(record: Record, values: Tensor) -> Estimate:
    """Mean of [B] over prompts, with the spread of groups of inputs, which all tasks share."""
    return mean_over_units(values.double().view(-1, record.parameters["n_prompts"]).mean(0).numpy())


def swept_table(record: Record) -> pd.DataFrame:
    """Columns vector (before, after or none), model (before or after), layer (from 1), log_prob of the answer."""
    found = record.tensors("log_prob")
    rows = [
        {"vector": "no vector", "model": f"model {model}", "layer": layer + 1, "log_prob": value}
        for model in WHICH
        for value in [found[f"alone, {model}"].mean().item()]
        for layer in range(found["through"].shape[1])
    ]
    rows += [
        {"vector": f"vector from {vector}", "model": f"model {model}", "layer": layer + 1, "log_prob": value}
        for model in WHICH
        for vector in WHICH
        for layer, value in enumerate(found[f"{vector} in {model}"].mean(0).tolist())
    ]
    return pd.DataFrame(rows)


def accuracy_table(record: Record, layer: int) -> pd.DataFrame:
    """Accuracy of either model: without a vector, with either vector after a layer, and with demonstrations."""
    right = {name: found.float().numpy() for name, found in record.tensors("right").items()}
    columns = {}
    for model in WHICH:
        rows = {"no vector": right[f"alone, {model}"]}
        rows |= {f"vector from {vector}": right[f"{vector} in {model}"][:, layer] for vector in WHICH}
        rows |= {"demonstrations": right[f"few-shot, {model}"]}
        columns[f"model {model}"] = {name: f"{found.mean():.2f}" for name, found in rows.items()}
    return pd.DataFrame(columns)


def carried(record: Record) -> tuple[Estimate, list[Estimate]]:
    """Gain in log-probability of the tuned model over the untuned, and of the untuned one with one tuned state, [L]."""
    found = record.tensors("log_prob")
    plain = found["few-shot, before"]
    whole = over_prompts(record, found["few-shot, after"] - plain)
    return whole, [
        over_prompts(record, found["through"][:, layer] - plain) for layer in range(found["through"].shape[1])
    ]


def vector_figure(record: Record) -> alt.TopLevelMixin:
    """Log-probability of the answer in either model, with a vector of either put in after each layer."""
    return curves(
        swept_table(record),
        "layer",
        "log_prob",
        "vector",
        colors=["#66CCEE", "#BBBBBB", PALETTE[0]],
        x_title="Layer of the task vector",
        y_title="Log-probability",
        width=260,
        height=200,
        column="model",
        panels=[f"model {which}" for which in WHICH],
        description="Mean log-probability of the answer in prompts without demonstrations that are given a task "
        "vector, by the vector's layer; vectors and models from before and after fine-tuning.",
    )


def through_figure(record: Record) -> alt.TopLevelMixin:
    """Log-probability of the answer in the untuned model's few-shot run, with the tuned model's state after a layer."""
    found = record.tensors("log_prob")
    by_layer = found["through"].mean(0).numpy()
    return curves(
        pd.DataFrame({"layer": range(1, len(by_layer) + 1), "log_prob": by_layer}),
        "layer",
        "log_prob",
        x_title="Layer whose state comes from the tuned model",
        y_title="Log-probability",
        y_scale=alt.Scale(zero=False),
        levels={f"model {which}": found[f"few-shot, {which}"].mean().item() for which in WHICH},
        points=True,
        height=210,
        description="Log-probability of the answer in few-shot prompts of the untuned model when the state before the "
        "answer comes from the tuned model, by layer; dashed: the untuned and the tuned model themselves.",
    )
