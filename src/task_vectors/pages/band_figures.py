"""Figures of bands of layers that were trained, each for all families side by side: a mapping of name to BandRuns."""

from collections.abc import Callable, Mapping, Sequence

import altair as alt
import pandas as pd

from task_vectors.pages import figures
from task_vectors.pages.charts import PALETTE
from task_vectors.pages.figures import DASHES, panelled
from task_vectors.pages.from_records.band_tuning import (
    BEFORE,
    KINDS,
    SHORT,
    BandRuns,
    accuracy_by_seed,
    by_layer,
    gains_by_task,
    loss_curves,
)
from task_vectors.pages.from_records.families import TITLES

Runs = Mapping[str, BandRuns]
GRAY = "#BBBBBB"
READINGS = {"task": "decodability (TD)", "lens": "next symbol (readout)"}
PANEL = {"width": 250, "height": 190}


def band_layers(bands: Mapping[str, Mapping[str, Sequence[int]]], td_layers: Mapping[str, int]) -> alt.TopLevelMixin:
    """A square for each layer (from 0) of each family's bands; one panel where all families have the same ones."""
    alike = len({str(of_family) for of_family in bands.values()}) == 1
    rows = [
        {"family": TITLES[name], "band": band, "layer": layer + 1, "td": td_layers[name] + 1}
        for name in list(bands)[: 1 if alike else None]
        for band, layers in bands[name].items()
        for layer in layers
    ]
    order = list(dict.fromkeys(row["band"] for row in rows))
    shade = alt.Color("band:N", sort=order, scale=alt.Scale(domain=order, range=PALETTE[: len(order)]), legend=None)
    axis = alt.Axis(labelAngle=0, labelOverlap=True)
    squares = alt.Chart().mark_rect(stroke="white", strokeWidth=1)
    squares = squares.encode(x=alt.X("layer:O", title="Layer", axis=axis), y=alt.Y("band:N", title=None, sort=order))
    line = alt.Chart().mark_rule(strokeDash=DASHES, strokeWidth=1.5).encode(x=alt.X("td:O", bandPosition=1))
    chart = alt.layer(squares.encode(color=shade, tooltip=["band", "layer"]), line, data=pd.DataFrame(rows))
    words = "The layers of each band; a dashed line after the layer where Task Decodability is read."
    return panelled(chart, None if alike else "family", None, None, 440 if alike else 255, 130, words)


def seeds_and_means(runs: Runs) -> alt.TopLevelMixin:
    """Accuracy by band, SHORT below the first: a circle for each seed, a tick for their mean."""
    order = list(runs[next(iter(runs))].records)
    order.insert(2, order.pop(order.index(SHORT)))
    shades = {BEFORE: GRAY, SHORT: PALETTE[0]}
    shades |= dict(zip([band for band in order if band not in shades], PALETTE, strict=False))
    shade = alt.Color("band:N", scale=alt.Scale(domain=order, range=[shades[band] for band in order]), legend=None)
    base = alt.Chart().encode(
        x=alt.X("accuracy:Q", title="Accuracy", scale=alt.Scale(domain=[0, 1])),
        y=alt.Y("band:N", title=None, sort=order),
        color=shade,
        tooltip=["band", "seed", alt.Tooltip("accuracy:Q", format=".3f")],
    )
    circles = base.mark_point(size=45, filled=False, opacity=0.9).transform_filter("datum.seed != 'mean'")
    ticks = base.mark_tick(thickness=4, size=20).transform_filter("datum.seed == 'mean'")
    chart = alt.layer(circles, ticks, data=_of_families(runs, accuracy_by_seed))
    words = "Accuracy before training and after training each band: every seed, and their mean."
    return panelled(chart, "family", None, None, **PANEL, description=words)


