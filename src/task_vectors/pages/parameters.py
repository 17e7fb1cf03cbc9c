"""A notebook's parameters: read from its `parameters` cell without a kernel, and checked before anything runs."""

import ast
import difflib
import io
import math
import os
import reprlib
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from task_vectors.pages.ranges import find_rule, follows_rule
from task_vectors.pages.reading import ParameterError, read_cells, read_yaml
from task_vectors.paths import project_root

SHOWN = 120  # characters of a value in an error
LARGEST = 2**53  # whole numbers up to it are the same in JSON, in tables and on a GPU
TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}
FORM = "`name: type = literal  # help` on one line, with a type out of " + ", ".join(TYPES)


@dataclass(frozen=True)
class Parameter:
    """One line of a `parameters` cell."""

    name: str
    type: str
    default: object
    help: str

    @property
    def kind(self) -> str:
        """The type as an error should name it: lists say what they hold where the default tells."""
        item = self.item_type
        return f"{self.type} of {item}" if item else self.type

    @property
    def item_type(self) -> str | None:
        """The one type of a list's default elements, else None."""
        items = {type(item).__name__ for item in self.default} if self.type == "list" else set()
        return items.pop() if len(items) == 1 and items <= TYPES.keys() else None

    @property
    def rule(self) -> str | None:
        """Which values of the type it may have, in the words that end its help."""
        return find_rule(self.help)


def find_notebook(name: str) -> Path:
    """The notebook called `name`: a path, a full name (`11_high_rank_failure`) or its number (`11`)."""
    if name.endswith(".ipynb"):
        if os.path.isfile(name):  # which, unlike Path, takes a name of any length
            return Path(name)
        raise ParameterError(f"no notebook at {cut(name)}")
    notebooks = {path.stem: path for path in sorted((project_root() / "notebooks").glob("*.ipynb"))}
    if name in notebooks:
        return notebooks[name]
    numbered = [path for stem, path in notebooks.items() if stem.split("_")[0] == name]
    if len(numbered) == 1:
        return numbered[0]
    known = ", ".join(notebooks) or "none"
    raise ParameterError(f"no notebook {cut(repr(name))}{closest(name, notebooks)}; there are: {known}")


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name, in the order of its one cell tagged `parameters`."""
    tagged = [cell for cell in read_cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook} has {len(tagged)} cells tagged `parameters`; it must have exactly one")
    found: dict[str, Parameter] = {}
    for number, line in enumerate("".join(tagged[0]["source"]).splitlines(), start=1):
        if not line.strip():
            continue
        parameter = _parse_line(line)
        if parameter is None or parameter.name in found:
            wrong = f"gives {parameter.name!r} a second time" if parameter else f"must be {FORM}"
            where = f"{notebook}: line {number} of the cell tagged `parameters`"
            raise ParameterError(f"{where} {wrong}: {cut(line.strip())}")
        found[parameter.name] = parameter
    try:
        check_values({name: parameter.default for name, parameter in found.items()}, found)
    except ParameterError as error:
        raise ParameterError(f"{notebook}, its own default: {error}") from None
    return found


def parse_assignments(assignments: Iterable[str], parameters: Mapping[str, Parameter]) -> dict[str, object]:
    """`["n_demos=20"]` as `{"n_demos": 20}`: each text is read as the type that its parameter has, and checked."""
    values = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ParameterError(f"{cut(repr(assignment))} must be written name=value; names: {_listing(parameters)}")
        parameter = parameters.get(name)
        values[name] = _parse_text(text, parameter.type) if parameter else text
    return check_values(values, parameters)


def check_values(values: Mapping[str, object], parameters: Mapping[str, Parameter]) -> dict[str, object]:
    """The values, each of its parameter's type; an unknown name or another type raises ParameterError."""
    checked = {}
    for name, value in values.items():
        if name not in parameters:
            hint = closest(name, {known: parameter.kind for known, parameter in parameters.items()})
            raise ParameterError(f"unknown parameter {cut(repr(name))}{hint}; all: {_listing(parameters)}")
        parameter = parameters[name]
        wanted = ", ".join(filter(None, [parameter.kind, parameter.rule]))
        if not _has_type(value, parameter.type):
            raise ParameterError(f"parameter {name!r} must be {wanted}, got {_shown(value)}")
        item_type = parameter.item_type
        wrong = [item for item in value if not _has_type(item, item_type)] if item_type else []
        if wrong:
            raise ParameterError(f"parameter {name!r} must be {wanted}, got the element {_shown(wrong[0])}")
        if not _is_plain(value):
            raise ParameterError(
                f"parameter {name!r} takes finite numbers, texts and booleans (whole numbers up to 2^53), "
                f"got {_shown(value)}"
            )
        if parameter.rule and not follows_rule(value, parameter.rule):
            raise ParameterError(f"parameter {name!r} must be {wanted}, got {_shown(value)}")
        checked[name] = float(value) if parameter.type == "float" else value
    return checked


