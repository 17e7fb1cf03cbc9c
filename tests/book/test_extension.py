"""The Sphinx extension on a site of three pages, built in a folder of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import altair as alt
import nbformat
import pytest

from task_vectors.pages import charts

EXTENSION = Path(__file__).parents[2] / "book/_ext"
CONF = f"""
import sys
sys.path.insert(0, {str(EXTENSION)!r})
extensions = ["myst_nb", "sphinx_thebe", "offline_book"]
nb_execution_mode = "off"
mathjax_path = "mathjax/tex-chtml.js"
exclude_patterns = ["out"]
"""
INDEX = """# Start

```{toctree}
result
plain
```
"""
PLAIN = """# Plain

The peak is {glue:text}`result.ipynb::peak:.2f`, and {math}`x = y`.
"""


def glued(name: str, value: float) -> nbformat.NotebookNode:
    record = {"name": name, "mime_prefix": charts.HIDDEN}
    data = {f"{charts.HIDDEN}text/plain": repr(value)}
    return nbformat.v4.new_output("display_data", data=data, metadata={"scrapbook": record})


def write_notebook(folder: Path, peak: float) -> None:
    charts.use_book_charts()
    chart = alt.Chart(alt.Data(values=[{"x": 1}])).mark_point().encode(x="x:Q").properties(description="One point.")
    bundle = alt.renderers.get()(chart.to_dict())
    cell = nbformat.v4.new_code_cell(
        "chart", outputs=[glued("peak", peak), nbformat.v4.new_output("display_data", data=bundle)]
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Result"), cell])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    (folder / "result.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def build(folder: Path) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-W",
        "--keep-going",
        "-n",
        "-q",
        folder,
        folder / "out/html",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def make_site(folder: Path) -> Path:
    (folder / "conf.py").write_text(CONF, encoding="utf-8")
    (folder / "index.md").write_text(INDEX, encoding="utf-8")
    (folder / "plain.md").write_text(PLAIN, encoding="utf-8")
    write_notebook(folder, peak=0.25)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = make_site(tmp_path_factory.mktemp("site"))
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder / "out/html"


def test_everything_a_page_needs_is_in_the_site(built):
    static = built / "_static"
    assert (static / "charts.js").stat().st_size > 500_000
    assert (static / "mathjax/tex-chtml.js").is_file()
    assert len(list((static / "mathjax/output/chtml/fonts/woff-v2").glob("*.woff"))) > 15
    assert (static / "scripts/fontawesome.js").stat().st_size < 1000


def test_scripts_are_on_the_pages_that_use_them(built):
    with_chart, without = (built / "result.html").read_text(), (built / "plain.html").read_text()
    assert charts.MARKUP in with_chart
    assert "charts.js" in with_chart
    assert "charts.js" not in without
    assert "mathjax/tex-chtml.js" in without
    for html in (with_chart, without):
        assert "THEBE_JS_URL" not in html
        assert not re.search(r"<script[^>]*src=[^>]*thebe", html)


def test_page_follows_a_number_when_only_the_notebook_changes(tmp_path):
    folder = make_site(tmp_path)
    assert build(folder).returncode == 0
    write_notebook(folder, peak=0.75)
    assert build(folder).returncode == 0
    html = (folder / "out/html/plain.html").read_text()
    assert "0.75" in html
    assert "0.25" not in html


def test_a_number_that_no_notebook_has_stops_the_build(tmp_path):
    folder = make_site(tmp_path)
    (folder / "plain.md").write_text(PLAIN.replace("::peak:", "::no_such_number:"), encoding="utf-8")
    done = build(folder)
    assert done.returncode != 0
    assert "no_such_number" in done.stderr
