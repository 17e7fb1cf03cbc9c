"""What is recorded of a model on bijections comes back as it was computed, and a part of it computed again agrees."""

import re

import pandas as pd
import pytest
import torch

from task_vectors.experiments import bijections
from task_vectors.experiments.bijections import (
    BOTH_WAYS,
    CYCLE_FORMS,
    FORMS,
    HALF_FORMS,
    PARTNERS,
    THIRDS,
    in_form,
    read_evaluation,
    rests_on,
    verify,
)
from task_vectors.lm import pinned_weights
from task_vectors.lm.bundled import BUNDLED
from task_vectors.lm.models import LanguageModel, load_model
from task_vectors.lm.pinned_weights import weights_id
from task_vectors.lm.task_vector import evaluate
from task_vectors.prompts.few_shot import max_demos, split
from task_vectors.records.store import Record, recorded
from task_vectors.tasks.catalog import FAMILIES, get_task
from task_vectors.tasks.task import Task

SIZES = {"n_demos": 4, "seeds": [0, 3], "n_prompts": 8, "n_selection": 4, "template": "Example:{x} → {y}"}


@pytest.fixture
def parameters(tiny_facts):
    return tiny_facts | {"task": "present_to_gerund", "form": "X ↔ Y", **SIZES}


def alter(record: Record, column: str, row: int, value: object) -> Record:
    """The record with one entry of its answers changed, past its checksums."""
    path = record.folder / "answers.csv.gz"
    table = record.table("answers")
    table.loc[row, column] = value
    table.to_csv(path, index=False, quoting=2, lineterminator="\n")
    return record


@pytest.mark.parametrize("form", ["X ↔ Y", "union", "X → Y + Y → X", "X → Y → Z → X"])
def test_a_record_gives_the_evaluation_back(parameters, form):
    record = recorded(BOTH_WAYS, **parameters | {"form": form})
    lm = load_model(parameters["model"])
    sizes = {name: SIZES[name] for name in ("n_prompts", "n_selection")}
    expected = evaluate(lm, in_form("present_to_gerund", form), 4, [0, 3], **sizes)
    found = read_evaluation(record)
    pd.testing.assert_frame_equal(found.answers, expected.answers, check_exact=True)
    assert found.layers == expected.layers
    assert found.selection._fields == expected.selection._fields
    assert all(torch.equal(a, b) for a, b in zip(found.selection, expected.selection, strict=True))


def test_what_is_computed_again_agrees(parameters):
    comparisons = verify(recorded(BOTH_WAYS, **parameters))
    assert [item for item in comparisons if not item.agrees] == []
    texts = [item for item in comparisons if "texts" in item.what]
    assert [(item.recorded, item.computed) for item in texts] == [(4, 4), (4, 4)]


@pytest.mark.parametrize("column", ["icl", "vector"])
def test_an_altered_text_is_found_out(parameters, column):
    record = alter(recorded(BOTH_WAYS, **parameters), column, 2, "made up")
    [wrong] = [item for item in verify(record) if not item.agrees]
    assert wrong.what == f"{column}: texts that are the same"
    assert (wrong.recorded, wrong.computed) == (4, 3)


def test_an_altered_verdict_is_found_out(parameters):
    record = recorded(BOTH_WAYS, **parameters)
    was = record.table("answers")["vector_word"][1]
    [wrong] = [item for item in verify(alter(record, "vector_word", 1, not was)) if not item.agrees]
    assert wrong.what == "vector_word: verdicts that are the same"


def test_an_altered_sweep_is_found_out(parameters, monkeypatch):
    record = recorded(BOTH_WAYS, **parameters)
    selection = record.tensors("selection")
    selection["log_prob"] = selection["log_prob"] * 1.01
    monkeypatch.setattr(Record, "tensors", lambda self, name: selection)
    [wrong] = [item for item in verify(record) if not item.agrees]
    assert wrong.what.startswith("log-probability")


def test_other_weights_under_the_same_name_are_refused(parameters):
    with pytest.raises(ValueError, match="has the weights") as caught:
        recorded(BOTH_WAYS, **parameters | {"weights": "0" * 64})
    assert len(str(caught.value).splitlines()) == 1


def test_weights_are_named_by_their_content(folder, tiny_llama):
    before = weights_id(load_model(str(folder)))
    lm = load_model(str(folder))
    next(lm.model.parameters()).data += 1
    lm.model.save_pretrained(folder)
    pinned_weights._folder_digest.cache_clear()
    assert weights_id(lm) != before
    bundled = LanguageModel("smollm2-135m", tiny_llama.model, tiny_llama.tokenizer)
    assert weights_id(bundled) == BUNDLED["smollm2-135m"].sha256