def is_default(notebook_name: str, values: Mapping[str, object]) -> bool:
    """Whether `values` (a notebook may pass its `globals()`) holds exactly the notebook's own defaults."""
    parameters = read_parameters(find_notebook(notebook_name))
    missing = sorted(parameters.keys() - values.keys())
    if missing:
        raise ParameterError(f"is_default needs a value for every parameter of {notebook_name}; missing: {missing}")
    return all(values[name] == parameter.default for name, parameter in parameters.items())


def closest(name: str, known: Mapping[str, object]) -> str:
    """What was probably meant, as the end of an error; the type too, where `known` gives types in words."""
    best = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not best:
        return ""
    kind = f" ({known[best[0]]})" if isinstance(known[best[0]], str) else ""
    return f"; did you mean {best[0]!r}{kind}?"


def cut(text: str) -> str:
    """As much of a text as an error shows."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _parse_line(line: str) -> Parameter | None:
    try:
        (node,) = ast.parse(line).body
        tokens = tokenize.generate_tokens(io.StringIO(line).readline)
        comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            return None
        kind, default = ast.unparse(node.annotation), ast.literal_eval(node.value)
    except (SyntaxError, ValueError, TypeError):
        return None
    text = comments[0].lstrip("#").strip() if comments else ""
    if not text or kind not in TYPES or not _has_type(default, kind):
        return None
    return Parameter(node.target.id, kind, float(default) if kind == "float" else default, text)


def _parse_text(text: str, kind: str) -> object:
    """The value that a shell word stands for; a text that does not fit stays a text, which the check then refuses."""
    try:
        if kind in ("int", "float"):
            return TYPES[kind](text)
        if kind == "bool":
            return {"true": True, "false": False}.get(text.lower(), text)
        return _parse_list(text) if kind == "list" else text
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _parse_list(text: str) -> object:
    try:
        return ast.literal_eval(text)  # reads 1e-3 as a number, which YAML 1.1 does not
    except (ValueError, SyntaxError):
        return read_yaml(text)  # reads [antonym, copy] without quotes


def _has_type(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    return isinstance(value, TYPES[kind]) or (kind == "float" and isinstance(value, int))


def _is_plain(value: object) -> bool:
    """Numbers that are finite, texts of Unicode, booleans, and lists of these: what a record's key can be made of."""
    try:
        if isinstance(value, list):
            return all(map(_is_plain, value))
        if isinstance(value, str):
            value.encode()
            return True
        return abs(value) <= LARGEST if isinstance(value, int) else isinstance(value, float) and math.isfinite(value)
    except (UnicodeEncodeError, RecursionError):
        return False


def _shown(value: object) -> str:
    return cut(reprlib.repr(value))


def _listing(parameters: Mapping[str, Parameter]) -> str:
    return ", ".join(f"{parameter.name} ({parameter.kind})" for parameter in parameters.values()) or "none"
