"""The record of the first chapter is the experiment that its page describes, and a part of it computed again agrees."""

import pandas as pd
import pytest
import torch

from task_vectors.experiments import first_look
from task_vectors.experiments.first_look import BEST, FIRST_LOOK, verify
from task_vectors.lm import pinned_weights
from task_vectors.lm.interventions import capture, continue_greedily, unembed
from task_vectors.lm.models import load_model
from task_vectors.lm.task_vector import evaluate
from task_vectors.prompts.few_shot import few_shot_prompts
from task_vectors.records.store import Record, recorded
from task_vectors.tasks.catalog import get_task

TEMPLATE = "Example:{x} → {y}"
SIZES = {"n_demos": 3, "n_prompts": 8, "n_selection": 4, "seed": 2, "template": TEMPLATE}


@pytest.fixture
def record(tiny_facts):
    return recorded(FIRST_LOOK, **tiny_facts, task="present_to_gerund", shots=[0, 2], **SIZES)


@pytest.fixture
def lm(record):
    return load_model(record.parameters["model"])


def test_the_answers_are_those_of_the_evaluation(record, lm):
    sizes = {name: SIZES[name] for name in ("n_prompts", "n_selection")}
    expected = evaluate(lm, get_task("present_to_gerund"), 3, [2], template=TEMPLATE, **sizes)
    found = record.table("answers")
    pd.testing.assert_frame_equal(found.drop(columns="zero_right"), expected.answers.drop(columns="demo_answers"))
    assert record.table("layers").set_index("rule").layer.to_dict() == expected.layers
    assert torch.equal(record.tensors("selection")["exact"], expected.selection.exact)


def test_each_number_of_demonstrations_is_asked_with_that_many(record, lm):
    shots = record.table("shots")
    assert shots.n_demos.value_counts().to_dict() == {0: 8, 2: 8}
    prompts = few_shot_prompts(get_task("present_to_gerund"), 2, 8, 2, TEMPLATE, queries_per_prefix=4)
    room = 2 + max(len(y) for x, y in get_task("present_to_gerund").pairs)  # one token a byte
    texts = [continue_greedily(lm, [text], max_tokens=room).texts[0] for text in prompts.texts]
    expected = [text == answer for text, answer in zip(texts, prompts.answers, strict=True)]
    assert shots[shots.n_demos == 2].right.tolist() == expected
    assert shots[shots.n_demos == 2].group.tolist() == list(prompts.groups)


def test_too_many_demonstrations_are_refused_before_anything_runs(tiny_facts, monkeypatch):
    lm = pinned_weights.checked_model(*tiny_facts.values())
    monkeypatch.setattr(lm.model.config, "max_position_embeddings", 200)
    for module in (lm.model, lm.model.base_model):
        monkeypatch.setattr(module, "forward", lambda *_args, **_kwargs: pytest.fail("a forward pass was run"))
    with pytest.raises(ValueError, match="the context of .* is 200"):
        FIRST_LOOK.run(**tiny_facts, task="present_to_gerund", shots=[0, 12], **SIZES)


def test_there_is_room_for_the_longest_answer(tiny_facts, monkeypatch):
    rooms = []

    def note(lm, texts, *, max_tokens, **settings):
        rooms.append(max_tokens)
        return continue_greedily(lm, texts, max_tokens=max_tokens, **settings)

    monkeypatch.setattr(first_look, "continue_greedily", note)
    FIRST_LOOK.run(**tiny_facts, task="present_to_gerund", shots=[0, 2], **SIZES)
    sizes = {"n_prompts": 8, "seed": 2, "queries_per_prefix": 4}
    samples = [few_shot_prompts(get_task("present_to_gerund"), n, **sizes) for n in (3, 0, 2)]
    # One token a byte: the longest answer, the space before it and the end of its line.
    assert rooms == [2 + max(len(answer) for prompts in samples for answer in prompts.answers)] * 3


def test_the_lens_gives_the_best_tokens_of_the_mean_vector(record, lm):
    table = record.table("lens")
    prompts = few_shot_prompts(get_task("present_to_gerund"), 3, 8, 2, TEMPLATE, queries_per_prefix=4)
    logits = unembed(lm, capture(lm, list(prompts.vector_texts)).mean(0))  # [L, V]
    starts = {
        lm.tokenizer(f"Example:{x} → {y}").input_ids[len(lm.tokenizer(f"Example:{x} →").input_ids)]
        for x, y in get_task("present_to_gerund").pairs
    }
    for layer, rows in table.groupby("layer"):
        assert len(rows) == BEST
        assert logits[layer, rows.token.tolist()].min() >= logits[layer].topk(BEST).values.min()
        assert rows.answer.tolist() == [token in starts for token in rows.token]
    assert table.layer.nunique() == lm.n_layers


def test_what_is_computed_again_agrees(record):
    assert [item for item in verify(record) if not item.agrees] == []


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("answers", lambda table: table.assign(vector="made up"), "vector: texts that are the same"),
        ("answers", lambda table: table.assign(icl="made up"), "icl: texts that are the same"),
        ("lens", lambda table: table.assign(token=table.token + 1), "tokens of the lens that are the same"),
    ],
)
def test_what_was_altered_is_found_out(record, monkeypatch, name, change, what):
    read = Record.table
    monkeypatch.setattr(
        Record, "table", lambda self, asked: (change if asked == name else lambda t: t)(read(self, asked))
    )
    assert [item.what for item in verify(record) if not item.agrees] == [what]


def test_an_altered_sweep_is_found_out(record, monkeypatch):
    selection = record.tensors("selection")
    selection["log_prob"] = selection["log_prob"] * 1.01
    monkeypatch.setattr(Record, "tensors", lambda self, name: selection)
    [wrong] = [item for item in verify(record) if not item.agrees]
    assert wrong.what.startswith("log-probability")
