"""The charts that only the chapter on bijections has."""

import altair as alt
import pandas as pd

from task_vectors.pages.charts import PALETTE
from task_vectors.pages.figures import FADED, categories, level_lines
from task_vectors.pages.from_records.bijection_tables import KINDS, READ_AT
from task_vectors.pages.from_records.bijections import GATE, METHODS, TWO_WAYS, WRITTEN

SHARE = alt.Scale(domain=[0, 1])


def gate(table: pd.DataFrame, description: str) -> alt.TopLevelMixin:
    """ICL in each direction of each task's bijection, and the gate; the table is that of `gate`."""
    dots = alt.Chart().mark_point(size=70)
    dots = dots.encode(
        x=alt.X("accuracy:Q", title="ICL in X ↔ Y, by the direction that is asked", scale=SHARE),
        y=alt.Y("task:N", sort=None, title=None),
        color=categories(table, "direction", order=TWO_WAYS),
        tooltip=["task", "family", "direction", alt.Tooltip("accuracy:Q", format=".2f")],
    )
    layers = alt.layer(dots, *level_lines({"gate": GATE}, axis="x"), data=table)
    return layers.properties(width=400, height=alt.Step(19), description=description)


def slopes(table: pd.DataFrame, panels: list[str], description: str) -> alt.TopLevelMixin:
    """Accuracy by kind, a thin line for each task in the color of its group, a thick one for their mean."""
    layers = _lines(table, "kind", list(KINDS), "accuracy", 230, 210, alt.Axis(labelAngle=-30))
    panel = alt.Facet("panel:N", sort=panels, title=None)
    return layers.facet(panel, columns=2).properties(description=description)


def choices(table: pd.DataFrame, description: str) -> alt.TopLevelMixin:
    """Accuracy by the direction asked, a thin line a task; the table is that of `choices`."""
    layers = _lines(table, "direction", list(TWO_WAYS), "right", 140, 170, alt.Axis(labelAngle=0))
    column = alt.Column("read_at:N", sort=list(READ_AT), title=None)
    row = alt.Row("kind:N", title=None)
    return layers.facet(column=column, row=row).properties(description=description)


def _lines(
    table: pd.DataFrame, x: str, order: list[str], y: str, width: int, height: int, axis: alt.Axis
) -> alt.LayerChart:
    """Thin lines of the tasks in the color of their group, which the legend picks, and the thick one of their mean."""
    pick = alt.selection_point(fields=["group"], bind="legend")
    across = alt.X(f"{x}:N", sort=order, title=None, axis=axis)
    up = alt.Y(f"{y}:Q", title="Accuracy", scale=SHARE)
    thin = alt.Chart().mark_line(point={"size": 40, "filled": True}, strokeWidth=1.3)
    thin = thin.encode(
        x=across,
        y=up,
        detail="task:N",
        color=categories(table, "group"),
        opacity=alt.condition(pick, alt.value(0.7), alt.value(FADED)),
        tooltip=["task", x, alt.Tooltip(f"{y}:Q", title="accuracy", format=".2f")],
    )
    thick = alt.Chart().mark_line(strokeWidth=4).encode(x=across, y=f"mean({y}):Q", color=alt.value("currentColor"))
    return alt.layer(thin.add_params(pick), thick, data=table).properties(width=width, height=height)


def lines_written(table: pd.DataFrame, description: str) -> alt.TopLevelMixin:
    """Shares of what is written, stacked for each kind and method; the table is that of `written_shares`."""
    pick = alt.selection_point(fields=["written"], bind="legend")
    colors = [PALETTE[2], PALETTE[5], PALETTE[1], PALETTE[3], PALETTE[4], "#999999"]
    bars = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="Share of prompts", axis=alt.Axis(format="%"), scale=SHARE),
            y=alt.Y("kind:N", sort=list(KINDS), title=None),
            color=categories(table, "written", order=WRITTEN, colors=colors, columns=2),
            order="order:Q",
            opacity=alt.condition(pick, alt.value(1), alt.value(FADED)),
            row=alt.Row("method:N", title=None, sort=list(METHODS.values())),
            tooltip=["method:N", "kind:N", "written:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    return bars.add_params(pick).properties(width=400, height=110, description=description)
