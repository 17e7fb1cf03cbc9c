"""The two task families of Han et al. (2025): six tasks each on the same inputs, and Null."""

from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.families.family import TaskFamily
from task_vectors.tasks.families.pos import pos_tagging, written_sentences

__all__ = ["TaskFamily", "bitwise_arithmetic", "pos_tagging", "written_sentences"]
