"""What a notebook or module is made from, found without running it: its task_vectors modules, its data files and
measurements, and the records of the experiments that it uses."""

import ast
import functools
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "task_vectors"
MODULE = re.compile(rf"{PACKAGE}(\.\w+)*")
DATA = ("data", "benchmarks")  # folders of what is read and not imported
RECORDS = Path("data", "recorded")  # not as one text, which would name all records


class _Names(NamedTuple):
    """What one file says."""

    modules: frozenset[str]  # that it imports or names
    data: frozenset[str]  # paths in DATA
    used: frozenset[str]  # names that are read or imported
    experiments: dict[str, str]  # constants, with the name of their records


def dependencies(*sources: Path | str, root: Path, choosers: Collection[str] = ()) -> list[str]:
    """The files below `root` that the sources rest on: imported modules, their imports, paths in data/ and benchmarks/
    that they name, and the manifests of experiments whose constant is used anywhere but where it is defined.

    What the files in `choosers` import and name is left out.
    """
    todo, modules, data, used, experiments = [Path(root, source) for source in sources], set(), set(), set(), {}
    left_out = {root / name for name in choosers}
    while todo:
        names = _names(path := todo.pop(), path.read_text(encoding="utf-8"), root)
        used |= names.used
        experiments |= names.experiments
        if path in left_out:
            continue
        data.update(file for named in names.data for file in _files(named, root))
        found = {file for name in names.modules for file in _module_files(name, root)}
        todo += found - modules
        modules |= found
    for constant in used & experiments.keys():
        data.update(_files(f"{RECORDS.as_posix()}/{experiments[constant]}.manifest", root))
    return sorted(file.relative_to(root).as_posix() for file in modules | data)


@functools.cache  # a module is asked about by many notebooks and records
def _names(path: Path, text: str, root: Path) -> _Names:
    tree = ast.parse(_code(path, text), filename=str(path))
    modules = frozenset(name for name in _module_names(tree, path, root) if MODULE.fullmatch(name))
    return _Names(modules, frozenset(_data_paths(tree)), frozenset(_used_names(tree)), _experiments(tree))


def _code(path: Path, text: str) -> str:
    if path.suffix != ".ipynb":
        return text
    cells = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def _module_names(tree: ast.Module, path: Path, root: Path) -> Iterator[str]:
    yield from _public_modules(tree, root)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [_package_of(path, node.level, root), node.module]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # importlib.import_module("task_vectors.tasks")


def _public_modules(tree: ast.Module, root: Path) -> Iterator[str]:
    """The modules behind the public names in use: tv.capture after `import task_vectors as tv`, tv.kernels.saliency."""
    used, called = [], set()  # dotted names below the package; what the package is called here
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            called |= {alias.asname or alias.name for alias in node.names if alias.name == PACKAGE}
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            used += [alias.name for alias in node.names]
    if called:
        attributes = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        used += [name.partition(".")[2] for name in attributes if name.partition(".")[0] in called]
    homes = _homes(root) if used else {}
    for name in used:
        yield f"{PACKAGE}.{homes.get(name.partition('.')[0]) or name}"


def _homes(root: Path) -> dict[str, str | None]:
    """Of each public name the module that it lives in; None for a package."""
    stub = root / "src" / PACKAGE / "__init__.pyi"
    lines = ast.parse(stub.read_text(encoding="utf-8")).body if stub.is_file() else []
    return {alias.name: line.module for line in lines for alias in line.names}


def _package_of(path: Path, level: int, root: Path) -> str:
    """The package that a relative import of this level starts from; empty for an absolute one."""
    return ".".join(path.parents[level - 1].relative_to(root / "src").parts) if level else ""


def _module_files(name: str, root: Path) -> list[Path]:
    """The file of a module of ours and the __init__.py of each package above it; none where the name is no module."""
    parts = name.split(".")
    stems = [root.joinpath("src", *parts[:depth]) for depth in range(1, len(parts) + 1)]
    return [file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()]


def _used_names(tree: ast.Module) -> set[str]:
    """Every name that is read or imported; a name that is only assigned is not among them."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used.add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            used.update(alias.name for alias in node.names)
    return used


def _experiments(tree: ast.Module) -> dict[str, str]:
    """Constants of the form RISKS = Experiment("risks", ...), with the name of the folder of their records."""
    found = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        if ast.unparse(node.value.func).split(".")[-1] == "Experiment":
            named = [*node.value.args[:1], *(word.value for word in node.value.keywords if word.arg == "name")]
            found |= {target.id: ast.literal_eval(named[0]) for target in node.targets}
    return found


def _data_paths(tree: ast.Module) -> Iterator[str]:
    """Paths in data/ and benchmarks/, as a text ("data/tasks") or joined (project_root() / "data" / "tasks" / name)."""
    inner = {id(node.left) for node in ast.walk(tree) if _is_join(node)}
    for node in ast.walk(tree):
        if _is_join(node) and id(node) not in inner:
            parts = _known_parts(node)
            if known := [name for name in parts if name in DATA]:
                yield "/".join(parts[parts.index(known[0]) :])
        elif isinstance(node, ast.Constant) and re.fullmatch(rf"({'|'.join(DATA)})/[\w./-]+", str(node.value)):
            yield node.value.rstrip("/")


def _is_join(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)


def _known_parts(node: ast.AST) -> list[str]:
    """The texts of `a / "data" / "tasks" / name`, up to the first unknown part after a known one."""
    operands = []
    while _is_join(node):
        operands.insert(0, node.right)
        node = node.left
    parts = []
    for operand in operands:
        if isinstance(operand, ast.Constant) and isinstance(operand.value, str):
            parts.append(operand.value)
        elif parts:
            break
    return parts


def _files(name: str, root: Path) -> list[Path]:
    """The data files of a folder, or the file itself; none where there is no such path.

    READMEs are no data, and manifests stand for the hundreds of files of the records that they list.
    """
    path, records = root / name, root / RECORDS
    files = path.rglob("*") if path.is_dir() else [path]
    return [
        file
        for file in files
        if file.is_file() and file.suffix != ".md" and (records not in file.parents or file.parent == records)
    ]