@pytest.mark.parametrize(
    ("name", "form", "message"),
    [
        ("antonym", "X ⇒ Y", "unknown form 'X ⇒ Y': choose one of X → Y, Y → X, X ↔ Y, union"),
        ("antonym", "Y → Z of three", "antonym has no third for a cycle: choose one of number_to_digits, "),
        ("antonym", "union", "antonym has no partner for a union: choose one of to_upper, english_to_french"),
    ],
)
def test_an_unknown_form_is_one_clear_error(parameters, name, form, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        recorded(BOTH_WAYS, **parameters | {"task": name, "form": form})
    assert len(str(caught.value).splitlines()) == 1


def test_an_answer_that_would_be_split_in_two_is_refused(parameters, monkeypatch):
    odd = Task("odd", "test", tuple((f"n{i}", f"a\tb{i}") for i in range(30)))
    monkeypatch.setattr(bijections, "in_form", lambda name, form: odd)
    with pytest.raises(ValueError, match="an answer of the demonstrations holds"):
        recorded(BOTH_WAYS, **parameters)


ASKED = [
    *((name, form) for name in FAMILIES for form in (*FORMS, *HALF_FORMS)),
    *((name, form) for name in THIRDS for form in CYCLE_FORMS),
]


@pytest.mark.parametrize(("name", "form"), ASKED)
def test_the_pools_of_every_form_share_no_word(name, form):
    """Said without groups: what is asked or answered in one pool occurs in no other, neither as x nor as y."""
    task = in_form(name, form)
    for n_demos in {min(n, max_demos(task)) for n in (10, 20)}:
        for seed in range(2):
            pools = split(task, n_demos, seed).values()
            words = [{word for i in pool for word in task.pairs[i]} for pool in pools]
            assert sum(map(len, words)) == len(set.union(*words))


@pytest.mark.parametrize(("name", "form"), ASKED)
def test_there_is_room_for_ten_demonstrations_and_but_for_letters_for_twenty(name, form):
    most = max_demos(in_form(name, form))
    assert most >= 20 or (name == "to_upper" and most == (6 if form in HALF_FORMS else 16))


@pytest.mark.parametrize("name", FAMILIES)
def test_halves_ask_each_pair_once(name):
    same, both = (in_form(name, form) for form in HALF_FORMS)
    pairs = get_task(name).pairs
    assert sorted(same.pairs) == sorted(pairs)
    assert sorted(
        pair if part == 0 else pair[::-1] for pair, part in zip(both.pairs, both.parts, strict=True)
    ) == sorted(pairs)
    assert same.parts == both.parts
    assert abs(same.parts.count(0) - same.parts.count(1)) <= 1
    assert not {x for x, _ in both.pairs} & {y for _, y in both.pairs}


@pytest.mark.parametrize("name", THIRDS)
def test_a_cycle_follows_its_two_tasks_and_comes_back(name):
    task, *steps = (in_form(name, form) for form in CYCLE_FORMS)
    onwards, y, z = dict(task.pairs), dict(get_task(name).pairs), dict(get_task(THIRDS[name]).pairs)
    assert len(onwards) >= 3 * 33
    for (x, _), part in zip(task.pairs, task.parts, strict=True):
        assert onwards[onwards[onwards[x]]] == x
        assert part != 0 or (onwards[x], onwards[y[x]]) == (y[x], z[x])
    assert tuple(pair for step in steps for pair in step.pairs) == task.pairs


@pytest.mark.parametrize(
    ("name", "form", "tables"),
    [
        ("state_to_code", "X → Y + Y → X", ["state_to_code"]),
        ("state_to_code", "union", ["state_to_code", "verb_to_agent"]),
        ("number_to_digits", "union", ["adjective_to_comparative"]),  # numerals have no table
        ("number_to_digits", "X → Y → Z → X", []),
        ("country_to_capital", "Z → X of three", ["country_to_capital", "country_to_nationality"]),
        ("country_to_capital", "Y → X", ["country_to_capital"]),
    ],
)
def test_a_record_rests_on_the_tables_of_its_form(name, form, tables):
    assert rests_on({"task": name, "form": form}) == [f"data/tasks/{table}.csv" for table in tables]


def test_each_one_way_task_is_in_one_bijection_and_one_union():
    one_way = {get_task(name).pairs for name in PARTNERS} | {get_task(name).inverse().pairs for name in PARTNERS}
    halves = {form: [] for form in FORMS[2:]}
    for name in PARTNERS:
        for form, found in halves.items():
            task = in_form(name, form)
            for part in (0, 1):
                found.append({pair for pair, p in zip(task.pairs, task.parts, strict=True) if p == part})
    assert PARTNERS.keys() == FAMILIES.keys()
    assert all(FAMILIES[name] != FAMILIES[partner] for name, partner in PARTNERS.items())
    for found in halves.values():
        for pairs in one_way:
            # A union drops pairs whose query would not tell which task it belongs to.
            assert sum(half <= set(pairs) and len(half) >= 0.7 * len(pairs) for half in found) == 1
