"""A task is a table of pairs (x, y); inverses, bijections and unions are derived from tables, never stored."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

IRREGULAR_INVERSES = {
    "next_letter": "prev_letter",
    "prev_letter": "next_letter",
    "to_upper": "to_lower",
    "to_lower": "to_upper",
    "antonym": "antonym",
}


@dataclass(frozen=True)
class Task:
    """Pairs (x, y) of one in-context learning task.

    parts[i] says which one-way mapping pair i belongs to: all 0 in a one-way task, 0 or 1 in a bijection or a union.
    Pairs with the same number in `groups` are mates: a prompt never holds two of them, and a split keeps them together.
    Left empty, `parts` is all 0 and `groups` gives each pair a group of its own.
    """

    name: str  #: such as "present_to_gerund"
    category: str  #: one that `list_tasks` knows, or "union"
    pairs: tuple[tuple[str, str], ...]  #: (x, y), each x once
    parts: tuple[int, ...] = ()  #: the one-way mapping of each pair
    groups: tuple[int, ...] = ()  #: the number that a pair shares with its mates

    def __post_init__(self):
        n = len(self.pairs)
        # The dataclass is frozen; defaults that depend on another field can only be set this way.
        object.__setattr__(self, "parts", self.parts or (0,) * n)
        object.__setattr__(self, "groups", self.groups or tuple(range(n)))
        if n == 0:
            raise ValueError(f"task {self.name!r} has no pairs: give at least one (x, y)")
        for field in ("parts", "groups"):
            if len(getattr(self, field)) != n:
                raise ValueError(
                    f"task {self.name!r} has {n} pairs but {len(getattr(self, field))} {field}: give one for each pair"
                )
        if repeated := _repeated(x for x, _ in self.pairs):
            raise ValueError(
                f"task {self.name!r} asks {_quoted(repeated)} more than once: each x needs exactly one answer"
            )

    def inverse(self) -> "Task":
        """The task y → x, in the same order and with the same groups.

        Raises:
            ValueError: an answer is that of several pairs, or the task has two parts.
        """
        _require_one_way(self, "inverted")
        if repeated := _repeated(y for _, y in self.pairs):
            raise ValueError(
                f"task {self.name!r} cannot be inverted: {_quoted(repeated)} is the answer of several pairs, "
                "and an inverse needs distinct answers"
            )
        reverse = tuple((y, x) for x, y in self.pairs)
        return Task(inverse_name(self.name), self.category, reverse, self.parts, self.groups)


def bijection(task: Task) -> Task:
    """X → Y (part 0) and Y → X (part 1) as one task; a pair and its reverse share a group.

    What a prompt asks must show in the query itself, so an input of X may not be an output as well (Dong et al. 2026).

    Raises:
        ValueError: a word is both input and output, or the task cannot be inverted.
    """
    inverse = task.inverse()
    if shared := sorted({x for x, _ in task.pairs} & {y for _, y in task.pairs}):
        raise ValueError(
            f"no bijection of task {task.name!r}: {_quoted(shared)} occurs as input and as output, "
            "and a query must tell its direction"
        )
    n = len(task.pairs)
    return Task(
        name=bijection_name(task.name),
        category="bijection",
        pairs=task.pairs + inverse.pairs,
        parts=(0,) * n + (1,) * n,
        groups=task.groups * 2,
    )


def union(a: Task, b: Task) -> Task:
    """Two unrelated one-way tasks as one: a's pairs are part 0, b's pairs part 1.

    A pair whose input occurs among the other task's inputs or outputs is dropped, on both sides: such a query would
    not tell which task it belongs to. The union can therefore be smaller than the sum of the two tasks. It mixes two
    mappings as a bijection does, but neither is the other's inverse.

    Raises:
        ValueError: a task has two parts, or nothing is left of one.
    """
    _require_one_way(a, "put into a union")
    _require_one_way(b, "put into a union")
    kept_a, kept_b = _without_words_of(a, b), _without_words_of(b, a)
    for task, kept, other in ((a, kept_a, b), (b, kept_b, a)):
        if not kept:
            raise ValueError(
                f"no union of {a.name!r} and {b.name!r}: every input of {task.name!r} is a word of {other.name!r}; "
                "choose tasks with other words"
            )
    offset = max(a.groups) + 1 - min(b.groups)
    return Task(
        name=f"{a.name}+{b.name}",
        category="union",
        pairs=tuple(a.pairs[i] for i in kept_a) + tuple(b.pairs[i] for i in kept_b),
        parts=(0,) * len(kept_a) + (1,) * len(kept_b),
        groups=tuple(a.groups[i] for i in kept_a) + tuple(b.groups[i] + offset for i in kept_b),
    )


def inverse_name(name: str) -> str:
    """`french_to_english` for `english_to_french`; applied twice it gives the name back."""
    if name in IRREGULAR_INVERSES:
        return IRREGULAR_INVERSES[name]
    if name.count("_to_") == 1:
        return "_to_".join(reversed(name.split("_to_")))
    return name.removesuffix("_inverse") if name.endswith("_inverse") else f"{name}_inverse"


def bijection_name(name: str) -> str:
    """`english_and_french` for `english_to_french`, `upper_and_lower` for `to_upper`."""
    if name.count("_to_") == 1:
        return name.replace("_to_", "_and_")
    return f"{name.removeprefix('to_')}_and_{inverse_name(name).removeprefix('to_')}"


def _require_one_way(task: Task, done: str) -> None:
    if len(set(task.parts)) > 1:
        raise ValueError(f"task {task.name!r} has two parts and cannot be {done}: start from a one-way task")


def _without_words_of(task: Task, other: Task) -> list[int]:
    words = {word for pair in other.pairs for word in pair}
    return [i for i, (x, _) in enumerate(task.pairs) if x not in words]


def _repeated(words: Iterable[str]) -> list[str]:
    return [word for word, count in Counter(words).items() if count > 1]


def _quoted(words: list[str]) -> str:
    shown = ", ".join(repr(word) for word in words[:3])
    return f"{shown} and {len(words) - 3} more" if len(words) > 3 else shown
