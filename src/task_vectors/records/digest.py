"""Which code and data a record rests on: a digest that changes with whatever can change one of its numbers."""

import functools
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from task_vectors.paths import project_root
from task_vectors.records.dependencies import RECORDS, dependencies

if TYPE_CHECKING:
    from task_vectors.records.store import Experiment

# What only keeps and finds records, and public names: no change here changes a number.
BOOKKEEPING = (
    "src/task_vectors/__init__.py",
    "src/task_vectors/paths.py",
    "src/task_vectors/experiments/registry.py",
    "src/task_vectors/records/",
)
# What these read depends on the parameters: an experiment names it in `rests_on`.
CHOOSERS = ("src/task_vectors/tasks/lexical.py", "src/task_vectors/tasks/families/catalog.py")


def source_digest(experiment: "Experiment", parameters: Mapping[str, object]) -> str:
    """A digest of every module of ours that the experiment imports and of the data that they name.

    What is chosen by a parameter counts where it is chosen, and Triton's kernels where there is a GPU to run them.
    """
    return _digest_of((_module_file(experiment.module), *experiment.rests_on(parameters)))


def rests_on(experiment: "Experiment", parameters: Mapping[str, object]) -> list[str]:
    """The files, relative to the project, whose contents the digest is made of."""
    return _files((_module_file(experiment.module), *experiment.rests_on(parameters)))


@functools.cache  # a process runs the code that it has imported; hundreds of records may ask
def _digest_of(sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in _files(sources):
        path = project_root() / name
        content = path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else b""  # run() says what is missing
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


@functools.cache
def _files(sources: tuple[str, ...]) -> list[str]:
    """The sources (modules, or files that are read) and what the modules rest on."""
    root = project_root()
    modules = [name for name in sources if name.endswith(".py")]
    found = {*sources, *dependencies(*modules, root=root, choosers=CHOOSERS)}
    return sorted(
        name for name in found if not name.startswith((RECORDS.as_posix(), *BOOKKEEPING)) and _runs_here(name)
    )


def _runs_here(name: str) -> bool:
    import torch

    return not name.endswith("/triton.py") or torch.cuda.is_available()


def _module_file(module: str) -> str:
    file = f"src/{module.replace('.', '/')}"
    return f"{file}.py" if (project_root() / f"{file}.py").is_file() else f"{file}/__init__.py"
