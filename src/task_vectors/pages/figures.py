"""The few figures that the book uses again and again: curves, points, heat maps; with levels.

A table in, an Altair chart out; whatever else a figure needs is added to that chart. `description` is the alt text.
"""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from task_vectors.pages.charts import PALETTE

DASHES = [4, 4]
FADED = 0.12  # of what is not picked in the legend


def curves(
    table: pd.DataFrame,
    x: str,
    y: str,
    color: str | None = None,
    *,
    x_title: str,
    y_title: str,
    description: str,
    order: Sequence | None = None,
    colors: Sequence[str] = PALETTE,
    legend: str | None = None,
    points: bool = False,
    rings: str | None = None,
    x_scale: alt.Scale | None = None,
    y_scale: alt.Scale | None = None,
    levels: Mapping[str, float] | None = None,
    marks: Mapping[str, float] | str | None = None,
    form: str = ".2f",
    width: int = 460,
    height: int = 260,
    column: str | None = None,
    row: str | None = None,
    panels: Sequence | None = None,
) -> alt.TopLevelMixin:
    """Lines of `y` over `x`, one for each `color` (click its legend to pick one).

    Args:
        order: of the colors. legend: its title.
        rings: a column that holds the height of a ring, or nan where there is none.
        levels: dashed horizontal lines by name, marks: vertical ones, or a column that holds each panel's own one.
        form: of the numbers in the tooltips.
        column, row: columns of the table that make panels, `panels` their order along `column`, or `row` if alone.
    """
    alone = color is None
    pick = None if alone else alt.selection_point(fields=[color], bind="legend")
    shade = alt.value(colors[0]) if alone else categories(table, color, order=order, colors=colors, title=legend)
    base = alt.Chart().encode(x=alt.X(f"{x}:Q", title=x_title, scale=x_scale or alt.Undefined), color=shade)
    named = [name for name in (color, column, row) if name]
    line = base.mark_line(point=points, clip=y_scale is not None).encode(
        y=alt.Y(f"{y}:Q", title=y_title, scale=y_scale or alt.Undefined),
        tooltip=[*named, alt.Tooltip(f"{x}:Q", title=x_title), alt.Tooltip(f"{y}:Q", title=y_title, format=form)],
    )
    if not alone:
        line = line.encode(opacity=alt.condition(pick, alt.value(1), alt.value(FADED))).add_params(pick)
    layers = [line]
    if rings:
        ring = base.mark_point(filled=False, size=140, strokeWidth=2).transform_filter(f"isValid(datum['{rings}'])")
        ring = ring.encode(y=f"{rings}:Q", tooltip=[*named, alt.Tooltip(f"{rings}:Q", format=form)])
        layers.append(ring if alone else ring.encode(opacity=alt.condition(pick, alt.value(1), alt.value(FADED))))
    layers += level_lines(levels or {})
    layers += [_own_mark(marks)] if isinstance(marks, str) else level_lines(marks or {}, axis="x")
    return panelled(alt.layer(*layers, data=table), column, row, panels, width, height, description)


def points(
    table: pd.DataFrame,
    x: str,
    y: str,
    color: str,
    *,
    x_title: str,
    y_title: str,
    description: str,
    order: Sequence | None = None,
    colors: Sequence[str] = PALETTE,
    legend_columns: int = 3,
    shape: str | None = None,
    shape_title: str | None = None,
    fit: bool = False,
    ticks: bool = True,
    x_scale: alt.Scale | None = None,
    y_scale: alt.Scale | None = None,
    levels: Mapping[str, float] | None = None,
    size: int = 60,
    width: int = 460,
    height: int = 260,
    column: str | None = None,
    column_title: str | None = None,
    row: str | None = None,
    panels: Sequence | None = None,
) -> alt.TopLevelMixin:
    """A point for each row of the table, in the color of its group (click the legend to pick one).

    Args:
        shape: a column that gives the form of a point. fit: the least-squares line through each panel's points.
        ticks: numbers on the axes; without them only neighborhoods mean something. Others as in `curves`.
    """
    pick = alt.selection_point(fields=[color], bind="legend")
    axis = alt.Undefined if ticks else alt.Axis(ticks=False, labels=False)
    base = alt.Chart().encode(
        x=alt.X(f"{x}:Q", title=x_title, scale=x_scale or alt.Undefined, axis=axis),
        y=alt.Y(f"{y}:Q", title=y_title, scale=y_scale or alt.Undefined, axis=axis),
    )
    numbers = [alt.Tooltip(f"{name}:Q", format=".2f") for name in (x, y)] if ticks else []
    marks = base.mark_point(size=size).encode(
        color=categories(table, color, order=order, colors=colors, columns=legend_columns),
        opacity=alt.condition(pick, alt.value(0.85), alt.value(FADED)),
        tooltip=[*(name for name in (color, shape, column, row) if name), *numbers],
    )
    if shape:
        ink = {"symbolFillColor": "currentColor", "symbolStrokeColor": "currentColor"}
        legend = alt.Legend(orient="bottom", **ink)
        marks = marks.encode(shape=alt.Shape(f"{shape}:N", title=shape_title, legend=legend))
    layers = [marks.add_params(pick), *level_lines(levels or {})]
    if fit:
        line = base.transform_regression(x, y).mark_line(color="currentColor", strokeWidth=1.5, clip=True)
        layers.insert(0, line)
    return panelled(alt.layer(*layers, data=table), column, row, panels, width, height, description, column_title)


