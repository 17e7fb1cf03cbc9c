"""The named tasks: the 33 of Dong et al. (2026, Table 5), `copy`, and an extension: more tasks with an inverse."""

from dataclasses import replace
from difflib import get_close_matches
from functools import cache

from task_vectors.tasks import algorithmic
from task_vectors.tasks.lexical import read_couples, read_pairs, table_of
from task_vectors.tasks.task import Task, bijection, bijection_name, inverse_name

KNOWLEDGE = ("country_to_capital", "person_to_language", "location_to_continent", "location_to_religion")
TRANSLATION = ("english_to_french", "english_to_italian", "english_to_spanish")
INFLECTION = ("present_to_gerund", "present_to_past", "present_to_past_perfect", "singular_to_plural")
GENERATED = {
    "list_first": algorithmic.list_first,
    "list_last": algorithmic.list_last,
    "next_letter": algorithmic.next_letter,
    "to_upper": algorithmic.to_upper,
    "copy": algorithmic.copy,
    "number_to_digits": algorithmic.number_to_digits,
    "number_to_ordinal": algorithmic.number_to_ordinal,
    "number_to_roman": algorithmic.number_to_roman,
}

# Each one-way task that can be asked both ways, and its family. A family counts once among findings over tasks, for
# what is found of one of its tasks is likely to be found of all.
FAMILIES = {
    "to_upper": "letters",
    **dict.fromkeys(TRANSLATION, "translation"),
    **dict.fromkeys(INFLECTION, "verb forms"),
    "singular_to_plural": "number of nouns",  # the one inflection that is none of a verb
    "country_to_capital": "capitals",
    "country_to_nationality": "nationalities",
    "element_to_symbol": "chemical symbols",
    "state_to_code": "postal codes",
    "number_to_digits": "numerals",
    "number_to_ordinal": "numerals",
    "number_to_roman": "numerals",
    "adjective_to_comparative": "comparison",
    "adjective_to_superlative": "comparison",
    "adjective_to_adverb": "adverbs",
    "verb_to_agent": "agent nouns",
    "male_to_female": "gender",
}
OF_PAPER = ("to_upper", *TRANSLATION, *INFLECTION)  # whose inverses and bijections are among the 33
ADDED = tuple(name for name in FAMILIES if name not in (*OF_PAPER, "country_to_capital"))

# Derived names and the task that each is derived from.
INVERSES = {inverse_name(name): name for name in ("next_letter", *FAMILIES)}
BIJECTIONS = {bijection_name(name): name for name in FAMILIES}


def task_files(*names: str) -> list[str]:
    """The tables in the project that these tasks are read or derived from; a rule makes the others."""
    sources = {BIJECTIONS.get(name) or INVERSES.get(name, name) for name in names}
    return sorted(table_of(source) for source in sources - GENERATED.keys())


def _both_ways(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(direction for name in names for direction in (name, inverse_name(name)))


NAMES_BY_CATEGORY = {
    "knowledge": KNOWLEDGE,
    "algorithmic": ("list_first", "list_last", *_both_ways(("next_letter", "to_upper"))),
    "translation": _both_ways(TRANSLATION),
    "linguistic": (*_both_ways(INFLECTION), "antonym"),
    "bijection": tuple(bijection_name(name) for name in OF_PAPER),
    "control": ("copy",),
    "extension": (
        *_both_ways(ADDED),
        "capital_to_country",
        *(bijection_name(name) for name in FAMILIES if name not in OF_PAPER),
    ),
}


def list_tasks(category: str | None = None) -> list[str]:
    """The names that `get_task` knows: all of them, or those of one category.

    The tasks are the 33 of Dong et al. (2026, Table 5); `copy`, whose answer is its input; and an extension of tasks
    that can be asked both ways, with their inverses and bijections.

    Args:
        category: "knowledge", "algorithmic", "translation", "linguistic", "bijection", "control", "extension", or
            None for all.

    Raises:
        ValueError: there is no such category.
    """
    if category is None:
        return [name for names in NAMES_BY_CATEGORY.values() for name in names]
    if category not in NAMES_BY_CATEGORY:
        raise ValueError(f"unknown task category {category!r}: choose one of {', '.join(NAMES_BY_CATEGORY)}")
    return list(NAMES_BY_CATEGORY[category])


@cache
def get_task(name: str) -> Task:
    """The task called `name`, one of `list_tasks()`; inverses and bijections are derived from their tables.

    Raises:
        ValueError: there is no such task; the message names those that are spelled like it.
    """
    for category, names in NAMES_BY_CATEGORY.items():
        if name in names:
            return replace(_made(name, category), category=category)
    close = get_close_matches(str(name), list_tasks(), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(list_tasks())}"
    raise ValueError(f"unknown task {name!r}: {hint}")


def _made(name: str, category: str) -> Task:
    """The task, by a rule or from its table; one that is derived is still in the category of its source."""
    if name in BIJECTIONS:
        return bijection(get_task(BIJECTIONS[name]))
    if name in INVERSES:
        return get_task(INVERSES[name]).inverse()
    if name in GENERATED:
        return GENERATED[name]()
    return read_couples(name, category) if name == "antonym" else read_pairs(name, category)
