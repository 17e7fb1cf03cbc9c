import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.pages.ranges import find_rule, follows_rule


@pytest.mark.parametrize(
    ("help_text", "rule"),
    [
        ("models, trained one by one; at least 1", "at least 1"),
        ("numbers of demonstrations, each at least 1, if any", "each at least 1, if any"),
        ("above 0", "above 0"),
        ("a share; from 0.25 to 1", "from 0.25 to 1"),
        ("prompts, four to a set; a multiple of 4", "a multiple of 4"),
        ("tokens; one of product, pair, x-2.5", "one of product, pair, x-2.5"),
        ("which; not empty", "not empty"),
        ("below zero; at least -3", "at least -3"),
        ("the layer above 0", None),
        ("at least 1 of these", None),
        ("of the prompts", None),
        ("steps; at least many", None),
    ],
)
def test_a_rule_ends_the_help_after_a_comma_or_semicolon(help_text, rule):
    assert find_rule(help_text) == rule


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("at least 1", [1, 1.0, 5], [0, -5, True, "1", [1]]),
        ("above 0", [1e-9, 1], [0, -1.0, "x"]),
        ("from 0 to 1", [0, 0.5, 1], [-0.1, 1.1, ""]),
        ("a multiple of 4", [4, 8], [0, 2, -4, [4]]),
        ("one of a, b", ["a", "b"], ["c", "", "a, b", 1]),
        ("one of a, b, if any", ["a", ""], ["c"]),
        ("not empty", ["a", ["a"], [0]], ["", [], 0]),
        ("each at least 1", [[1], [2, 3]], [[], [0], [1, 0], 1, ["a"]]),
        ("each at least 1, if any", [[], [1]], [[0], 1]),
        ("each not empty, if any", [[], ["a"]], [[""], ["a", 1], "a"]),
    ],
)
def test_a_rule_tells_what_is_allowed(rule, allowed, refused):
    assert [follows_rule(value, rule) for value in allowed] == [True] * len(allowed)
    assert [follows_rule(value, rule) for value in refused] == [False] * len(refused)


@given(st.floats(), st.floats(-100, 100).map(lambda x: round(x, 2)))
def test_bounds_are_compared_as_numbers(value, bound):
    assert follows_rule(value, f"at least {bound:.2f}") == (value >= bound)
    assert follows_rule(value, f"above {bound:.2f}") == (value > bound)
