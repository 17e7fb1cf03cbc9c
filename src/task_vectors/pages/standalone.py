"""One HTML file of an executed notebook: it opens anywhere, draws charts and formulas, and asks no network."""

import ast
import re
from importlib.metadata import distribution
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import TagRemovePreprocessor

from task_vectors.pages.charts import HIDDEN, MARKUP, vega_bundle
from task_vectors.pages.reading import read_cells

# nbconvert's own page loads require.js, MathJax 2, Mermaid and a widget manager from elsewhere: no such block here.
TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
main { max-width: 52rem; margin: 0 auto; padding: 1rem }
.jp-RenderedHTMLCommon, .jp-InputArea-editor { overflow-x: auto }
.jp-RenderedHTMLCommon table { margin-left: 0 }
.jp-RenderedHTMLCommon blockquote { border-left: 3px solid #4477AA; color: inherit }
</style>
{%- endblock -%}
"""
MATHJAX_SETTINGS = 'window.MathJax = {tex: {inlineMath: [["$", "$"]], tags: "ams"}, options: {enableMenu: false}};'

DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}[ \t]*(?P<title>.*)\n(?P<body>(?:.*\n)*?)(?P=fence)[ \t]*$",
    re.MULTILINE,
)
ROLE = re.compile(r"\{(?P<name>[\w:-]+)\}`(?P<text>[^`]+)`")
DIRECTIVE_OPTIONS = re.compile(r"\A(?::[\w-]+:.*\n)+")
TARGET = re.compile(r"^\([\w:-]+\)=\n", re.MULTILINE)
EQUATION_LABEL = re.compile(r"\$\$[ \t]*\(([\w:-]+)\)[ \t]*$", re.MULTILINE)


def write_page(executed: Path) -> Path:
    """Write the HTML page of an executed notebook beside it; ParameterError for a file that is no notebook."""
    read_cells(executed)
    page = executed.with_suffix(".html")
    page.write_text(render(nbformat.read(executed, as_version=4)), encoding="utf-8")
    return page


def render(notebook: nbformat.NotebookNode) -> str:
    """The whole page as one text, scripts and styles inside."""
    known = _glued_values(notebook)
    _drop_hidden_outputs(notebook)
    notebook.cells = _with_captions(notebook.cells, known)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = plain_markdown(cell.source, known)
    heading = re.search(r"^#\s+(.+)", "\n".join(cell.source for cell in notebook.cells), re.MULTILINE)
    notebook.metadata.title = heading[1] if heading else "Executed notebook"
    exporter = HTMLExporter(
        template_name="lab", raw_template=TEMPLATE, exclude_input_prompt=True, exclude_output_prompt=True
    )
    tags = TagRemovePreprocessor(
        remove_cell_tags={"remove-cell"}, remove_input_tags={"remove-input", "hide-input", "hide-cell"}, enabled=True
    )
    exporter.register_preprocessor(tags, enabled=True)
    html, _ = exporter.from_notebook_node(notebook)
    body, end, tail = html.rpartition("</body>")
    return body + _scripts(html, notebook) + end + tail


def plain_markdown(source: str, known: dict[str, object]) -> str:
    """Markdown without MyST: values and figures `known` by name put in, citations as keys, notes as block quotes."""
    source = DIRECTIVE.sub(lambda match: _plain_directive(match, known), TARGET.sub("", source))
    source = EQUATION_LABEL.sub(r"\\tag{\1}\n$$", source)
    return ROLE.sub(lambda match: _plain_role(match, known), source)


def _plain_directive(match: re.Match, known: dict[str, object]) -> str:
    name, title = match["name"], match["title"]
    body = DIRECTIVE_OPTIONS.sub("", match["body"]).strip()
    if name == "math":
        label = re.search(r"^:label:[ \t]*(\S+)", match["body"], re.MULTILINE)
        return f"$$\n{body}\n$$" + (f" ({label[1]})" if label else "")
    if name in ("code", "code-block"):
        return f"```{title}\n{body}\n```"
    lead = title if name in ("admonition", "dropdown") else f"{name.capitalize()} {title}".strip()
    return re.sub(r"^", "> ", f"**{lead}**\n\n{plain_markdown(body, known)}", flags=re.MULTILINE)


def _plain_role(match: re.Match, known: dict[str, object]) -> str:
    name, text = match["name"], match["text"]
    if name == "math":
        return f"${text}$"
    if name == "glue:text":
        key, _, form = text.partition(":")
        if key not in known:
            return text
        # What nothing was measured of has no number to print.
        return "–" if str(known[key]) == "nan" else format(known[key], form)
    if name.startswith("cite"):
        keys = text.replace(",", ", ")
        return keys if name == "cite:t" else f"({keys})"
    if name == "eq":
        return f"({text})"
    return str(known.get(text, re.sub(r"\s*<[^>]*>$", "", text)))


def _glued_values(notebook: nbformat.NotebookNode) -> dict[str, object]:
    values = {}
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    for output in outputs:
        record = output.get("metadata", {}).get("scrapbook")
        text = output.data.get(HIDDEN + "text/plain") if record else None
        if text is not None:
            try:
                values[record["name"]] = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                values[record["name"]] = float(text) if text in ("nan", "inf", "-inf") else text
    return values


def _drop_hidden_outputs(notebook: nbformat.NotebookNode) -> None:
    """Take out what `glue` keeps but does not show: nbconvert warns of each."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                output for output in cell.outputs if not any(mime.startswith(HIDDEN) for mime in output.get("data", ()))
            ]


def _with_captions(cells: list[nbformat.NotebookNode], known: dict[str, object]) -> list[nbformat.NotebookNode]:
    """The cells with each figure's caption below it; the figures' numbers join `known`."""
    captioned, number = [], 0
    for cell in cells:
        captioned.append(cell)
        figure = cell.metadata.get("mystnb", {}).get("figure")
        if figure:
            number += 1
            known[figure["name"]] = f"Figure {number}"
            captioned.append(nbformat.v4.new_markdown_cell(f"**Figure {number}.** {figure['caption'].strip()}"))
    return captioned


def _scripts(html: str, notebook: nbformat.NotebookNode) -> str:
    scripts = [vega_bundle()] if MARKUP in html else []
    if any("$" in cell.source or "\\begin{" in cell.source for cell in notebook.cells if cell.cell_type == "markdown"):
        mathjax = distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg.js")
        scripts += [MATHJAX_SETTINGS, Path(mathjax).read_text(encoding="utf-8")]
    return "".join(f"<script>{script}</script>\n" for script in scripts)
