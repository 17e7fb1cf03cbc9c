"""What the figures draw, from their specifications and what Vega makes of them."""

import pandas as pd
import pytest
import vl_convert

from task_vectors.pages.from_records.linear_transformer import LINES, PARTS
from task_vectors.pages.linear_transformer_figures import matrix_figure, risk_figure, tail_figure, worth_figure


def drawn(chart):
    """The chart as an SVG text; drawing fails where the specification is not sound."""
    return vl_convert.vegalite_to_svg(chart.to_dict())


def test_every_seed_is_a_dot_and_every_depth_a_panel():
    rows = [
        {"layers": f"{L} layers", "layout": line, "n": n, "risk": risk, "best": 0.1}
        for L in (2, 3)
        for line in LINES
        for n in (5, 10)
        for risk in (0.1, 0.3)
    ]
    svg = drawn(risk_figure(pd.DataFrame(rows)))
    assert svg.count('aria-roledescription="circle"') == len(rows)
    assert "2 layers" in svg
    assert "3 layers" in svg
    assert all(line in svg for line in LINES)


def test_every_estimate_is_a_dot():
    rows = [{"n": n, "prompts": kind, "estimate": value} for n in (5, 10) for kind in "ab" for value in (0.5, 1, 3)]
    svg = drawn(tail_figure(pd.DataFrame(rows)))
    assert svg.count('aria-roledescription="circle"') == len(rows)


@pytest.mark.parametrize("sizes", [[3, 5, 7], [4]])
def test_a_matrix_is_shown_at_one_size_in_all_its_parts(sizes):
    rows = [
        {"layout": layout, "n": n, "query": query, "key": key, **dict.fromkeys(PARTS, 0.5)}
        for layout in ("pairs", "triplets")
        for n in sizes
        for query in range(n)
        for key in range(2)
    ]
    chart = matrix_figure(pd.DataFrame(rows), sizes[0])
    svg = drawn(chart)
    assert svg.count('aria-roledescription="rect mark"') == sizes[0] * 2 * len(PARTS)
    [slider] = [param for param in chart.to_dict()["params"] if param["name"] == "demos"]
    assert (slider["value"], slider["bind"]["min"], slider["bind"]["max"]) == (sizes[0], sizes[0], sizes[-1])


def test_every_score_is_a_point_of_its_panel():
    rows = [
        {"problem": problem, "layers": f"{L} layers", "n": n, "method": method, "angle": 1.5}
        for problem in ("x on a line", "x anywhere")
        for L in (2, 3)
        for n in (5, 10)
        for method in ("task vector", "one demonstration", "all demonstrations")
    ]
    svg = drawn(worth_figure(pd.DataFrame(rows)))
    assert svg.count('aria-roledescription="point"') == len(rows)
    assert "x on a line" in svg
