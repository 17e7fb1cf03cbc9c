"""Prompts are sampled by pair: what is asked is never among what is shown, nor where the vector was read."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.prompts.few_shot import POOLS, completion, few_shot_prompts, max_demos, render, split
from task_vectors.tasks.catalog import get_task, list_tasks
from task_vectors.tasks.permutations import cycle, halves
from task_vectors.tasks.task import Task, bijection, union


def one_way(n: int, name: str = "count_to_word", prefix: str = "x") -> Task:
    return Task(name, "test", tuple((f"{prefix}{i}", f"{prefix.upper()}{i}") for i in range(n)))


def couples(n: int) -> Task:
    """A symmetric relation: each couple is asked both ways, in one part and one group."""
    pairs = tuple((f"x{i}", f"y{i}") for i in range(n))
    return Task("opposite", "test", pairs + tuple((y, x) for x, y in pairs), groups=tuple(range(n)) * 2)


def ring(n: int) -> Task:
    """A cycle of n rows."""
    return cycle(
        one_way(n, "count_to_word"), Task("count_to_sign", "test", tuple((f"x{i}", f"*{i}") for i in range(n)))
    )


SHAPES = {
    "one way": one_way,
    "bijection": lambda n: bijection(one_way(n)),
    "couples": couples,
    "union": lambda n: union(one_way(n), one_way(n + 3, "letter_to_sound", "z")),
    "halves": lambda n: union(*halves(one_way(2 * n))),
    "cycle": ring,
}
REAL = [get_task(name) for name in list_tasks()] + [
    union(get_task("singular_to_plural"), get_task("country_to_capital"))
]
seeds = st.integers(0, 2**32)


@st.composite
def tasks(draw) -> Task:
    """A real task, or a made-up one large enough for at least one demonstration."""
    if draw(st.booleans()):
        return draw(st.sampled_from(REAL))
    return SHAPES[draw(st.sampled_from(sorted(SHAPES)))](draw(st.integers(13, 80)))


@st.composite
def settings_of_prompts(draw) -> dict:
    """Arguments of few_shot_prompts that are in range."""
    task = draw(tasks())
    per_prefix = draw(st.integers(1, 4))
    return {
        "task": task,
        "n_demos": draw(st.integers(0, max_demos(task))),
        "n_prompts": per_prefix * draw(st.integers(1, 8)),
        "seed": draw(seeds),
        "queries_per_prefix": per_prefix,
        "pool": draw(st.sampled_from(["test", "selection"])),
    }


def groups_of(task: Task, pairs) -> list[int]:
    index = {pair: group for pair, group in zip(task.pairs, task.groups, strict=True)}
    return [index[pair] for pair in pairs]


def parts_of(task: Task, pairs) -> list[int]:
    index = {pair: part for pair, part in zip(task.pairs, task.parts, strict=True)}
    return [index[pair] for pair in pairs]


def spread(numbers) -> int:
    return max(numbers) - min(numbers)


@given(st.data())
def test_pools_share_no_pair_and_no_group(data):
    task = data.draw(tasks())
    n_demos = data.draw(st.integers(0, max_demos(task)))
    pools = split(task, n_demos, data.draw(seeds))
    assert sorted(pools) == sorted(POOLS)
    dealt = [i for pool in pools.values() for i in pool]
    assert len(dealt) == len(set(dealt))
    owners = {(task.groups[i], name) for name, indices in pools.items() for i in indices}
    assert len(owners) == len({group for group, _ in owners})
    for indices in pools.values():
        assert {task.parts[i] for i in indices} == set(task.parts)


@given(st.data())
def test_every_pair_is_in_a_pool(data):
    task = data.draw(tasks())
    pools = split(task, data.draw(st.integers(0, max_demos(task))), data.draw(seeds))
    assert sorted(i for pool in pools.values() for i in pool) == list(range(len(task.pairs)))


@given(st.data(), seeds, seeds)
def test_selection_queries_are_the_same_for_all_seeds(data, one, other):
    """So a layer chosen on them serves every seed, and no seed tests one of them."""
    task = data.draw(tasks())
    n_demos = data.draw(st.integers(0, max_demos(task)))
    first, second = split(task, n_demos, one), split(task, n_demos, other)
    assert first["selection"] == second["selection"]
    held_out = {task.groups[i] for i in first["selection"]}
    assert not held_out & {task.groups[i] for i in second["test"]}


def test_the_other_pools_are_drawn_anew_for_each_seed():
    task = get_task("singular_to_plural")
    for name in ("demonstrations", "vector", "test"):
        assert len({tuple(split(task, 10, seed)[name]) for seed in range(10)}) > 5


@given(settings_of_prompts())
def test_neither_the_query_nor_its_mate_is_shown(arguments):
    task, prompts = arguments["task"], few_shot_prompts(**arguments)
    for i, (query, answer) in enumerate(zip(prompts.queries, prompts.answers, strict=True)):
        [query_group] = groups_of(task, [(query, answer)])
        shown = groups_of(task, prompts.demos[i])
        source = groups_of(task, [prompts.vector_pairs[prompts.prefix[i]]])
        assert prompts.groups[i] == query_group
        assert query_group not in shown + source
        assert not set(source) & set(shown)
        # Said without groups: the pair is not there in either direction.
        pairs = {*prompts.demos[i], prompts.vector_pairs[prompts.prefix[i]]}
        assert not {(query, answer), (answer, query)} & pairs


@given(settings_of_prompts())
def test_demonstrations_are_distinct_and_balanced(arguments):
    task, n_demos = arguments["task"], arguments["n_demos"]
    prompts = few_shot_prompts(**arguments)
    for demos in prompts.demos:
        assert len(demos) == n_demos == len(set(groups_of(task, demos)))
        shown = parts_of(task, demos)
        assert spread([shown.count(part) for part in set(task.parts)]) <= 1


@given(settings_of_prompts())
def test_queries_are_balanced_and_cover_their_pool_evenly(arguments):
    """The parts come in equal numbers, and no pair comes again before all pairs of its part have come."""
    task, prompts = arguments["task"], few_shot_prompts(**arguments)
    pool = split(task, arguments["n_demos"], arguments["seed"])[arguments["pool"]]
    asked = Counter(zip(prompts.queries, prompts.answers, strict=True))
    assert spread([prompts.parts.count(part) for part in set(task.parts)]) <= 1
    for part in set(task.parts):
        assert spread([asked[task.pairs[i]] for i in pool if task.parts[i] == part]) <= 1
    assert asked.total() == sum(asked[task.pairs[i]] for i in pool)  # none comes from elsewhere


@given(settings_of_prompts())
def test_what_is_written_is_what_the_fields_say(arguments):
    task, prompts = arguments["task"], few_shot_prompts(**arguments)
    n, per_prefix = arguments["n_prompts"], arguments["queries_per_prefix"]
    assert prompts.prefix == tuple(i // per_prefix for i in range(n))
    for i, text in enumerate(prompts.texts):
        lines = [f"Example:{x} → {y}" for x, y in prompts.demos[i]] + [f"Example:{prompts.queries[i]} →"]
        assert text == "\n".join(lines)
        assert prompts.zero_shot_texts[i] == lines[-1]
        assert prompts.completions[i] == f" {prompts.answers[i]}"
        # The vector is read behind the very same demonstrations.
        source, _ = prompts.vector_pairs[prompts.prefix[i]]
        assert prompts.vector_texts[prompts.prefix[i]] == "\n".join([*lines[:-1], f"Example:{source} →"])
    assert list(prompts.parts) == parts_of(task, zip(prompts.queries, prompts.answers, strict=True))
    assert list(prompts.vector_parts) == parts_of(task, prompts.vector_pairs)


BIJECTIONS = [name for name in list_tasks() if "_and_" in name]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", BIJECTIONS)
def test_in_bijections_no_form_of_the_query_is_shown(name, seed):
    """By words and not by groups: neither the query nor its answer occurs on any line before it."""
    task = get_task(name)
    n_demos = min(10, max_demos(task))
    prompts = few_shot_prompts(task, n_demos, 24, seed, queries_per_prefix=4)
    for i, (query, answer) in enumerate(zip(prompts.queries, prompts.answers, strict=True)):
        words = {word for pair in prompts.demos[i] for word in pair}
        assert not words & {query, answer}
        vector_pair = prompts.vector_pairs[prompts.prefix[i]]
        assert not {query, answer} & set(vector_pair)
        assert not words & set(vector_pair)
    assert Counter(prompts.parts) == {0: 12, 1: 12}


@pytest.mark.parametrize("task", REAL, ids=lambda task: task.name)
def test_max_demos_is_tight(task):
    most = max_demos(task)
    assert most >= 1
    few_shot_prompts(task, most, 4, 0)
    with pytest.raises(ValueError, match=f"too few for {most + 1} demonstrations .* at most {most}$"):
        few_shot_prompts(task, most + 1, 4, 0)


@given(st.sampled_from(sorted(SHAPES)), st.integers(13, 40))
def test_max_demos_is_tight_at_every_size(shape, n):
    task = SHAPES[shape](n)
    few_shot_prompts(task, max_demos(task), 2, 0)
    with pytest.raises(ValueError, match="too few"):
        few_shot_prompts(task, max_demos(task) + 1, 2, 0)


@pytest.mark.parametrize("call", [max_demos, lambda task: few_shot_prompts(task, 0, 4, 0)])
def test_a_task_that_is_too_small_is_told(call):
    with pytest.raises(ValueError, match="count_to_word has 12 pairs, too few for four disjoint pools"):
        call(one_way(12))


@given(settings_of_prompts())
def test_the_same_seed_gives_the_same_prompts(arguments):
    assert few_shot_prompts(**arguments) == few_shot_prompts(**arguments)


@pytest.mark.parametrize("pool", ["test", "selection"])
@pytest.mark.parametrize("change", [{"seed": 1}, {"n_demos": 6}])
def test_another_setting_gives_other_prompts(pool, change):
    base = {"task": get_task("english_to_french"), "n_demos": 5, "n_prompts": 12, "seed": 0, "pool": pool}
    one, other = few_shot_prompts(**base), few_shot_prompts(**{**base, **change})
    assert one.queries != other.queries
    assert not set(one.demos) & set(other.demos)


PRINT_PROMPTS = """
import json
from task_vectors.prompts.few_shot import few_shot_prompts
from task_vectors.tasks.catalog import get_task
names = ["english_and_french", "antonym", "copy"]
print(json.dumps([few_shot_prompts(get_task(name), 4, 12, 7, queries_per_prefix=3).texts for name in names]))
"""


def test_prompts_do_not_depend_on_the_hash_seed():
    """Sets of words iterate in another order in another process."""
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    made = subprocess.run([sys.executable, "-c", PRINT_PROMPTS], env=environment, capture_output=True, check=True)
    here = [
        list(few_shot_prompts(get_task(name), 4, 12, 7, queries_per_prefix=3).texts)
        for name in ["english_and_french", "antonym", "copy"]
    ]
    assert json.loads(made.stdout) == here


DEMOS = (("cat", "cats"), ("dog", "dogs"))


@pytest.mark.parametrize(
    ("template", "text", "answer"),
    [
        ("Example:{x} → {y}", "Example:cat → cats\nExample:dog → dogs\nExample:hen →", " hens"),
        ("{x} -> {y}", "cat -> cats\ndog -> dogs\nhen ->", " hens"),
        ("{x}:{y}", "cat:cats\ndog:dogs\nhen:", "hens"),
        ("Q: {x}? A:  {y}", "Q: cat? A:  cats\nQ: dog? A:  dogs\nQ: hen? A:", "  hens"),
    ],
)
def test_render_and_completion(template, text, answer):
    assert render(template, DEMOS, "hen") == text
    assert completion(template, "hens") == answer
    # Prompt and answer together are one more demonstration.
    assert text + answer + "\n" == render(template, (*DEMOS, ("hen", "hens")), "").removesuffix(
        render(template, (), "")
    )


def test_words_with_braces_stay_as_they_are():
    assert render("{x} → {y}", (("{x}", "{y}"),), "{0}") == "{x} → {y}\n{0} →"


@pytest.mark.parametrize(
    "template",
    ["", "{x}", "{y}", "{y} {x}", "{x} → {y}.", "{x} {x} → {y}", "{x} → {y} {y}", "{x} {z} → {y}", "{x} } {y}"],
)
def test_a_template_that_does_not_fit_is_told(template):
    with pytest.raises(ValueError, match=r"a template has \{x\} once and ends in \{y\}.*; got "):
        few_shot_prompts(one_way(40), 2, 4, 0, template)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool": "demonstrations"}, "'test' or 'selection', not 'demonstrations'"),
        ({"n_demos": -1}, "n_demos=-1"),
        ({"n_prompts": 0}, "n_prompts=0"),
        ({"n_prompts": 10, "queries_per_prefix": 4}, "a multiple of queries_per_prefix=4"),
    ],
)
def test_arguments_out_of_range_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        few_shot_prompts(**{"task": one_way(40), "n_demos": 2, "n_prompts": 8, "seed": 0, **arguments})
