"""What the two task families have in common: the same inputs for every task, in parts that share none."""

from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Iterator
from hashlib import blake2b
from itertools import accumulate, islice
from random import Random

NULL = "Null"
# How much of all inputs each part gets.
PARTS = {"train": 0.4, "demonstrations": 0.25, "selection": 0.1, "test": 0.25}
_ENDS = list(accumulate(PARTS.values()))[:-1]


def words(sentence: str) -> list[str]:
    """A sentence's words: what stands between single spaces. A no-break space is part of a word ("5 000")."""
    return sentence.split(" ")


class TaskFamily(ABC):
    """Six tasks on the same inputs, and Null, whose answers are random (Han et al. 2025).

    An input belongs to one part, decided by its hash, so parts share no input whatever the seeds. The inputs of
    (n, seed, part) are the same for every task and begin with those of a smaller n: only the answers tell tasks apart.

    Attributes:
        name: "pos" or "bitwise".
        template: what a demonstration looks like; a template as of `few_shot_prompts`.
        descriptions: task -> one sentence that names the task in words.
    """

    name: str
    template: str
    descriptions: dict[str, str]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The six names, then "Null"."""
        return tuple(self.descriptions)

    def describe(self, task: str) -> str:
        """One sentence that tells a reader what the answers of the task are."""
        self._require(task)
        return self.descriptions[task]

    def inputs(self, n: int, seed: int, part: str = "test") -> list[str]:
        """n distinct inputs of a part in random order.

        Raises:
            ValueError: there is no such part, or it has fewer inputs than n.
        """
        if part not in PARTS:
            raise ValueError(f"unknown part {part!r}: choose one of {', '.join(PARTS)}")
        candidates = self._candidates(Random(f"{self.name}/{part}/{seed}"))
        found = list(islice((x for x in candidates if self._part(x) == part), n))
        if len(found) < n:
            raise ValueError(f"the part {part!r} of the family {self.name!r} has {len(found)} inputs, too few for {n}")
        return found

    def answer(self, task: str, x: str, seed: int = 0) -> str:
        """The answer of a task to an input; that of Null is random, and the same for the same input and seed.

        Raises:
            ValueError: there is no such task, or x is no input of this family.
        """
        self._require(task)
        return (
            self._random_answer(x, Random(f"{self.name}/{NULL}/{seed}/{x}")) if task == NULL else self._solve(task, x)
        )

    def sample(self, task: str, n: int, seed: int, part: str = "test") -> list[tuple[str, str]]:
        """The pairs (x, y) of a task for n distinct inputs of a part; see `inputs` and `answer`."""
        self._require(task)
        return [(x, self.answer(task, x, seed)) for x in self.inputs(n, seed, part)]

    @abstractmethod
    def _candidates(self, rng: Random) -> Iterator[str]:
        """Distinct inputs of all parts in random order."""

    @abstractmethod
    def _solve(self, task: str, x: str) -> str: ...

    @abstractmethod
    def _random_answer(self, x: str, rng: Random) -> str: ...

    def _identity(self, x: str) -> str:
        """Inputs of one identity have the same answers and belong to the same part."""
        return x

    def _part(self, x: str) -> str:
        digest = blake2b(f"{self.name}/{self._identity(x)}".encode(), digest_size=8).digest()
        return list(PARTS)[bisect(_ENDS, int.from_bytes(digest) / 2**64)]

    def _require(self, task: str) -> None:
        if task not in self.descriptions:
            raise ValueError(
                f"unknown task {task!r} of the family {self.name!r}: choose one of {', '.join(self.tasks)}"
            )
