"""The charts that only the page on sizes has."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from task_vectors.pages.charts import PALETTE
from task_vectors.pages.figures import FADED, categories, level_lines
from task_vectors.pages.from_records.bijections import GATE, TWO_WAYS
from task_vectors.pages.from_records.sizes import BOTH_WAYS, CATEGORIES, DONE, PRINTED, QUESTIONS, WAYS

SHARE = alt.Scale(domain=[0, 1])
OUTCOMES = {DONE: PALETTE[0], "holds": PALETTE[2], "against": PALETTE[1], "no effect": PALETTE[4]}
OUTCOMES |= {"undecided": "#999999", PRINTED: PALETTE[5]}


def overview(table: pd.DataFrame, places: Sequence[str], description: str) -> alt.TopLevelMixin:
    """A cell for each question (down) and size (across), with its text, in the color of its outcome, if it has one.

    What ICL does is shaded by its share. Colors are pale, since the words on them are the page's own ink. places: an
    empty one leaves a gap.
    """
    lines = alt.Axis(labelExpr="split(datum.label, '|')", labelOffset=-7, labelLimit=200, ticks=False, domain=False)
    across = alt.Axis(orient="top", labelAngle=0, labelFontSize=11, ticks=False, domain=False)
    base = alt.Chart().encode(
        x=alt.X("place:N", title=None, axis=across).scale(domain=list(places), paddingInner=0.06),
        y=alt.Y("question:N", title=None, axis=lines).scale(domain=QUESTIONS, paddingInner=0.06),
        tooltip=["place", "outcome", "about"],
    )
    shown = [outcome for outcome in OUTCOMES if outcome in set(table.outcome)]
    cells = base.transform_filter(alt.FieldOneOfPredicate("outcome", shown)).mark_rect(cornerRadius=3)
    cells = cells.encode(
        color=categories(table, "outcome", order=shown, colors=[OUTCOMES[outcome] for outcome in shown], columns=2),
        opacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.08, 0.45]), legend=None),
    )
    words = base.mark_text(fontSize=13).encode(text="text:N")
    layers = alt.layer(cells, words, data=table)
    return layers.properties(width=52 * len(places), height=alt.Step(38), description=description)


def by_category(table: pd.DataFrame, places: Sequence[str], description: str) -> alt.TopLevelMixin:
    """Accuracy with its interval over tasks, a row of panels by category; the table is that of `by_category`."""
    pick = alt.selection_point(fields=["way"], bind="legend")
    base = alt.Chart().encode(
        x=alt.X("place:N", title=None, axis=alt.Axis(labelAngle=-30)).scale(domain=list(places)),
        xOffset=alt.XOffset("way:N", sort=list(WAYS.values())),
        color=categories(table, "way", order=list(WAYS.values()), columns=2),
        opacity=alt.condition(pick, alt.value(1), alt.value(FADED)),
    )
    tip = ["category", "model", "way", "tasks", *(alt.Tooltip(name, format=".2f") for name in ("mean", "low", "high"))]
    dots = base.mark_point(size=55).encode(y=alt.Y("mean:Q", title="Accuracy", scale=SHARE), tooltip=tip)
    rule = base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q").transform_filter("isValid(datum.low)")
    # The legend that answers to clicks is that of the first layer: Vega-Lite merges the others' into it.
    layers = alt.layer(dots.add_params(pick), rule, data=table).properties(width=400, height=90)
    row = alt.Row("category:N", title=None, sort=list(CATEGORIES))
    return layers.facet(row=row, spacing=14).properties(description=description)


def depths(table: pd.DataFrame, description: str) -> alt.TopLevelMixin:
    """Pale dots at the depths of tasks' layers, larger for more tasks, and their mean with its interval, by place."""
    base = alt.Chart().encode(
        x=alt.X("depth:Q", title="Put in after this share of the layers", scale=SHARE),
        y=alt.Y("place:N", sort=None, title=None),
    )
    number = alt.Tooltip("depth:Q", format=".2f")
    every = base.transform_filter("isValid(datum.tasks)").mark_point(filled=True, opacity=0.55)
    every = every.encode(
        size=alt.Size("tasks:Q", scale=alt.Scale(range=[20, 220]), legend=None), tooltip=["tasks", number]
    )
    mean = base.transform_filter("!isValid(datum.tasks)")
    dot = mean.mark_point(filled=True, size=110, color=PALETTE[1]).encode(tooltip=[number])
    rule = mean.mark_rule(color=PALETTE[1], strokeWidth=3).encode(x="low:Q", x2="high:Q")
    return alt.layer(every, rule, dot, data=table).properties(width=430, height=alt.Step(34), description=description)


def both_ways(table: pd.DataFrame, places: Sequence[str], description: str) -> alt.TopLevelMixin:
    """ICL in both directions of each task's bijection, a panel for each place; beyond both dashed lines it is done."""
    dots = (
        alt.Chart()
        .mark_point(size=60)
        .encode(
            x=alt.X(f"{TWO_WAYS[0]}:Q", title="ICL asked X → Y", scale=SHARE),
            y=alt.Y(f"{TWO_WAYS[1]}:Q", title="ICL asked Y → X", scale=SHARE),
            color=categories(table, "outcome", order=[BOTH_WAYS, "not both ways"]),
            tooltip=["task", *(alt.Tooltip(f"{way}:Q", format=".2f") for way in TWO_WAYS)],
        )
    )
    gates = [*level_lines({"": GATE}), *level_lines({"gate": GATE}, axis="x")]
    layers = alt.layer(dots, *gates, data=table).properties(width=190, height=190)
    return layers.facet(alt.Facet("place:N", sort=list(places), title=None), columns=2).properties(
        description=description
    )


def operators(table: pd.DataFrame, places: Sequence[str], description: str) -> alt.TopLevelMixin:
    """Accuracy of each operator by number of demonstrations, and of its constant answer, a panel for each place."""
    dots = (
        alt.Chart()
        .mark_point(size=60)
        .encode(
            x=alt.X("accuracy:Q", title="Accuracy", scale=SHARE),
            y=alt.Y("operator:N", sort=None, title=None),
            color=categories(table, "what"),
            tooltip=["operator", "what", alt.Tooltip("accuracy:Q", format=".2f")],
        )
    )
    layers = alt.layer(dots, data=table).properties(width=190, height=alt.Step(20))
    return layers.facet(alt.Facet("place:N", sort=list(places), title=None), columns=2).properties(
        description=description
    )


def fits(table: pd.DataFrame, places: Sequence[str], description: str) -> alt.TopLevelMixin:
    """R² with its interval, by place; the table is that of `fits`."""
    base = alt.Chart().encode(y=alt.Y("place:N", title=None).scale(domain=list(places)))
    title = "R² of a line through TD and accuracy"
    dots = base.mark_point(size=70).encode(
        x=alt.X("r2:Q", title=title, scale=SHARE), tooltip=["place", alt.Tooltip("r2:Q", format=".2f")]
    )
    rule = base.mark_rule(color=PALETTE[0]).encode(x="low:Q", x2="high:Q").transform_filter("isValid(datum.low)")
    return alt.layer(rule, dots, data=table).properties(width=400, height=alt.Step(20), description=description)
