"""The charts' figure, their theme, and glue."""

import json
import re
from xml.etree import ElementTree

import altair as alt
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest

from task_vectors.pages import charts

SVG = "{http://www.w3.org/2000/svg}"
ROWS = [{"layer": layer, "accuracy": layer / 10, "task": task} for layer in (1, 2, 3) for task in ("a", "b")]


@pytest.fixture(autouse=True)
def book_charts():
    charts.use_book_charts()


def make_chart(description: str | None = "Accuracy rises with the layer.", rows: list[dict] = ROWS) -> alt.Chart:
    chart = alt.Chart(alt.Data(values=rows)).mark_line(clip=True)
    chart = chart.encode(x=alt.X("layer:Q", title="Layer"), y=alt.Y("accuracy:Q", title="Accuracy"), color="task:N")
    return chart.properties(description=description) if description is not None else chart


def figure_of(chart: alt.Chart) -> str:
    return alt.renderers.get()(chart.to_dict())["text/html"]


def static_svg(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", figure, re.DOTALL).group())


def spec_of(figure: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', figure, re.DOTALL).group(1))


def test_a_table_shows_its_texts_whole():
    text = "the reason of a verdict, which is longer than fifty letters by far"
    assert text in pd.DataFrame({"Verdict": [text]})._repr_html_()


def test_figure_holds_a_static_picture_before_the_specification():
    figure = figure_of(make_chart())
    words = {element.text for element in static_svg(figure).iter(f"{SVG}text")}
    assert {"Layer", "Accuracy", "a", "b"} <= words
    assert figure.index("<svg") < figure.index("<script")
    assert 'aria-label="Accuracy rises with the layer."' in figure


def test_a_chart_of_nothing_says_so():
    # Drawn, facets of no rows are 1.8e308 pixels high, and push all that follows off the page.
    table = pd.DataFrame(ROWS)
    for rows in (table, table[:0]):
        chart = alt.Chart(rows).mark_line().encode(x="layer:Q", y="accuracy:Q").facet(column="task:N")
        shown = figure_of(chart.properties(description="Accuracy by layer, a panel for each task."))
        assert ("tv-chart" in shown) == (len(rows) > 0)
        assert (charts.NOTHING in shown) == (len(rows) == 0)


@pytest.mark.parametrize("description", [None, "", "  "])
def test_chart_without_alt_text_is_refused(description):
    with pytest.raises(ValueError, match=r"no alt text: add \.properties\(description="):
        figure_of(make_chart(description))


def test_chart_without_alt_text_fails_the_run_of_a_notebook(tmp_path):
    # IPython catches what a display function raises, so only a real run shows that nothing slips through.
    source = (
        "import altair as alt\n"
        "from task_vectors.pages.charts import use_book_charts\n"
        "use_book_charts()\n"
        "alt.Chart(alt.Data(values=[])).mark_point()"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    path = tmp_path / "silent.ipynb"
    nbformat.write(notebook, path)
    with pytest.raises(papermill.PapermillExecutionError, match="no alt text"):
        papermill.execute_notebook(path, tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False)


def test_words_in_the_data_cannot_end_the_script():
    rows = [{"layer": 1, "accuracy": 0.5, "task": "</script><b>"}]
    figure = figure_of(make_chart('A "quoted" <b>.', rows))
    assert figure.count("</script>") == 1
    assert spec_of(figure)["data"]["values"] == rows
    assert 'aria-label="A &quot;quoted&quot; &lt;b&gt;."' in figure


def test_figure_is_the_same_from_run_to_run_and_its_id_is_unique_on_the_page():
    first, again = figure_of(make_chart()), figure_of(make_chart())
    charts.use_book_charts()
    rerun = figure_of(make_chart())
    assert rerun == first
    ids = [re.search(r'<figure [^>]*id="([^"]+)"', figure).group(1) for figure in (first, again)]
    assert ids[1] == f"{ids[0]}-2"


def test_clip_paths_of_two_charts_do_not_share_an_id():
    figures = [figure_of(make_chart()), figure_of(make_chart("Another chart."))]
    ids = [set(re.findall(r'<clipPath id="([^"]+)"', figure)) for figure in figures]
    assert all(ids)
    assert not ids[0] & ids[1]
    for figure, defined in zip(figures, ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", figure)) <= defined


def test_theme_draws_in_the_ink_of_the_page():
    svg = static_svg(figure_of(make_chart()))
    assert {element.get("fill") for element in svg.iter(f"{SVG}text")} == {"currentColor"}
    assert not [element for element in svg.iter(f"{SVG}rect") if element.get("fill") == "white"]
    strokes = {element.get("stroke") for element in svg.iter(f"{SVG}path")}
    assert set(charts.PALETTE[:2]) <= strokes


def test_output_is_valid_in_a_notebook():
    bundle = alt.renderers.get()(make_chart().to_dict())
    output = nbformat.v4.new_output("execute_result", data=bundle, execution_count=1)
    cell = nbformat.v4.new_code_cell("chart", outputs=[output], execution_count=1)
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))


@pytest.mark.parametrize(("value", "text"), [(np.float64(0.25), "0.25"), (np.int64(3), "3"), ("gemma", "'gemma'")])
def test_glue_keeps_a_plain_value_under_its_name(monkeypatch, value, text):
    shown = []
    monkeypatch.setattr(charts, "display", lambda data, raw, metadata: shown.append((data, metadata)))
    monkeypatch.setattr(charts, "format_display_data", lambda value: ({"text/plain": repr(value)}, {}))
    charts.glue("peak", value)
    hidden = "application/papermill.record/"
    assert shown == [({f"{hidden}text/plain": text}, {"scrapbook": {"name": "peak", "mime_prefix": hidden}})]


def test_glue_all_glues_each_under_its_own_name(monkeypatch):
    glued = {}
    monkeypatch.setattr(charts, "glue", glued.__setitem__)
    charts.glue_all(peak=0.25, layer=3)
    assert glued == {"peak": 0.25, "layer": 3}


def test_bundle_can_stand_inline():
    bundle = charts.vega_bundle()
    assert "</script" not in bundle
    assert "figure.tv-chart" in bundle
    assert "vegaEmbed" in bundle
