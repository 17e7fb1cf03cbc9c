"""Tasks read from data/tasks/*.csv: one file holds one direction, everything else is derived from it."""

import csv

from task_vectors.paths import project_root
from task_vectors.tasks.task import Task

COLUMNS = ["x", "y", "source"]


def read_pairs(name: str, category: str) -> Task:
    """The one-way task x → y of data/tasks/`name`.csv, in file order."""
    return Task(name, category, tuple((row["x"], row["y"]) for row in read_rows(name)))


def read_couples(name: str, category: str) -> Task:
    """The task of a symmetric relation: each couple of data/tasks/`name`.csv is asked both ways and is one group.

    It is its own inverse and has one part, since both directions are the same mapping.
    """
    couples = tuple((row["x"], row["y"]) for row in read_rows(name))
    return Task(
        name,
        category,
        pairs=couples + tuple((y, x) for x, y in couples),
        groups=tuple(range(len(couples))) * 2,
    )


def table_of(name: str) -> str:
    """The file of a table, relative to the project."""
    return f"data/tasks/{name}.csv"


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of data/tasks/`name`.csv, each with x, y and source."""
    path = project_root() / table_of(name)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: restore it from the repository")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{path} has the columns {reader.fieldnames}; they must be {COLUMNS}")
        rows = []
        for row in reader:
            # DictReader files surplus cells under the key None and fills missing ones with None.
            if None in row or not all(row.values()):
                raise ValueError(f"{path}, line {reader.line_num}: a row is x, y and source, none of them empty")
            rows.append(row)
    return rows
