"""In-context learning tasks of Dong et al. (2026): pairs (x, y), their inverses and mixtures."""

from task_vectors.tasks.catalog import get_task, list_tasks
from task_vectors.tasks.task import Task, bijection, union

__all__ = ["Task", "bijection", "get_task", "list_tasks", "union"]
