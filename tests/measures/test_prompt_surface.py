"""Levels that need no model: an answer always given, a first symbol alone, the surface of a prompt."""

import itertools

import pytest

from task_vectors.measures.prompt_surface import (
    answer_ngrams,
    constant_accuracy,
    surface_features,
    surface_level,
    surface_votes,
    told_by_first_symbol,
)
from task_vectors.prompts.families import family_prompts
from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.families.pos import pos_tagging


def test_the_most_frequent_answer_is_always_given():
    assert constant_accuracy(["11", "10", "11", "00"]) == 0.5


def test_no_way_to_name_a_task_by_the_first_symbol_is_better():
    answers = [["10", "11", "00"], ["01", "00", "11"], ["2", "12", "02"]]
    prompts = [(k, answer[0]) for k, of_task in enumerate(answers) for answer in of_task]
    guesses = (dict(zip("012", named, strict=True)) for named in itertools.product(range(3), repeat=3))
    best = max(sum(guess[symbol] == k for k, symbol in prompts) / len(prompts) for guess in guesses)
    assert told_by_first_symbol(answers) == best


def test_the_level_is_the_better_vote_without_null():
    prompts = family_prompts(bitwise_arithmetic(), 4, 20, 0)
    votes = surface_votes(surface_features("bitwise", prompts), prompts.labels, prompts.groups)
    right = [(named == prompts.labels)[:120].float().mean().item() for named in votes.values()]  # Null is the last
    assert surface_level("bitwise", prompts) == pytest.approx(max(right))


def test_letters_of_the_answers_name_a_part_of_speech_that_places_do_not():
    prompts = family_prompts(pos_tagging(), 4, 20, 0)
    votes = surface_votes(answer_ngrams(prompts), prompts.labels, prompts.groups)
    right = (votes["classifier"] == prompts.labels)[:120].float().mean().item()
    assert right > 0.7 > surface_level("pos", prompts) + 0.3


def test_letters_of_the_answers_know_neither_inputs_nor_order():
    plain, permuted = (family_prompts(bitwise_arithmetic(), 4, 5, 0, condition=c) for c in ("plain", "permuted"))
    counts = answer_ngrams(plain)
    assert counts.equal(answer_ngrams(permuted))
    assert counts.sum(1).eq(4 * (6 + 5 + 4)).all()  # n-grams of " 00000 " and the like, four times