def heat(
    table: pd.DataFrame,
    x: str,
    y: str,
    value: str,
    *,
    value_title: str,
    description: str,
    x_title: str | None = None,
    y_title: str | None = None,
    columns: Sequence | None = None,
    rows: Sequence | None = None,
    domain: tuple[float, float] | None = None,
    numbers: bool = False,
    form: str = ".2f",
    width: int = 260,
    height: int = 260,
    column: str | None = None,
    row: str | None = None,
    panels: Sequence | None = None,
) -> alt.TopLevelMixin:
    """A cell for each x and y, shaded by `value`; with `numbers` the value is written into it.

    columns, rows: order of the cells. domain: of the shade. Others as in `curves`.
    """
    base = alt.Chart().encode(
        x=alt.X(f"{x}:O", title=x_title, sort=list(columns) if columns is not None else alt.Undefined),
        y=alt.Y(f"{y}:O", title=y_title, sort=list(rows) if rows is not None else alt.Undefined),
    )
    scale = alt.Scale(scheme="viridis", **({"domain": list(domain), "clamp": True} if domain else {}))
    cells = base.mark_rect().encode(
        color=alt.Color(f"{value}:Q", title=value_title, scale=scale, legend=alt.Legend(orient="bottom")),
        tooltip=[x, y, alt.Tooltip(f"{value}:Q", title=value_title, format=form)],
    )
    layers = [cells]
    if numbers:
        low, high = domain or (table[value].min(), table[value].max())
        # The scheme is dark at its low end.
        ink = alt.condition(f"datum['{value}'] < {(low + high) / 2}", alt.value("white"), alt.value("black"))
        layers.append(base.mark_text(fontSize=11).encode(text=alt.Text(f"{value}:Q", format=form), color=ink))
    return panelled(alt.layer(*layers, data=table), column, row, panels, width, height, description)


def categories(
    table: pd.DataFrame,
    name: str,
    *,
    order: Sequence | None = None,
    colors: Sequence[str] = PALETTE,
    title: str | None = None,
    columns: int = 3,
) -> alt.Color:
    """A color for each value of a column of the table, with its legend below the chart."""
    domain = list(order) if order is not None else list(dict.fromkeys(table[name].dropna()))
    legend = alt.Legend(orient="bottom", columns=columns, symbolOpacity=1)
    scale = alt.Scale(domain=domain, range=[colors[i % len(colors)] for i in range(len(domain))])
    return alt.Color(f"{name}:N", title=title, sort=domain, scale=scale, legend=legend)


def level_lines(levels: Mapping[str, float], axis: str = "y") -> list[alt.Chart]:
    """Dashed lines across a chart, at values of one axis; their names stand in the tooltips, and on horizontal ones."""
    lines = []
    for name, value in levels.items():
        one = alt.Chart().transform_aggregate(n="count()")  # one line, not one for each row of the data
        line = one.mark_rule(strokeWidth=1.2, strokeDash=DASHES).encode(tooltip=alt.value(f"{name}: {value:.2f}"))
        if axis == "x":
            lines.append(line.encode(x=alt.datum(value)))
            continue
        word = one.mark_text(align="right", dy=-7).encode(x=alt.value("width"), text=alt.value(name))
        lines += [part.encode(y=alt.datum(value)) for part in (line, word)]
    return lines


def _own_mark(column: str) -> alt.Chart:
    """A dashed vertical line at each panel's own value, the same in all of its rows."""
    one = alt.Chart().transform_aggregate(at=f"mean({column})")
    return one.mark_rule(strokeWidth=1.2, strokeDash=DASHES).encode(x="at:Q", tooltip=alt.Tooltip("at:Q", title=column))


def panelled(
    chart: alt.LayerChart,
    column: str | None,
    row: str | None,
    panels: Sequence | None,
    width: int,
    height: int | alt.Step,
    description: str,
    column_title: str | None = None,
) -> alt.TopLevelMixin:
    """The chart at this size, or one such panel for each value of `column` and `row`."""
    chart = chart.properties(width=width, height=height)
    if column is None and row is None:
        return chart.properties(description=description)
    sort = list(panels) if panels is not None else None
    facets = {"column": alt.Column(f"{column}:N", title=column_title, sort=sort)} if column else {}
    down = sort if sort and column is None else alt.Undefined
    facets |= {"row": alt.Row(f"{row}:N", title=None, sort=down)} if row else {}
    return chart.facet(**facets).properties(description=description)
