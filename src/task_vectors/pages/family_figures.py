"""Figures of the chapters on task families: TD by layer, accuracy against TD, and each task by itself."""

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd
from torch import Tensor

from task_vectors.pages.charts import PALETTE
from task_vectors.pages.figures import categories, curves, heat, level_lines, panelled, points
from task_vectors.pages.from_records.families import TITLES
from task_vectors.tasks.families.family import NULL, TaskFamily

SHARE = alt.Scale(domain=[0, 1])


def td_curves(table: pd.DataFrame, color: str, chance: float, *, description: str, **options) -> alt.TopLevelMixin:
    """TD by layer, one line for each `color`, with chance and the layer that is read, in column "chosen layer"."""
    titles = {"x_title": "Layer", "y_title": "TD, mean over six tasks", "description": description}
    levels = {"levels": {"chance": chance}, "marks": "chosen layer", "y_scale": SHARE}
    chart = curves(table.replace({"family": TITLES}), "layer", "td", color, **titles, **levels, **options)
    return chart.resolve_scale(x="independent")


def scatter(table: pd.DataFrame, family: str, tasks: Sequence[str], panels: Sequence[str]) -> alt.TopLevelMixin:
    """Accuracy against TD of the tasks of a family, a panel for each model; table: as by_task gives it."""
    return points(
        table[(table.family == TITLES[family]) & table.task.isin(tasks)],
        "td",
        "accuracy",
        "task",
        x_title="Task Decodability",
        y_title="Accuracy",
        x_scale=SHARE,
        y_scale=alt.Scale(domain=[0, 1], clamp=True),
        order=tasks,
        legend_columns=6,
        shape="demonstrations",
        shape_title="Demonstrations",
        fit=True,
        size=70,
        column="model",
        panels=panels,
        width=165,
        height=165,
        description=f"Accuracy against Task Decodability for the tasks of {TITLES[family]} at several numbers of "
        "demonstrations, with a fitted line: published points, and those of each model.",
    )


def by_task_and_kind(
    table: pd.DataFrame,
    value: str,
    families: Mapping[str, TaskFamily],
    *,
    x_title: str,
    description: str,
    order: Sequence[str] | None = None,
    colors: Sequence[str] = PALETTE,
    levels: Mapping[str, float] | None = None,
) -> alt.TopLevelMixin:
    """A dot for each task (rows) and kind of measurement (column "what"), a panel for each family.

    value: a share. order: of the kinds. levels: dashed vertical lines by name.
    """
    table = table.replace({"family": TITLES})
    rows = list(dict.fromkeys(task for family in families.values() for task in family.tasks))
    rows.sort(key=lambda task: task == NULL)  # last in both
    marks = alt.Chart().mark_point(size=70)
    marks = marks.encode(
        x=alt.X(f"{value}:Q", title=x_title, scale=SHARE),
        y=alt.Y("task:N", title=None, sort=rows, scale=alt.Scale(padding=0.3)),
        yOffset=alt.YOffset("what:N", sort=order),
        color=categories(table, "what", order=order, colors=colors),
        tooltip=["task", "what", "family", alt.Tooltip(f"{value}:Q", format=".2f")],
    )
    layers = alt.layer(marks, *level_lines(levels or {}, axis="x"), data=table)
    # A step counts for each kind, side by side; said so, since panels with names of their own break Vega's other way.
    height = alt.Step(40 / table.what.nunique())
    chart = panelled(layers, "family", None, list(TITLES.values()), 230, height, description)
    return chart.resolve_scale(y="independent")


def pair_maps(td: Mapping[str, Tensor], families: Mapping[str, TaskFamily]) -> alt.TopLevelMixin:
    """TD of every pair of tasks, the two numbers of a pair averaged; td: [K, K] by family (pairwise_decodability)."""
    charts = []
    for family, found in td.items():
        names, values = families[family].tasks, ((found + found.T) / 2).numpy()
        pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
        table = pd.DataFrame([{"row": names[i], "column": names[j], "td": values[i, j]} for i, j in pairs])
        text = f"Task Decodability of every pair of tasks of {TITLES[family]} in a pool of the two alone."
        chart = heat(
            table,
            "column",
            "row",
            "td",
            value_title="TD of the pair",
            domain=(0.5, 1),
            columns=names,
            rows=names,
            numbers=True,
            width=235,
            height=235,
            description=text,
        )
        charts.append(chart.properties(title=TITLES[family]))
    return alt.hconcat(*charts).properties(
        description="Two tables of seven tasks each: Task Decodability of every pair of tasks of a family in a pool of "
        "the two alone."
    )


def components(found: Mapping[int, Tensor], family: str, tasks: Sequence[str]) -> alt.TopLevelMixin:
    """The first two principal components of states, [N, 2] by number of demonstrations, task after task."""
    rows = []
    for count, places in found.items():
        labels = np.repeat(tasks, len(places) // len(tasks))
        rows += [(count, task, *place) for task, place in zip(labels, places.tolist(), strict=True)]
    return points(
        pd.DataFrame(rows, columns=["demonstrations", "task", "first", "second"]),
        "first",
        "second",
        "task",
        x_title="First component",
        y_title="Second component",
        ticks=False,
        order=tasks,
        colors=[*PALETTE, "#BBBBBB"],
        legend_columns=7,
        column="demonstrations",
        column_title="Demonstrations",
        size=25,
        width=120,
        height=120,
        description=f"States of {TITLES[family]} at the chosen layer in the plane of their first two principal "
        "components, one panel for each number of demonstrations; colors are tasks.",
    )
