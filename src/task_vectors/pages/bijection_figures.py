"""The charts that only the chapter on bijections has."""

import altair as alt
import pandas as pd

from task_vectors.pages.charts import PALETTE
from task_vectors.pages.figures import FADED, categories
from task_vectors.pages.from_records.bijections import KINDS, METHODS, WRITTEN


def slopes(table: pd.DataFrame, panels: list[str], description: str) -> alt.TopLevelMixin:
    """Accuracy by kind, a thin line for each task in the color of its group, a thick one for their mean."""
    thin, thick, pick = _lines("group", alt.X("kind:N", sort=list(KINDS), title=None, axis=alt.Axis(labelAngle=0)))
    thin = thin.encode(
        color=categories(table, "group", columns=4),
        tooltip=["task", "kind", *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("accuracy", "low", "high"))],
    )
    thick = thick.encode(color=alt.value("currentColor"))
    layers = alt.layer(thin.add_params(pick), thick, data=table)
    panel = alt.Facet("panel:N", sort=panels, title=None)
    return layers.properties(width=230, height=210).facet(panel, columns=2).properties(description=description)


def lengths(table: pd.DataFrame, description: str) -> alt.TopLevelMixin:
    """Accuracy by number of demonstrations n, thin lines for tasks in the color of the method, thick their mean."""
    table = table.assign(method=table.method.map(METHODS))
    thin, thick, pick = _lines("method", alt.X("n:O", title="Demonstrations", axis=alt.Axis(labelAngle=0)))
    color = categories(table, "method", order=list(METHODS.values()))
    thin = thin.encode(color=color, tooltip=["task", "method", "kind", "n", alt.Tooltip("accuracy:Q", format=".2f")])
    thick = thick.encode(color=color, opacity=alt.condition(pick, alt.value(1), alt.value(FADED)))
    layers = alt.layer(thin.add_params(pick), thick, data=table).properties(width=150, height=230)
    panel = alt.Column("kind:N", sort=list(KINDS), title=None)
    return layers.facet(column=panel).properties(description=description)


def _lines(picked: str, x: alt.X) -> tuple[alt.Chart, alt.Chart, alt.Parameter]:
    """Thin lines of the tasks, the thick one of their mean, and the choice of `picked` in the legend."""
    pick = alt.selection_point(fields=[picked], bind="legend")
    thin = alt.Chart().mark_line(point={"size": 40, "filled": True}, strokeWidth=1.3)
    thin = thin.encode(
        x=x,
        y=alt.Y("accuracy:Q", title="Accuracy", scale=alt.Scale(domain=[0, 1])),
        detail="task:N",
        opacity=alt.condition(pick, alt.value(0.7), alt.value(FADED)),
    )
    return thin, alt.Chart().mark_line(strokeWidth=4).encode(x=x, y="mean(accuracy):Q"), pick


def lines_written(table: pd.DataFrame, description: str) -> alt.TopLevelMixin:
    """Shares of what is written, stacked for each kind and method; the table is that of `written_shares`."""
    pick = alt.selection_point(fields=["written"], bind="legend")
    colors = [PALETTE[2], PALETTE[5], PALETTE[1], PALETTE[3], PALETTE[4], "#999999"]
    bars = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="Share of prompts", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("kind:N", sort=list(KINDS), title=None),
            color=categories(table, "written", order=WRITTEN, colors=colors, columns=2),
            order="order:Q",
            opacity=alt.condition(pick, alt.value(1), alt.value(FADED)),
            row=alt.Row("method:N", title=None, sort=list(METHODS.values())),
            tooltip=["method", "kind", "written", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    return bars.add_params(pick).properties(width=400, height=90, description=description)
