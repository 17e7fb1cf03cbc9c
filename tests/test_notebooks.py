"""The notebooks as they are kept: without outputs, with a readable `parameters` cell, and presets that fit them."""

import ast
from importlib import import_module
from importlib.util import find_spec

import nbformat
import pytest

from task_vectors.pages.parameters import read_parameters
from task_vectors.pages.presets import read_preset
from task_vectors.paths import project_root

NOTEBOOKS = {path.stem: path for path in sorted((project_root() / "notebooks").glob("*.ipynb"))}
PRESETS = sorted(path.stem for path in (project_root() / "workflow" / "presets").glob("*.yaml"))
WHOLE_BOOK = ("default", "paper", "smoke")  # the others are of one model, and leave all else as it is


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_notebook_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in code if cell.outputs or cell.execution_count is not None] == []
    assert read_parameters(path)


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_every_number_and_list_has_a_range(path):
    parameters = read_parameters(path).values()
    assert [item.name for item in parameters if item.type not in ("str", "bool") and not item.rule] == []


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_every_notebook(name):
    values = read_preset(name, project_root())
    assert values.keys() == NOTEBOOKS.keys() or (name not in WHOLE_BOOK and values.keys() < NOTEBOOKS.keys())


def test_the_default_preset_changes_nothing():
    assert not any(read_preset("default", project_root()).values())


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_check_that_fails_says_what_was_compared(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    asserts = [node for source in cells for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    # A text with values in it.
    assert [ast.unparse(node) for node in asserts if not isinstance(node.msg, ast.JoinedStr)] == []


def is_module(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # what should hold it is no package
        return False


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_what_a_notebook_imports_of_the_package_is_there(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    for cell in cells:
        imports = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.ImportFrom)]
        for node in imports:
            if node.module.startswith("task_vectors"):
                module = import_module(node.module)
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert [name for name in missing if not is_module(f"{node.module}.{name}")] == []