def by_layers(runs: Runs, bands: Sequence[str]) -> alt.TopLevelMixin:
    """What is told after every layer, READINGS, before training and after training each band."""
    order = [BEFORE, *bands]
    return figures.curves(
        _of_families(runs, lambda mine: by_layer(mine, order, READINGS).assign(td=mine.td_layer + 1)),
        "layer",
        "share",
        "band",
        order=order,
        colors=[GRAY, *PALETTE],
        x_title="Layer",
        y_title="Share named rightly",
        y_scale=alt.Scale(domain=[0, 1]),
        marks="td",
        column="family",
        row="what",
        description="By layer, the share of prompts whose task the nearest states name, and whose next symbol the "
        "model's readout names, before and after training each band; dashed: the layer chosen before training.",
        **PANEL,
    )


def gains(runs: Runs, bands: Sequence[str], tasks: Mapping[str, Sequence[str]]) -> alt.TopLevelMixin:
    """Gain in accuracy over gain in TD, at the fixed layer and at the top: a point for each task of each training."""
    parts = [
        gains_by_task(mine, kind, bands, tasks[name]).assign(kind=KINDS[kind], family=TITLES[name])
        for name, mine in runs.items()
        for kind in ("fixed", "top")
    ]
    return figures.points(
        pd.concat(parts),
        "gain in TD",
        "gain in accuracy",
        "band",
        order=bands,
        x_title="Gain in TD",
        y_title="Gain in accuracy",
        size=45,
        column="family",
        row="kind",
        description="Gain in accuracy against gain in Task Decodability for every task of every training, at the "
        "fixed layer and at the top, for both families.",
        **PANEL,
    ).resolve_scale(x="independent")


def losses(runs: Runs, bands: Sequence[str], windows: Mapping[str, int]) -> alt.TopLevelMixin:
    """Training losses, mean over seeds and over windows of steps."""
    parts = [loss_curves(mine, bands, windows[name]).assign(family=TITLES[name]) for name, mine in runs.items()]
    return figures.curves(
        pd.concat(parts),
        "step",
        "loss",
        "band",
        order=bands,
        x_title="Step",
        y_title="Training loss",
        y_scale=alt.Scale(type="log", nice=False),
        column="family",
        description="Training loss against steps for each band, one panel for each family.",
        **PANEL,
    ).resolve_scale(x="independent", y="independent")


def change_cells(tables: Mapping[str, pd.DataFrame], bands: Sequence[str]) -> alt.TopLevelMixin:
    """Change of accuracy: a cell for each band and test, starred where the interval excludes 0; tables of `changes`."""
    widest = max(0.1, *(table.change.abs().max() for table in tables.values()))
    scale = alt.Scale(domain=[-widest, 0, widest], range=["#EE6677", "#F5F5F5", "#4477AA"])
    legend = alt.Legend(orient="bottom", format="+.2f", tickCount=3)
    plain, charts = {"domain": False, "ticks": False}, []
    for name, table in tables.items():
        sure = (table.low > 0) | (table.high < 0)
        label = table.change.map("{:+.2f}".format) + sure.map({True: "*", False: ""})
        tests = table.test.unique().tolist()
        base = alt.Chart(table.assign(label=label)).encode(
            x=alt.X("test:N", title=None, sort=tests, axis=alt.Axis(labelAngle=0, orient="top", **plain)),
            y=alt.Y("band:N", title=None, sort=bands, axis=alt.Axis(**plain)),
            tooltip=["band", "test", *(alt.Tooltip(f"{end}:Q", format="+.2f") for end in ("change", "low", "high"))],
        )
        shade = alt.Color("change:Q", title="Change of accuracy", scale=scale, legend=legend)
        words = base.mark_text(fontSize=12).encode(text="label:N", color=alt.value("black"))
        cells = base.mark_rect().encode(color=shade) + words
        charts.append(cells.properties(width=540, height=150, title=f"Trained on {TITLES[name]}"))
    return alt.vconcat(*charts).properties(
        description="Change of accuracy by training each band, on prompts as trained on, with other numbers of "
        "demonstrations, other inputs, and of the other family; one table for each trained family."
    )


def _of_families(runs: Runs, table: Callable[[BandRuns], pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table(mine).assign(family=TITLES[name]) for name, mine in runs.items()])
