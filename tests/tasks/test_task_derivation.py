"""Inverse, bijection and union hold for any task, not just for the committed ones."""

from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    refusals = [
        (many_to_one.inverse, "'z' is the answer of several pairs"),
        (lambda: bijection(many_to_one), "'z' is the answer of several pairs"),
        (lambda: bijection(chain), "'b' occurs as input and as output"),
        (bijection(good).inverse, "has two parts and cannot be inverted"),
        (lambda: bijection(bijection(good)), "has two parts"),
        (lambda: union(bijection(good), good), "has two parts and cannot be put into a union"),
        (lambda: union(good, good), "every input of 'good' is a word of 'good'"),
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
