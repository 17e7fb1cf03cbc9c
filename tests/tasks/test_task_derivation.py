"""What is derived of a task holds for any task, not just for the committed ones."""

from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.tasks.permutations import cycle, cycle_steps, halves
from task_vectors.tasks.task import Task, bijection, union

WORDS = st.text("abcd", min_size=1, max_size=3)
NAMES = st.sampled_from(["left_to_right", "to_upper", "next_letter", "antonym", "plain", "plain_inverse"])


@st.composite
def invertible_tasks(draw):
    """One-way tasks with distinct answers, none of which is an input; some pairs are mates."""
    words = draw(st.lists(WORDS, min_size=2, max_size=40, unique=True))
    n = len(words) // 2
    groups = draw(st.lists(st.integers(0, n), min_size=n, max_size=n))
    pairs = tuple(zip(words[:n], words[n : 2 * n], strict=True))
    return Task(draw(NAMES), "linguistic", pairs, groups=tuple(groups))


@given(invertible_tasks())
def test_inverse_swaps_each_pair_and_twice_gives_the_task_back(task):
    inverse = task.inverse()
    assert inverse.pairs == tuple((y, x) for x, y in task.pairs)
    assert (inverse.parts, inverse.groups, inverse.category) == (task.parts, task.groups, task.category)
    assert inverse.inverse() == task


@given(invertible_tasks())
def test_bijection_holds_both_directions_and_mates_share_a_group(task):
    both = bijection(task)
    n = len(task.pairs)
    assert both.category == "bijection"
    assert both.pairs == task.pairs + task.inverse().pairs
    assert both.parts == (0,) * n + (1,) * n
    group = dict(zip(both.pairs, both.groups, strict=True))
    assert all(group[x, y] == group[y, x] for x, y in task.pairs)
    assert len({x for x, _ in both.pairs}) == 2 * n
    assert len(set(both.groups)) == len(set(task.groups))


@given(invertible_tasks(), invertible_tasks())
def test_union_drops_the_inputs_that_the_other_task_knows_and_nothing_else(a, b):
    words_a, words_b = ({word for pair in task.pairs for word in pair} for task in (a, b))
    kept_a = [pair for pair in a.pairs if pair[0] not in words_b]
    kept_b = [pair for pair in b.pairs if pair[0] not in words_a]
    if not (kept_a and kept_b):
        with pytest.raises(ValueError, match="choose tasks with other words"):
            union(a, b)
        return
    both = union(a, b)
    assert both.category == "union"
    assert both.pairs == (*kept_a, *kept_b)
    assert both.parts == (0,) * len(kept_a) + (1,) * len(kept_b)
    groups_a, groups_b = both.groups[: len(kept_a)], both.groups[len(kept_a) :]
    assert not set(groups_a) & set(groups_b)
    assert groups_a == tuple(g for g, pair in zip(a.groups, a.pairs, strict=True) if pair in kept_a)
    # Mates of b are still mates, whatever number their group has now.
    before = [g for g, pair in zip(b.groups, b.pairs, strict=True) if pair in kept_b]
    assert len(set(zip(before, groups_b, strict=True))) == len(set(before)) == len(set(groups_b))


@given(invertible_tasks())
def test_halves_divide_a_task_by_its_groups(task):
    if len(set(task.groups)) < 2:
        with pytest.raises(ValueError, match="has no pairs"):
            halves(task)
        return
    one, other = halves(task)
    assert sorted(one.pairs + other.pairs) == sorted(task.pairs)
    assert not set(one.groups) & set(other.groups)
    assert len(set(one.groups)) - len(set(other.groups)) in (0, 1)
    group = dict(zip(task.pairs, task.groups, strict=True))
    for half in (one, other):
        assert (half.name, half.category, set(half.parts)) == (task.name, task.category, {0})
        assert half.groups == tuple(group[pair] for pair in half.pairs)


@given(invertible_tasks().filter(lambda task: len(set(task.groups)) > 1))
def test_in_both_ways_from_two_halves_no_word_has_two_roles(task):
    """As words of a bijection have: each of them is asked and is an answer."""
    one, other = halves(task)
    both = union(one, other.inverse())
    assert len(both.pairs) == len(task.pairs)  # nothing is dropped
    assert not {x for x, _ in both.pairs} & {y for _, y in both.pairs}
    forwards = {pair for pair, part in zip(both.pairs, both.parts, strict=True) if part == 0}
    backwards = {(y, x) for x, y in set(both.pairs) - forwards}
    assert forwards | backwards == set(task.pairs)
    assert forwards == set(one.pairs)


@st.composite
def two_of_one_source(draw):
    """Tasks X → Y and X → Z that share some inputs; a word may stand in several places."""
    x, y, z = (draw(st.lists(WORDS, min_size=8, max_size=25, unique=True)) for _ in range(3))
    first = dict(zip(x, y, strict=False))
    second = dict(zip(draw(st.permutations(x)), z, strict=False))
    return Task("left_to_right", "a", tuple(first.items())), Task("left_to_middle", "a", tuple(second.items()))


