"""Figures of the chapter on linear transformers: risks of all seeds, missed tails, a learned matrix, vectors' worth."""

import altair as alt
import pandas as pd

from task_vectors.pages.charts import PALETTE
from task_vectors.pages.figures import FADED, categories, curves
from task_vectors.pages.from_records.linear_transformer import LINES, PARTS


def risk_figure(risks: pd.DataFrame) -> alt.FacetChart:
    """`risk_table` in a panel for each depth: a dot for each seed, and a line through the chosen ones."""
    pick = alt.selection_point(fields=["layout"], bind="legend")
    base = alt.Chart().encode(
        x=alt.X("n:Q", title="Demonstrations n", scale=alt.Scale(zero=False)),
        color=categories(risks, "layout", order=LINES, colors=[PALETTE[i] for i in (2, 0, 1, 3)], columns=2),
        opacity=alt.condition(pick, alt.value(0.8), alt.value(FADED)),
    )
    height = {"title": "Risk (squared error of a coordinate)", "scale": alt.Scale(type="log")}
    tooltip = ["layout", "n", alt.Tooltip("risk:Q", format=".3g")]
    dots = base.mark_circle(size=22).encode(y=alt.Y("risk:Q", **height), tooltip=tooltip).add_params(pick)
    lines = base.mark_line().encode(y=alt.Y("best:Q", **height))
    panel = alt.layer(dots, lines, data=risks).properties(width=250, height=260)
    return panel.facet(column=alt.Column("layers:N", title=None)).properties(
        description="Risk falls with the number of demonstrations. The lines of pairs and triplets coincide with two "
        "layers and part at the right with three, and lie between those of the single layout with one layer less and "
        "with as many layers.",
    )


def tail_figure(tails: pd.DataFrame) -> alt.Chart:
    """Estimates of a risk over its true value (columns n, prompts, estimate), a dot each."""
    title = "Estimate of the risk / its value from 200 000 prompts"
    return (
        alt.Chart(tails)
        .mark_circle(size=30, opacity=0.6)
        .encode(
            x=alt.X("estimate:Q", title=title, scale=alt.Scale(type="log")),
            y=alt.Y("n:O", title="Demonstrations n"),
            yOffset=alt.YOffset("prompts:N"),
            color=categories(tails, "prompts"),
            tooltip=["n", "prompts", alt.Tooltip("estimate:Q", format=".2f")],
        )
        .properties(
            width=460,
            height=alt.Step(18),
            description="Estimates from stretched, weighted prompts stay close to one; estimates from plain prompts "
            "scatter, and most of them are too low.",
        )
    )


def matrix_figure(cells: pd.DataFrame, n: int) -> alt.Chart:
    """`matrix_cells` in a panel for each part, with a slider that starts at n, and a choice of pairs or triplets."""
    sizes = sorted(cells.n.unique().tolist())
    step = sizes[1] - sizes[0] if len(sizes) > 1 else 1
    slider = alt.binding_range(min=sizes[0], max=sizes[-1], step=step, name="n = ")
    number = alt.param("demos", value=n, bind=slider)
    layouts = alt.binding_radio(options=["pairs", "triplets"], name="tokens: ")
    kind = alt.param("kind", value="triplets", bind=layouts)
    bare = alt.Axis(labels=False, ticks=False)
    scale = alt.Scale(scheme="purpleorange", domain=[-1, 1])
    shown = alt.Chart(cells).transform_filter("datum.n == demos && datum.layout == kind")
    panels = shown.transform_fold(list(PARTS), as_=["part", "value"]).mark_rect()
    return (
        panels.encode(
            x=alt.X("key:O", title="Key token", axis=bare),
            y=alt.Y("query:O", title="Query token", axis=bare),
            color=alt.Color("value:Q", title="Entry / largest", scale=scale, legend=alt.Legend(orient="bottom")),
            facet=alt.Facet("part:N", title=None, sort=list(PARTS), columns=2),
        )
        .resolve_scale(x="independent", y="independent")
        .properties(
            width=230,
            height=230,
            description="Heat maps over tokens: the learned matrix, its part that joins each demonstration's x and y "
            "(short diagonals), its part that writes sums of demonstrations to arrows (rows of every third token), and "
            "the rest.",
        )
        .add_params(number, kind)
    )


def worth_figure(scores: pd.DataFrame) -> alt.FacetChart:
    """`worth_table` in a panel for each problem and depth: direction errors against n."""
    return curves(
        scores,
        "n",
        "angle",
        "method",
        x_title="Demonstrations n",
        y_title="Direction error",
        description="Direction error against n for four problems: a task vector beside one demonstration and all "
        "demonstrations.",
        order=["task vector", "one demonstration", "all demonstrations"],
        points=True,
        x_scale=alt.Scale(zero=False),
        y_scale=alt.Scale(domain=[0, 4]),
        width=230,
        height=150,
        column="layers",
        row="problem",
    )
