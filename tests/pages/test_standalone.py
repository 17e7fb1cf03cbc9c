import pytest
from nbformat import v4

from task_vectors.pages.charts import glue, use_book_charts
from task_vectors.pages.reading import ParameterError
from task_vectors.pages.standalone import plain_markdown, render, write_page


def chart_html() -> str:
    import altair as alt

    use_book_charts()
    chart = alt.Chart(alt.Data(values=[{"x": 1, "y": 2}])).mark_bar().encode(x="x:O", y="y:Q")
    return chart.properties(description="One bar")._repr_mimebundle_()["text/html"]


def glued_output(name, value, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "task_vectors.pages.charts.display", lambda data, raw, **rest: shown.append({"data": data, **rest})
    )
    glue(name, value)
    return v4.new_output("display_data", **shown[0])


@pytest.fixture
def executed(monkeypatch):
    chart = v4.new_output("display_data", {"text/html": chart_html()})
    figure = {"mystnb": {"figure": {"name": "fig-bar", "caption": "A bar of height $y$."}}}
    return v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# A title\n\nAs {numref}`fig-bar` shows, $x^2$ is {glue:text}`share:.2f`."),
            v4.new_code_cell("draw()", outputs=[glued_output("share", 0.125, monkeypatch), chart], metadata=figure),
            v4.new_code_cell("secret()", metadata={"tags": ["remove-cell"]}),
        ]
    )


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("{cite:p}`dong2026,han2025` and {cite:t}`han2025`", "(dong2026, han2025) and han2025"),
        ("{term}`the vector <task vector>`, {math}`x^2`", "the vector, $x^2$"),
        ("{glue:text}`share:.1f` of {glue:text}`model:s`; {numref}`fig-a`", "0.5 of gemma; Figure 1"),
        ("{glue:text}`unknown:.1f`", "unknown:.1f"),
        ("(a-label)=\n## Part", "## Part"),
        ("$$\nx = y\n$$ (eq-a)\n\nBy {eq}`eq-a`.", "$$\nx = y\n\\tag{eq-a}\n$$\n\nBy (eq-a)."),
        ("```{math}\n:label: eq-a\nx = y\n```", "$$\nx = y\n\\tag{eq-a}\n$$"),
        ("```{note}\nMind {cite:t}`han2025`.\n```\nOn.", "> **Note**\n> \n> Mind han2025.\nOn."),
        (":::{admonition} Why\n:class: tip\nSo.\n:::", "> **Why**\n> \n> So."),
        ("````{exercise} Count\n```{hint}\nTen.\n```\n````", "> **Exercise Count**\n> \n> > **Hint**\n> > \n> > Ten."),
        ("```python\nx = {1: 2}\n```", "```python\nx = {1: 2}\n```"),
    ],
)
def test_myst_becomes_plain_markdown(source, plain):
    assert plain_markdown(source, {"share": 0.5, "model": "gemma", "fig-a": "Figure 1"}) == plain


@pytest.mark.parametrize("value", [float("nan"), "nan"])
def test_what_has_no_value_is_no_number_in_a_sentence(value):
    form = "s" if isinstance(value, str) else ".2f"
    assert plain_markdown(f"It is {{glue:text}}`share:{form}`.", {"share": value}) == "It is –."


def test_scripts_come_only_where_they_are_needed():
    bare = render(v4.new_notebook(cells=[v4.new_markdown_cell("# A title\n\nWords.")]))
    assert "<title>A title</title>" in bare
    assert "MathJax" not in bare
    assert "vegaEmbed" not in bare
    assert "<script" not in bare


def test_the_page_draws_everything_offline(executed, tmp_path, browser):
    path = tmp_path / "page.html"
    path.write_text(render(executed), encoding="utf-8")
    requests, troubles = [], []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda message: troubles.append(message.text))
    page.goto(path.as_uri())
    page.wait_for_selector("figure.tv-chart[data-ready=true]", timeout=10_000)
    page.wait_for_selector("mjx-container svg", timeout=10_000)
    text = page.inner_text("main")
    width = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert troubles == []
    assert "As Figure 1 shows" in text
    assert "is 0.12." in text
    assert "Figure 1. A bar of height" in text
    assert "secret()" not in text
    assert width == 390


def test_a_file_that_is_no_notebook_gives_no_page(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text('{"nbformat": 4, "cells": [{"cell_type": "code", "source": 3}]}')
    with pytest.raises(ParameterError, match="a.ipynb: its cell 0 .* has a source that is no text"):
        write_page(path)
    assert list(tmp_path.iterdir()) == [path]
