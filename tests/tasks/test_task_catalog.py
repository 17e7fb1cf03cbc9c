"""The names, and what the generated and derived tasks hold."""

import subprocess
import sys

import pytest

from task_vectors.tasks.catalog import get_task, list_tasks
from task_vectors.tasks.task import bijection

COUNTS = {"knowledge": 4, "algorithmic": 6, "translation": 6, "linguistic": 9, "bijection": 8, "control": 1}


def test_the_34_tasks_stand_in_their_categories():
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


@pytest.mark.parametrize("name", [*list_tasks("translation"), *list_tasks("linguistic"), "country_to_capital"])
def test_the_inverse_is_itself_a_task(name):
    task = get_task(name)
    inverse = task.inverse()
    assert inverse.inverse() == task
    if inverse.name in list_tasks():
        assert sorted(get_task(inverse.name).pairs) == sorted(inverse.pairs)
    else:
        assert inverse.name == "capital_to_country"


def test_many_to_one_tasks_have_no_inverse():
    for name in ("person_to_language", "location_to_continent", "location_to_religion"):
        with pytest.raises(ValueError, match="needs distinct answers"):
            get_task(name).inverse()


@pytest.mark.parametrize("name", list_tasks("bijection"))
def test_a_named_bijection_is_the_bijection_of_its_task(name):
    task = get_task(name)
    half = len(task.pairs) // 2
    source = "to_upper" if name == "upper_and_lower" else name.replace("_and_", "_to_")
    assert task == bijection(get_task(source))
    assert task.parts == (0,) * half + (1,) * half
    assert task.pairs[half:] == tuple((y, x) for x, y in task.pairs[:half])


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
