"""The book's Sphinx extension: pages that ask nothing of the network, charts, and numbers glued from notebooks.

MathJax and Vega come out of pip packages and are copied into the built site, so that it can be read from a folder.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from myst_nb.ext.glue.utils import PendingGlueReference
from sphinx.application import Sphinx

from task_vectors.pages.charts import MARKUP, vega_bundle

MATHJAX_FILES = ["tex-chtml.js", "output/chtml/fonts/woff-v2"]


def provide_assets(app: Sphinx) -> None:
    """Put MathJax and the chart script where Sphinx looks for static files."""
    assets = Path(app.doctreedir) / "assets"
    (package,) = find_spec("sphinx-mathjax-offline").submodule_search_locations
    for name in MATHJAX_FILES:
        source, target = Path(package) / "static/mathjax" / name, assets / "mathjax" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    (assets / "charts.js").write_text(vega_bundle(), encoding="utf-8")
    # The theme's own file of this name is 1.5 MB on every page; the icons come from its web fonts without it.
    (assets / "scripts").mkdir(exist_ok=True)
    (assets / "scripts/fontawesome.js").write_text("// Icons come from the web fonts.\n", encoding="utf-8")
    app.config.html_static_path.append(str(assets))


def add_chart_script(
    app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None
) -> None:
    """Load the 0.9 MB chart script on pages that hold a chart, and nowhere else."""
    if MARKUP in context.get("body", ""):
        app.add_js_file("charts.js", loading_method="defer")


def drop_thebe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    """Jupyter Book always loads thebe, and twice: a script error on every page, and the address of a foreign host."""

    def is_thebe(script: object) -> bool:
        return "thebe" in f"{script.filename} {script.attributes.get('body', '')}".lower()

    context["script_files"] = [script for script in context["script_files"] if not is_thebe(script)]


def note_glue_dependencies(app: Sphinx, doctree: nodes.document) -> None:
    """Without this, a page keeps its old numbers when only the notebook that they come from has changed."""
    for reference in doctree.findall(PendingGlueReference):
        app.env.note_dependency(app.env.doc2path(reference.refdoc))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("builder-inited", provide_assets)
    app.connect("doctree-read", note_glue_dependencies)
    app.connect("html-page-context", add_chart_script)
    app.connect("html-page-context", drop_thebe, priority=900)  # after the extensions that add it
    return {"parallel_read_safe": True, "parallel_write_safe": True}
