"""What a bijection is compared with: a task in two halves, and cycles of three, the next higher permutations."""

from collections import Counter

from task_vectors.tasks.task import Task, inverse_name


def halves(task: Task) -> tuple[Task, Task]:
    """Every second group of a task's pairs, and the others: two tasks of its name without a common pair or mate.

    The union of the halves is the task itself on words of two kinds; that of one half and the other's inverse holds
    both directions of a bijection, each from words of its own.

    Raises:
        ValueError: all pairs are mates.
    """
    first = set(sorted(set(task.groups))[::2])
    return (
        _restricted(task, [i for i, group in enumerate(task.groups) if group in first]),
        _restricted(task, [i for i, group in enumerate(task.groups) if group not in first]),
    )


def cycle_steps(first: Task, second: Task) -> tuple[Task, Task, Task]:
    """X → Y, Y → Z and Z → X for the tasks X → Y and X → Z, from the rows (x, y, z) of each x that both ask.

    Rows with a word that stands in another row or column as well are dropped: such a query would not tell its step.
    Row i is pair i of each step.

    Raises:
        ValueError: a task has parts, or mates, which the rows might not keep together; or no row is left.
    """
    for task in (first, second):
        if len(set(task.parts)) > 1 or len(set(task.groups)) < len(task.pairs):
            raise ValueError(f"task {task.name!r} has parts or mates, and a cycle is of one-way tasks without mates")
    last = dict(second.pairs)
    rows = [(x, y, last[x]) for x, y in first.pairs if x in last]
    places = Counter(word for row in rows for word in row)
    rows = [row for row in rows if all(places[word] == 1 for word in row)]
    if not rows:
        raise ValueError(
            f"no cycle of {first.name!r} and {second.name!r}: no input of both has words of its own in all three places"
        )
    middle = f"{_target(first.name)}_to_{_target(second.name)}"
    names = (first.name, middle, inverse_name(second.name))
    return tuple(
        Task(name, first.category, tuple((row[i], row[(i + 1) % 3]) for row in rows)) for i, name in enumerate(names)
    )


def cycle(first: Task, second: Task) -> Task:
    """The three of `cycle_steps` as one task, a permutation of order 3: each step is a part, and each row a group.

    Raises:
        ValueError: as `cycle_steps`.
    """
    steps = cycle_steps(first, second)
    n = len(steps[0].pairs)
    return Task(
        name=f"{first.name}_to_{_target(second.name)}",
        category="cycle",
        pairs=tuple(pair for step in steps for pair in step.pairs),
        parts=tuple(part for part in range(3) for _ in range(n)),
        groups=tuple(range(n)) * 3,
    )


def _target(name: str) -> str:
    """What a name says of Y: `gerund` for `present_to_gerund`."""
    return name.rpartition("_to_")[2]


def _restricted(task: Task, kept: list[int]) -> Task:
    pairs, parts, groups = (tuple(column[i] for i in kept) for column in (task.pairs, task.parts, task.groups))
    return Task(task.name, task.category, pairs, parts, groups)
