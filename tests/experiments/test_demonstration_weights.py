"""Which tokens stand for a demonstration, how far a vector moves, and what a combination of states explains."""

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, tiny_model

from task_vectors.experiments import demonstration_weights
from task_vectors.experiments.demonstration_weights import (
    TOKENS,
    WEIGHTS,
    combination_fits,
    demonstration_states,
    ends_in_text,
    replacement_shifts,
    token_columns,
)
from task_vectors.lm.interventions import capture
from task_vectors.prompts.few_shot import few_shot_prompts, render, split
from task_vectors.records.store import recorded
from task_vectors.tasks.catalog import get_task

TASK = get_task("present_to_gerund")
TEMPLATES = ["Example:{x} → {y}", "{x} -> {y}"]
FLOAT32 = {"atol": 1e-4, "rtol": 1e-4}


@pytest.mark.parametrize("template", TEMPLATES)
def test_places_are_where_the_words_end(template):
    demos, query = (("go", "going"), ("take", "taking")), "see"
    text = render(template, demos, query)
    tails = [text[:end] for end in ends_in_text(template, demos, query)]
    arrow = template.partition("{x}")[2].partition("{y}")[0].rstrip()
    ends = ["go", f"go{arrow}", "going", "going\n", "take", f"take{arrow}", "taking", "taking\n", "see", f"see{arrow}"]
    assert [tail.endswith(end) for tail, end in zip(tails, ends, strict=True)] == [True] * len(ends)
    assert tails[-1] == text


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_token_holds_the_character_before_its_end(architecture):
    lm = tiny_model(architecture)
    texts, ends = ["a → b\nc →", "é → b\nlonger →"], [[1, 5, 6, 9], [1, 5, 6, 14]]
    columns = token_columns(lm, texts, ends)
    for text, places, row in zip(texts, ends, columns.tolist(), strict=True):
        ids = lm.tokenizer(text).input_ids
        for end, column in zip(places, row, strict=True):
            # One token a byte: what follows the token is what follows the character.
            assert lm.tokenizer.decode(ids[column:])[1:] == text[end:] or text[end - 1] == "é"
    assert columns[:, -1].tolist() == [-1, -1]


def test_states_are_those_of_each_prompt_alone(tiny_llama):
    prompts = few_shot_prompts(TASK, 3, 4, seed=0)
    states = demonstration_states(tiny_llama, prompts)
    assert states.shape == (4, 4 * 3 + 2, tiny_llama.n_layers, tiny_llama.d_model)
    torch.testing.assert_close(states[:, -1], capture(tiny_llama, list(prompts.vector_texts)), **FLOAT32)
    # The states of a text's beginning do not depend on what follows.
    head = prompts.vector_texts[2].index("\n")
    torch.testing.assert_close(states[2, 2], capture(tiny_llama, [prompts.vector_texts[2][:head]])[0], **FLOAT32)


def test_shifts_are_those_of_replacing_by_hand(tiny_llama, monkeypatch):
    prompts, seed = few_shot_prompts(TASK, 3, 3, seed=5), 5
    written = []
    monkeypatch.setattr(
        demonstration_weights,
        "capture",
        lambda lm, texts, **options: written.extend(texts) or capture(lm, texts, **options),
    )
    shifts = replacement_shifts(tiny_llama, TASK, prompts, seed)
    assert shifts.shape == (3, 3, tiny_llama.n_layers)
    pool = {TASK.pairs[i] for i in split(TASK, 3, seed)["demonstrations"]}
    for b, text in enumerate(prompts.vector_texts):
        lines = text.split("\n")
        assert written[4 * b] == text
        for i in range(3):
            other = written[4 * b + 1 + i].split("\n")
            assert [j for j in range(4) if other[j] != lines[j]] == [i]
            assert other[i] in {f"Example:{x} → {y}" for x, y in pool - set(prompts.demos[b])}
    alone = capture(tiny_llama, [written[0], written[2]])
    expected = (alone[1] - alone[0]).norm(dim=-1) / alone[0].norm(dim=-1)
    torch.testing.assert_close(shifts[0, 1], expected, **FLOAT32)
    first = replacement_shifts(tiny_llama, TASK, prompts, seed, limit=2)
    torch.testing.assert_close(first, shifts[:2], **FLOAT32)


def test_a_planted_combination_is_found_and_controls_explain_nothing(tiny_llama, monkeypatch):
    """Vectors made as 0.2, 0.3, 0.5 of the answers' states, plus the query's: all of it is explained by just these."""
    B, N, L, d = 40, 3, 2, 24
    states = torch.randn(B, 4 * N + 2, L, d, generator=torch.Generator().manual_seed(0)) + 10
    planted = torch.tensor([0.2, 0.3, 0.5])
    answers = states[:, TOKENS.index("answer") : -2 : 4]
    states[:, -1] = torch.einsum("bnld,n->bld", answers, planted) + 0.7 * states[:, -2]
    monkeypatch.setattr(demonstration_weights, "demonstration_states", lambda lm, prompts: states)
    lm = type("Layers", (), {"n_layers": L})
    fits, betas = combination_fits(lm, None, seed=0)
    mean = fits.groupby(["token", "states"])["r2"].mean()
    assert mean["answer", "own"] == pytest.approx(1, abs=1e-6)
    query_alone = 0.7**2 / (0.7**2 + planted.square().sum().item())
    for states_name in ("shuffled", "random", "none"):
        assert mean["answer", states_name] == pytest.approx(query_alone, abs=0.1)
    assert mean["input", "own"] == pytest.approx(query_alone, abs=0.1)
    found = betas.query("token == 'answer'").groupby("demo")["weight"].mean()
    np.testing.assert_allclose(found, planted, atol=1e-6)


def test_a_record_agrees_with_its_verification(tiny_facts, monkeypatch):
    monkeypatch.setattr(demonstration_weights, "SELECTION_PROMPTS", 4)
    sizes = {"n_demos": 3, "n_prompts": 3, "n_fits": 8, "seed": 0, "template": TEMPLATES[0]}
    record = recorded(WEIGHTS, task=TASK.name, **tiny_facts, **sizes)
    assert all(item.agrees for item in WEIGHTS.verify(record))
    assert record.table("shifts")["prompt"].nunique() == 3
    monkeypatch.setattr(
        demonstration_weights, "capture", lambda lm, texts, **options: 1 + capture(lm, texts, **options)
    )
    assert not all(item.agrees for item in WEIGHTS.verify(record))
