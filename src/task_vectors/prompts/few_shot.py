"""Few-shot prompts: templates, and sampling by pair with disjoint pools.

A prompt is n demonstrations, one a line, and a query that ends at the arrow:

    Example:cat → cats
    Example:dog →

The state at the last arrow is where a task vector is read and put (Hendel et al. 2023; Dong et al. 2026).
"""

import zlib
from dataclasses import dataclass

import numpy as np

from task_vectors.tasks.task import Task

DEFAULT_TEMPLATE = "Example:{x} → {y}"
TERMINATOR = "\n"  # what ends a demonstration, and so an answer
POOLS = ("demonstrations", "vector", "selection", "test")
Pair = tuple[str, str]


@dataclass(frozen=True)
class Prompts:
    """B few-shot prompts; entry i of every tuple belongs to prompt i.

    Prompts with the same number in `prefix` have the same demonstrations. `vector_texts[prefix]` is a prompt with
    those demonstrations that ends in another query, from a pool of its own: a task vector is read there.
    """

    texts: tuple[str, ...]  #: each ends at the arrow of its query
    queries: tuple[str, ...]  #: x of each query
    answers: tuple[str, ...]  #: y of each query
    demos: tuple[tuple[Pair, ...], ...]  #: (x, y) of each demonstration
    prefix: tuple[int, ...]  #: the number of its set of demonstrations
    groups: tuple[int, ...]  #: of the query's pair, as in `Task`
    parts: tuple[int, ...]  #: of the query's pair, as in `Task`
    vector_texts: tuple[str, ...]  #: one a prefix
    vector_pairs: tuple[Pair, ...]  #: the other query of each prefix
    vector_parts: tuple[int, ...]  #: of those pairs
    template: str  #: what a demonstration looks like

    @property
    def completions(self) -> list[str]:
        """What follows the arrow of each prompt if it is answered right, such as " cats", with its space."""
        return [completion(self.template, answer) for answer in self.answers]

    @property
    def zero_shot_texts(self) -> list[str]:
        """The queries without their demonstrations."""
        return [render(self.template, (), query) for query in self.queries]


def render(template: str, demos: tuple[Pair, ...], query: str) -> str:
    """The text of a prompt: demonstrations, then the query up to the arrow."""
    head, _ = _split_template(template)
    lines = [template.format(x=x, y=y) + TERMINATOR for x, y in demos]
    return "".join(lines) + head.format(x=query)


def completion(template: str, answer: str) -> str:
    """What the template puts after the arrow: " cats"."""
    _, gap = _split_template(template)
    return gap + answer


def _split_template(template: str) -> tuple[str, str]:
    head, marker, tail = template.partition("{y}")
    if head.count("{x}") != 1 or not marker or tail or set("{}") & set(head.replace("{x}", "")):
        raise ValueError(f"a template has {{x}} once and ends in {{y}}, like {DEFAULT_TEMPLATE!r}; got {template!r}")
    # The space before the answer belongs to the answer's first token.
    return head.rstrip(" "), head[len(head.rstrip(" ")) :]