@given(two_of_one_source())
def test_a_cycle_is_a_permutation_of_order_three(tasks):
    first, second = tasks
    y, z = dict(first.pairs), dict(second.pairs)
    words = [word for x in y if x in z for word in (x, y[x], z[x])]
    kept = [x for x in y if x in z and all(words.count(word) == 1 for word in (x, y[x], z[x]))]
    if not kept:
        with pytest.raises(ValueError, match="no cycle of 'left_to_right' and 'left_to_middle'"):
            cycle(first, second)
        return
    task, n = cycle(first, second), len(kept)
    assert (task.name, task.category) == ("left_to_right_to_middle", "cycle")
    onwards = dict(task.pairs)
    assert len(onwards) == 3 * n
    for x in kept:
        assert [onwards[x], onwards[onwards[x]]] == [y[x], z[x]]
    for word in onwards:
        assert onwards[onwards[onwards[word]]] == word
        assert len({word, onwards[word], onwards[onwards[word]]}) == 3
    # A row is one group with a pair of each part, and no word of it is in another.
    group = dict(zip(task.pairs, task.groups, strict=True))
    assert all(group[pair] == group[pair[1], onwards[pair[1]]] for pair in task.pairs)
    assert len(set(task.groups)) == n
    assert sorted(zip(task.groups, task.parts, strict=True)) == [(i, part) for i in range(n) for part in range(3)]


@given(two_of_one_source())
def test_the_steps_of_a_cycle_are_its_parts(tasks):
    try:
        task = cycle(*tasks)
    except ValueError:
        return
    steps = cycle_steps(*tasks)
    assert [step.name for step in steps] == ["left_to_right", "right_to_middle", "middle_to_left"]
    for part, step in enumerate(steps):
        assert step.pairs == tuple(pair for pair, p in zip(task.pairs, task.parts, strict=True) if p == part)
        assert set(step.parts) == {0}
    assert set(steps[0].pairs) <= set(tasks[0].pairs)
    assert set(steps[2].inverse().pairs) <= set(tasks[1].pairs)


def test_cycle_example():
    first = Task("a_to_b", "test", (("go", "going"), ("sing", "singing"), ("find", "finding"), ("see", "seeing")))
    second = Task("a_to_c", "test", (("sing", "sang"), ("see", "saw"), ("saw", "sawed"), ("find", "found")))
    # "go" and "saw" are asked by one task alone; that leaves "saw" as a past.
    assert cycle_steps(first, second)[1].pairs == (("singing", "sang"), ("finding", "found"), ("seeing", "saw"))
    # "found" as a present would not tell its step.
    more = [(*task.pairs, pair) for task, pair in ((first, ("found", "founding")), (second, ("found", "founded")))]
    task = cycle(Task("a_to_b", "test", more[0]), Task("a_to_c", "test", more[1]))
    assert [x for x, _ in task.pairs[:2]] == ["sing", "see"]
    assert len(task.pairs) == 6


def test_union_example():
    a = Task("a", "linguistic", (("cat", "cats"), ("dog", "dogs"), ("cow", "cows")))
    b = Task("b", "translation", (("cat", "chat"), ("cows", "vaches"), ("sun", "soleil")))
    # "cat" is an input of both and "cows" an output of a; "cow" stays, for b only knows "cows".
    assert union(a, b).pairs == (("dog", "dogs"), ("cow", "cows"), ("sun", "soleil"))
    assert union(a, b).parts == (0, 0, 1)
    assert union(a, b).name == "a+b"


def test_names_of_derived_tasks():
    task = Task("left_to_right", "linguistic", (("l", "r"),))
    assert task.inverse().name == "right_to_left"
    assert bijection(task).name == "left_and_right"
    plain = Task("plain", "linguistic", (("l", "r"),))
    assert plain.inverse().name == "plain_inverse"
    assert bijection(plain).name == "plain_and_plain_inverse"


def test_defaults_are_one_part_and_a_group_for_each_pair():
    task = Task("letters", "algorithmic", tuple(zip(ascii_lowercase, ascii_lowercase, strict=True)))
    assert task.parts == (0,) * 26
    assert task.groups == tuple(range(26))


def test_what_cannot_be_derived_is_refused_in_one_line():
    many_to_one = Task("many", "knowledge", (("a", "z"), ("b", "z")))
    chain = Task("chain", "algorithmic", (("a", "b"), ("b", "c")))
    good = Task("good", "linguistic", (("a", "b"),))
    mates = Task("mates", "linguistic", (("a", "c"), ("d", "e")), groups=(0, 0))
    refusals = [
        (many_to_one.inverse, "'z' is the answer of several pairs"),
        (lambda: bijection(many_to_one), "'z' is the answer of several pairs"),
        (lambda: bijection(chain), "'b' occurs as input and as output"),
        (bijection(good).inverse, "has two parts and cannot be inverted"),
        (lambda: bijection(bijection(good)), "has two parts"),
        (lambda: union(bijection(good), good), "has two parts and cannot be put into a union"),
        (lambda: union(good, good), "every input of 'good' is a word of 'good'"),
        (lambda: halves(good), "task 'good' has no pairs"),
        (lambda: cycle(bijection(good), good), "'good_and_good_inverse' has parts or mates"),
        (lambda: cycle(good, mates), "'mates' has parts or mates"),
        (lambda: cycle(good, good), "no cycle of 'good' and 'good'"),
    ]
    for refused, message in refusals:
        with pytest.raises(ValueError, match=message) as error:
            refused()
        assert "\n" not in str(error.value)


def test_a_malformed_task_is_refused():
    with pytest.raises(ValueError, match="has no pairs"):
        Task("empty", "knowledge", ())
    with pytest.raises(ValueError, match="'a' more than once"):
        Task("twice", "knowledge", (("a", "b"), ("a", "c")))
    with pytest.raises(ValueError, match="has 1 pairs but 2 parts"):
        Task("parts", "knowledge", (("a", "b"),), parts=(0, 1))
    with pytest.raises(ValueError, match="has 1 pairs but 2 groups"):
        Task("groups", "knowledge", (("a", "b"),), groups=(0, 1))
    with pytest.raises(ValueError, match=r"'a', 'b', 'c' and 1 more is the answer of several"):
        Task("many", "knowledge", tuple((str(i), "abcd"[i % 4]) for i in range(8))).inverse()
