"""The task families by name."""

from collections.abc import Mapping

from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.families.family import TaskFamily
from task_vectors.tasks.families.pos import pos_tagging, written_sentences

FAMILIES = {"pos": pos_tagging, "written": written_sentences, "bitwise": bitwise_arithmetic}


def get_family(name: str, options: Mapping[str, object]) -> TaskFamily:
    """The family of this name; options are what its function takes. ValueError for an unknown name."""
    if name not in FAMILIES:
        raise ValueError(f"unknown task family {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name](**options)
