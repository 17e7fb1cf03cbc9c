"""Notebooks and YAML as people write them: read with light imports, and refused in one line where they are damaged."""

import json
from pathlib import Path

import yaml


class ParameterError(ValueError):
    """A notebook, a preset, a parameter or a value that cannot be used; the message is one line."""


def read_cells(notebook: Path) -> list[dict]:
    """The cells of a notebook of format 4, each with a cell_type, a source and its metadata; code cells with outputs.

    Raises ParameterError for a file that is none, and names the cell where one is not as it should be.
    """
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        cells = content["cells"] if content["nbformat"] == 4 else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        cells = None
    if not isinstance(cells, list):
        raise ParameterError(f"{notebook} is not a notebook of format 4")
    for number, cell in enumerate(cells):
        if wrong := _wrong_with(cell):
            raise ParameterError(f"{notebook}: its cell {number} (from 0) {wrong}")
    return cells


def _wrong_with(cell: object) -> str | None:
    if not isinstance(cell, dict) or cell.get("cell_type") not in ("code", "markdown", "raw"):
        return "is neither code nor Markdown"
    if not _is_text(cell.get("source")):
        return "has a source that is no text"
    metadata = cell.get("metadata")
    if not isinstance(metadata, dict) or not _is_text(metadata.get("tags", [])):
        return "has metadata that are no mapping, or tags that are no list of texts"
    if cell["cell_type"] != "code":
        return None
    outputs = cell.get("outputs", [])
    if not isinstance(outputs, list) or not all(map(_is_output, outputs)):
        return "has outputs that are no list of outputs"
    return None


def _is_output(output: object) -> bool:
    parts = [output, *(output.get(name, {}) for name in ("metadata", "data"))] if isinstance(output, dict) else [None]
    return all(isinstance(part, dict) for part in parts)


def _is_text(value: object) -> bool:
    """A text, or a list of texts, as JSON notebooks keep many lines."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


class _Loader(yaml.SafeLoader):
    """YAML's plain types only, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"{min(twice)!r} stands there a second time")
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> object:
    """The value that a YAML text stands for; ValueError, in one line, for any text that is none."""
    try:
        return yaml.load(text, _Loader)
    except MemoryError:
        raise
    except Exception as error:  # tags on values that they do not fit make the reader fail in any way
        problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(" ".join(f"{problem or error}{where}".split())[:200]) from None
