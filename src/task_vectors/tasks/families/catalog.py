"""The task families by name, each imported when it is asked for: no result rests on a family that it does not use."""

from collections.abc import Mapping
from importlib import import_module

from task_vectors.tasks.families.family import TaskFamily

FAMILIES = {
    "pos": ("task_vectors.tasks.families.pos", "pos_tagging"),
    "written": ("task_vectors.tasks.families.pos", "written_sentences"),
    "bitwise": ("task_vectors.tasks.families.bitwise", "bitwise_arithmetic"),
}


def get_family(name: str, options: Mapping[str, object]) -> TaskFamily:
    """The family of this name; options are what its function takes. ValueError for an unknown name."""
    module, function = _find(name)
    return getattr(import_module(module), function)(**options)


def family_file(name: str) -> str:
    """The module that a family comes from, as a path in the project."""
    return f"src/{_find(name)[0].replace('.', '/')}.py"


def _find(name: str) -> tuple[str, str]:
    if name not in FAMILIES:
        raise ValueError(f"unknown task family {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name]
