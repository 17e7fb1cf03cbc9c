"""The names, and what the generated and derived tasks hold."""

import re
import subprocess
import sys

import pytest

from task_vectors.tasks.catalog import FAMILIES, get_task, list_tasks
from task_vectors.tasks.task import bijection, bijection_name, inverse_name

COUNTS = {
    "knowledge": 4,
    "algorithmic": 6,
    "translation": 6,
    "linguistic": 9,
    "bijection": 8,
    "control": 1,
    "extension": 35,
}


def test_the_tasks_stand_in_their_categories():
    assert {category: len(list_tasks(category)) for category in COUNTS} == COUNTS
    assert len(set(list_tasks())) == sum(COUNTS.values())
    assert list_tasks() == [name for category in COUNTS for name in list_tasks(category)]


@pytest.mark.parametrize("name", list_tasks())
def test_a_task_carries_its_name_and_category(name):
    task = get_task(name)
    assert task.name == name
    assert name in list_tasks(task.category)


@pytest.mark.parametrize("name", list_tasks())
def test_only_copy_answers_with_the_query(name):
    echoes = [x for x, y in get_task(name).pairs if x == y]
    assert len(echoes) == (52 if name == "copy" else 0)


ONE_WAY = [name for name in list_tasks("extension") if "_and_" not in name]


@pytest.mark.parametrize(
    "name", [*list_tasks("translation"), *list_tasks("linguistic"), *ONE_WAY, "country_to_capital"]
)
def test_the_inverse_is_itself_a_task(name):
    task = get_task(name)
    inverse = task.inverse()
    assert inverse.inverse() == task
    assert sorted(get_task(inverse.name).pairs) == sorted(inverse.pairs)


def test_many_to_one_tasks_have_no_inverse():
    for name in ("person_to_language", "location_to_continent", "location_to_religion"):
        with pytest.raises(ValueError, match="needs distinct answers"):
            get_task(name).inverse()


BIJECTIONS = [*list_tasks("bijection"), *(name for name in list_tasks("extension") if "_and_" in name)]


@pytest.mark.parametrize("name", BIJECTIONS)
def test_a_named_bijection_is_the_bijection_of_its_task(name):
    task = get_task(name)
    half = len(task.pairs) // 2
    source = "to_upper" if name == "upper_and_lower" else name.replace("_and_", "_to_")
    derived = bijection(get_task(source))
    assert (task.name, task.pairs, task.groups) == (derived.name, derived.pairs, derived.groups)
    assert task.parts == (0,) * half + (1,) * half
    assert task.pairs[half:] == tuple((y, x) for x, y in task.pairs[:half])


def test_what_has_a_family_is_asked_both_ways():
    assert {bijection_name(name) for name in FAMILIES} == set(BIJECTIONS)
    assert {inverse_name(name) for name in FAMILIES} < set(list_tasks())
    assert len({bijection_name(name) for name in FAMILIES}) == len(FAMILIES)  # none is another's inverse


def test_forms_of_a_word_and_translations_are_one_family_each():
    of = {family: {name for name in FAMILIES if FAMILIES[name] == family} for family in FAMILIES.values()}
    shared_sources = [{name.split("_to_")[0] for name in names} for names in of.values() if len(names) > 1]
    assert sorted(map(sorted, shared_sources)) == [["adjective"], ["english"], ["number"], ["present"]]
    assert len(of) == 13


def test_antonyms_are_asked_both_ways_and_couples_are_mates():
    task = get_task("antonym")
    assert set(task.pairs) == {(y, x) for x, y in task.pairs}
    assert set(task.parts) == {0}
    group = dict(zip(task.pairs, task.groups, strict=True))
    assert all(group[x, y] == group[y, x] for x, y in task.pairs)
    assert len(set(task.groups)) == len(task.pairs) // 2


def test_letters():
    successor = dict(get_task("next_letter").pairs)
    assert (successor["a"], successor["m"], len(successor)) == ("b", "n", 25)
    assert "z" not in successor
    assert dict(get_task("prev_letter").pairs) == {y: x for x, y in successor.items()}
    assert all(y == x.upper() for x, y in get_task("to_upper").pairs)
    assert all(y == x.lower() for x, y in get_task("to_lower").pairs)
    assert {x for x, _ in get_task("to_upper").pairs} | {x for x, _ in get_task("to_lower").pairs} == {
        x for x, _ in get_task("copy").pairs
    }


BELOW_TWENTY = """
one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
VALUES = {word: n for n, word in enumerate(BELOW_TWENTY.split(), start=1)}
VALUES |= {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60}


@pytest.mark.parametrize("name", ["number_to_digits", "number_to_ordinal", "number_to_roman"])
def test_number_words_are_those_from_one_to_sixty(name):
    words = [x for x, _ in get_task(name).pairs]
    assert [sum(VALUES[part] for part in word.split("-")) for word in words] == list(range(1, 61))
    # From 21 on a number of two words has tens and ones, in this order.
    two = [word.split("-") for word in words if "-" in word]
    assert all(tens.endswith("ty") and VALUES[ones] < 10 for tens, ones in two)


def test_numerals_are_worth_their_words():
    value = {x: i for i, (x, _) in enumerate(get_task("number_to_digits").pairs, start=1)}
    for x, y in get_task("number_to_digits").pairs:
        assert int(y) == value[x]
    for x, y in get_task("number_to_roman").pairs:
        assert re.fullmatch("(XL|L?X{0,3})(IX|IV|V?I{0,3})", y)  # the one canonical way
        worth = [dict(I=1, V=5, X=10, L=50)[sign] for sign in y]
        signed = [-a if a < b else a for a, b in zip(worth, [*worth[1:], 0], strict=True)]
        assert sum(signed) == value[x]


def test_ordinals():
    ordinals = dict(get_task("number_to_ordinal").pairs)
    small = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth"
    assert " ".join([*ordinals.values()][:13]) == small
    for x, y in ordinals.items():
        tens, hyphen, last = x.rpartition("-")
        assert y == tens + hyphen + ordinals[last]
    rest = {x: y for x, y in ordinals.items() if VALUES.get(x, 0) > 13}
    assert all(y == re.sub("y$", "ie", x) + "th" for x, y in rest.items())


def test_lists_are_balanced_over_their_places():
    first, last = dict(get_task("list_first").pairs), dict(get_task("list_last").pairs)
    assert first.keys() == last.keys()
    assert len(first) >= 60
    for query in first:
        words = query.split(", ")
        assert len(set(words)) == 3
        assert (first[query], last[query]) == (words[0], words[2])
    assert sorted(first.values()) == sorted(last.values())


def test_an_unknown_name_is_answered_with_close_ones():
    with pytest.raises(ValueError, match="unknown task 'english_french': did you mean english_to_french or ") as error:
        get_task("english_french")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="choose one of country_to_capital, .*copy"):
        get_task("qqq")
    with pytest.raises(ValueError, match="unknown task category 'verbs': choose one of knowledge, "):
        list_tasks("verbs")


def test_tasks_import_without_heavy_libraries():
    heavy = "import sys, task_vectors.tasks; print({'torch', 'pandas', 'numpy', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
