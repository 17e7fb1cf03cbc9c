"""In-context learning tasks: those of Dong et al. (2026), as pairs (x, y), and the families of Han et al. (2025)."""

from task_vectors.tasks.catalog import get_task, list_tasks
from task_vectors.tasks.families import TaskFamily, bitwise_arithmetic, pos_tagging
from task_vectors.tasks.task import Task, bijection, union

__all__ = ["Task", "TaskFamily", "bijection", "bitwise_arithmetic", "get_task", "list_tasks", "pos_tagging", "union"]
