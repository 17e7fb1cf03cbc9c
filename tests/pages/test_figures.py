"""Figures draw what they are asked for, panel by panel."""

import re

import pandas as pd
import vl_convert

from task_vectors.pages.figures import curves, heat, points

TABLE = pd.DataFrame(
    [
        {
            "layer": layer,
            "td": layer / 4 if model == "a" else 1 - layer / 4,
            "model": model,
            "shots": shots,
            "chosen": at,
        }
        for layer in range(5)
        for model, at in (("a", 1), ("b", 3))
        for shots in (1, 2)
    ]
)
TITLES = {"x_title": "Layer", "y_title": "TD", "description": "TD by layer."}


def lines(chart, stroke):
    """The lines of the drawn chart whose element has this attribute, panel after panel."""
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    return [element for element in re.findall(r"<(?:line|path)[^>]*>", svg) if stroke in element]


def test_a_column_marks_each_panel_at_its_own_place():
    chart = curves(TABLE, "layer", "td", "shots", marks="chosen", column="model", width=100, height=50, **TITLES)
    at = [re.search(r"translate\(([\d.]+),", line)[1] for line in lines(chart, 'stroke-dasharray="4,4"')]
    assert at == ["25", "75"]  # layers 1 and 3 of 0 to 4


def test_a_line_is_fitted_in_each_panel():
    chart = points(TABLE, "layer", "td", "shots", fit=True, column="model", width=100, height=50, **TITLES)
    fitted = [re.search(r' d="([^"]+)"', line)[1] for line in lines(chart, 'stroke="currentColor" stroke-width="1.5"')]
    assert fitted == ["M0,50L100,0", "M0,0L100,50"]  # rises from 0 to 1 in the first panel, falls in the second


def test_a_ring_stands_where_its_column_has_a_value():
    table = TABLE.assign(ring=TABLE.td.where(TABLE.layer == TABLE.chosen))
    chart = curves(table, "layer", "td", "model", rings="ring", width=100, height=50, **TITLES)
    at = {
        re.search(r"translate\(([\d.]+),", line)[1] for line in lines(chart, 'stroke-width="2"') if "translate" in line
    }
    assert at & {"0", "25", "50", "75", "100"} == {"25", "75"}  # others are in the legend


def test_a_level_is_named_on_its_line_in_every_panel():
    chart = curves(
        TABLE, "layer", "td", "shots", levels={"chance": 0.5}, column="model", width=100, height=50, **TITLES
    )
    assert len(lines(chart, 'stroke-dasharray="4,4"')) == 2
    assert vl_convert.vegalite_to_svg(chart.to_dict()).count(">chance</text>") == 2
    chart = points(TABLE, "layer", "td", "model", levels={"half": 0.5}, width=100, height=50, **TITLES)
    assert vl_convert.vegalite_to_svg(chart.to_dict()).count(">half</text>") == 1


def test_a_cell_is_written_in_the_ink_that_its_shade_needs():
    cells = pd.DataFrame([{"x": x, "y": "a", "share": share} for x, share in enumerate((0.1, 0.4, 0.9))])
    chart = heat(cells, "x", "y", "share", value_title="Share", description="Cells.", numbers=True, domain=(0, 1))
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    found = {number: ink for ink, number in re.findall(r'fill="(black|white)"[^>]*>(0\.\d\d)</text>', svg)}
    assert found == {"0.10": "white", "0.40": "white", "0.90": "black"}  # the scheme is dark at its low end