def few_shot_prompts(
    task: Task,
    n_demos: int,
    n_prompts: int,
    seed: int,
    template: str = DEFAULT_TEMPLATE,
    *,
    queries_per_prefix: int = 1,
    pool: str = "test",
) -> Prompts:
    """Sample prompts; the pools that one seed makes share no pair, and no pair of a group lands in two of them.

    Demonstrations, queries of vector prompts, and test (or layer-selection) queries come from the pools of
    `split(task, n_demos, seed)`. Demonstrations of a prompt are distinct pairs, equally many of each part of the task.

    Args:
        task: where the pairs come from.
        n_demos: demonstrations in each prompt, N.
        n_prompts: how many, B.
        seed: of the pools and of everything that is drawn; the same seed gives the same prompts on every machine.
        template: a demonstration, with {x} once and {y} at its end; the prompt ends where y would begin.
        queries_per_prefix: prompts that share one set of demonstrations; it must divide n_prompts.
        pool: where the queries come from, "test" or "selection".

    Raises:
        ValueError: the task has too few pairs for n_demos (see `max_demos`), or an argument is out of range.
    """
    if pool not in ("test", "selection"):
        raise ValueError(f"queries come from the pool 'test' or 'selection', not {pool!r}")
    if n_demos < 0 or n_prompts < 1 or n_prompts % queries_per_prefix:
        raise ValueError(
            f"n_demos={n_demos} must be 0 or more, and n_prompts={n_prompts} a multiple of {queries_per_prefix=}"
        )
    pools = split(task, n_demos, seed)
    rng = _generator(task, n_demos, seed, pool)
    n_prefixes = n_prompts // queries_per_prefix
    queries = _deal(task, pools[pool], n_prompts, rng)
    sources = _deal(task, pools["vector"], n_prefixes, rng)
    demos = [tuple(task.pairs[i] for i in _demonstrations(task, pools, n_demos, rng)) for _ in range(n_prefixes)]
    prefix = [i // queries_per_prefix for i in range(n_prompts)]
    return Prompts(
        texts=tuple(render(template, demos[j], task.pairs[i][0]) for j, i in zip(prefix, queries, strict=True)),
        queries=tuple(task.pairs[i][0] for i in queries),
        answers=tuple(task.pairs[i][1] for i in queries),
        demos=tuple(demos[j] for j in prefix),
        prefix=tuple(prefix),
        groups=tuple(task.groups[i] for i in queries),
        parts=tuple(task.parts[i] for i in queries),
        vector_texts=tuple(render(template, d, task.pairs[i][0]) for d, i in zip(demos, sources, strict=True)),
        vector_pairs=tuple(task.pairs[i] for i in sources),
        vector_parts=tuple(task.parts[i] for i in sources),
        template=template,
    )


def split(task: Task, n_demos: int, seed: int) -> dict[str, list[int]]:
    """Indices of the task's pairs in four pools without a common pair or mate.

    Layer-selection queries are the same for all seeds: a layer chosen on them serves every seed, and none of them is
    ever a test query. The other pools are drawn anew for each seed. Each pool has all parts of the task.
    """
    strata = _strata(task)
    pools = {name: [] for name in POOLS}
    for groups in strata.values():
        sizes = _pool_sizes(len(groups), -(-n_demos // len(strata)))
        if sizes is None:
            raise ValueError(
                f"{task.name} has {len(set(task.groups))} pairs, too few for {n_demos} demonstrations and disjoint "
                f"queries: at most {max_demos(task)}"
            )
        held_out = _generator(task, n_demos, 0, "selection pool").permutation(groups)
        n_selection = sizes["selection"]
        order = _generator(task, n_demos, seed, "split").permutation(held_out[n_selection:])
        start, dealt = 0, {"selection": set(held_out[:n_selection].tolist())}
        for name in ("demonstrations", "vector", "test"):
            dealt[name] = set(order[start : start + sizes[name]].tolist())
            start += sizes[name]
        for name, chosen in dealt.items():
            pools[name] += [i for i, group in enumerate(task.groups) if group in chosen]
    return pools


def max_demos(task: Task) -> int:
    """The largest number of demonstrations for which the task's pairs still give four disjoint pools."""
    strata = _strata(task)
    fitting = [
        n
        for n in range(len(task.pairs))
        if all(_pool_sizes(len(groups), -(-n // len(strata))) for groups in strata.values())
    ]
    if not fitting:
        raise ValueError(f"{task.name} has {len(set(task.groups))} pairs, too few for four disjoint pools of any size")
    return fitting[-1]


def _strata(task: Task) -> dict[tuple[int, ...], list[int]]:
    """Groups by the parts that their pairs belong to."""
    parts: dict[int, list[int]] = {}
    for group, part in zip(task.groups, task.parts, strict=True):
        parts.setdefault(group, []).append(part)
    strata: dict[tuple[int, ...], list[int]] = {}
    for group, kinds in parts.items():
        strata.setdefault(tuple(sorted(kinds)), []).append(group)
    return strata


def _pool_sizes(n_groups: int, n_demos: int) -> dict[str, int] | None:
    """Groups in each pool; two more demonstrations than a prompt holds, so that prompts differ. None: too few."""
    demos = max(n_demos + 2, round(0.4 * n_groups))
    vector = max(2, round(n_groups / 15))
    rest = n_groups - demos - vector
    if rest < 6:
        return None
    return {"demonstrations": demos, "vector": vector, "selection": rest // 3, "test": rest - rest // 3}


def _demonstrations(task: Task, pools: dict[str, list[int]], n_demos: int, rng: np.random.Generator) -> list[int]:
    """Pairs of distinct groups, the task's parts in equal numbers, in random order."""
    chosen: list[int] = []
    for part in _balanced(task, n_demos, rng):
        used = {task.groups[i] for i in chosen}
        free = [i for i in pools["demonstrations"] if task.parts[i] == part and task.groups[i] not in used]
        chosen.append(int(rng.choice(free)))
    return chosen


def _deal(task: Task, pool: list[int], n: int, rng: np.random.Generator) -> list[int]:
    """n pairs of the pool, the parts in equal numbers; a pair comes again only when all of its part have been dealt."""
    decks: dict[int, list[int]] = {part: [] for part in set(task.parts)}
    dealt = []
    for part in _balanced(task, n, rng):
        if not decks[part]:
            decks[part] = rng.permutation([i for i in pool if task.parts[i] == part]).tolist()
        dealt.append(decks[part].pop())
    return dealt


def _balanced(task: Task, n: int, rng: np.random.Generator) -> list[int]:
    parts = sorted(set(task.parts))
    turns = -(-n // len(parts))
    rounds = [rng.permutation(parts) for _ in range(turns)]
    return rng.permutation(np.concatenate(rounds)[:n]).tolist() if n else []


def _generator(task: Task, n_demos: int, seed: int, purpose: str) -> np.random.Generator:
    """A stream of its own for each purpose, the same on every machine."""
    return np.random.default_rng([seed, n_demos, zlib.crc32(f"{task.name}/{purpose}".encode())])
