"""Throwaway notebooks and projects for the tests."""

from pathlib import Path

import nbformat
from nbformat import v4

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def write_notebook(path: Path, parameters: str, *cells: str) -> Path:
    """A notebook with these lines as its `parameters` cell; a cell that starts with `#` and a space is Markdown."""
    make = (v4.new_markdown_cell if source.startswith("# ") else v4.new_code_cell for source in cells)
    notebook = v4.new_notebook(
        metadata=KERNEL,
        cells=[
            v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            *(new_cell(source) for new_cell, source in zip(make, cells, strict=True)),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path
