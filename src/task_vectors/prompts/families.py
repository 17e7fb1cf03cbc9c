"""Few-shot prompts of a task family: every task is asked about the same inputs, and only the answers differ."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from task_vectors.prompts.few_shot import TERMINATOR, Pair, completion, render
from task_vectors.tasks.families.family import TaskFamily

CONDITIONS = ("plain", "permuted", "told", "words alone")


@dataclass(frozen=True)
class FamilyPrompts:
    """N = K · B prompts, B of each of K tasks, task after task; entry i of every tuple belongs to prompt i.

    Prompts of one group share the query and the demonstrations' inputs; there is one of each task in it.
    """

    texts: tuple[str, ...]  #: each ends at the arrow of its query
    completions: tuple[str, ...]  #: what follows the text if the prompt is answered right
    queries: tuple[str, ...]  #: x of each query
    demos: tuple[tuple[Pair, ...], ...]  #: pairs (x, y) of each prompt
    labels: Tensor  #: [N] the task, as its place in family.tasks
    groups: Tensor  #: [N] prompts about the same inputs have the same number


def family_prompts(
    family: TaskFamily,
    n_demos: int,
    n_prompts: int,
    seed: int,
    *,
    pool: str = "test",
    condition: str = "plain",
) -> FamilyPrompts:
    """n_prompts prompts of each task of the family (Han et al. 2025, section 4).

    Queries come from the family's part `pool`, demonstrations from its part "demonstrations": they share no input.

    Args:
        family: `pos_tagging()` or `bitwise_arithmetic()`.
        n_demos: demonstrations in each prompt, 0 or more.
        n_prompts: of each of the K tasks, B.
        seed: of all inputs; those of more prompts begin with those of fewer.
        pool: "train", "selection" or "test".
        condition: one of CONDITIONS. "permuted": in each prompt the demonstrations' answers change places, none of them
            stays, so that what answers look like is kept and what they have to do with their inputs is lost. "told":
            the prompt begins with the task in words. "words alone": the same, and all demonstrations are Null's.

    Raises:
        ValueError: an unknown condition, too few inputs, or too few demonstrations to permute.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}; there are: {', '.join(CONDITIONS)}")
    if n_demos < 0 or n_prompts < 1:
        raise ValueError(f"n_demos must be 0 or more and n_prompts 1 or more; got {n_demos} and {n_prompts}")
    if condition == "permuted" and n_demos < 2:
        raise ValueError(f"answers can change places among at least two demonstrations; got n_demos = {n_demos}")
    rows = []
    for label, task in enumerate(family.tasks):
        heading = family.describe(task) + TERMINATOR if condition in ("told", "words alone") else ""
        shown = family.tasks[-1] if condition == "words alone" else task
        for group, (query, answer) in enumerate(family.sample(task, n_prompts, seed, pool)):
            # A seed of its own for each prompt, the same for all tasks.
            own = seed * 100_000 + group
            demos = family.sample(shown, n_demos, own, "demonstrations") if n_demos else []
            demos = tuple(_rotated(demos, own) if condition == "permuted" else demos)
            text = heading + render(family.template, demos, query)
            rows.append((text, completion(family.template, answer), query, demos, label, group))
    texts, completions, queries, demos, labels, groups = zip(*rows, strict=True)
    return FamilyPrompts(texts, completions, queries, demos, torch.tensor(labels), torch.tensor(groups))


def _rotated(demos: list[Pair], seed: int) -> list[Pair]:
    """The answers go round one place, in a random order of the demonstrations."""
    order = np.random.default_rng(seed).permutation(len(demos))
    taken = dict(zip(order, np.roll(order, 1), strict=True))
    return [(x, demos[taken[i]][1]) for i, (x, _) in enumerate(demos)]
