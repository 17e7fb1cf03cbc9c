"""Vectors and states are those of the model that they are said to be from, put into the one that they are said to."""

from contextlib import nullcontext
from dataclasses import asdict

import pytest
import torch

from task_vectors.experiments import band_tuning, tuned_state
from task_vectors.experiments.band_tuning import BAND_TUNING, kept_adapter
from task_vectors.experiments.tuned_state import TUNED_STATE
from task_vectors.lm.answers import end_of_line_ids
from task_vectors.lm.finetuning import Tuning, tuned
from task_vectors.lm.interventions import capture, inject
from task_vectors.lm.tokens import tokenize, up_to_answer
from task_vectors.prompts.families import family_prompts
from task_vectors.records import store
from task_vectors.records.store import Record, recorded
from task_vectors.tasks.families.bitwise import bitwise_arithmetic

TUNING = asdict(Tuning(layers=(1,), rank=2, alpha=4, steps=6, batch=3, rate=0.1, warm_up=1, n_demos=2, seed=3))
TEST = {"family": "bitwise", "options": {"digits": 3}, "n_demos": 2, "n_prompts": 2, "pool": "test"}
TRAINED = {"model": "tiny", "weights": "", "dtype": "float32", "source": "", "family": "bitwise", "seed": 5}
TRAINED |= {"options": {"digits": 3}, "tests": [TEST], "tuning": TUNING | {"layers": [1]}, "keep_adapter": True}
GROUPS, TASKS, L = 2, 6, 3


@pytest.fixture(scope="module")
def record(tiny_llama, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned_state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASK_VECTORS_RECORDS", str(folder / "records"))
        patch.setattr(store, "project_root", lambda: folder)
        for module in (band_tuning, tuned_state):
            patch.setattr(module, "checked_model", lambda *_: tiny_llama)
        yield recorded(TUNED_STATE, trained=TRAINED, n_prompts=GROUPS)


@pytest.fixture(scope="module")
def model(tiny_llama, record):
    """The model "before" or "after", while inside."""
    adapter = kept_adapter(recorded(BAND_TUNING, **TRAINED))
    return lambda which: tuned(tiny_llama, adapter) if which == "after" else nullcontext()


def prompts(lm, shots, pool):
    found = up_to_answer(lm, family_prompts(bitwise_arithmetic(3), shots, GROUPS, TRAINED["seed"], pool=pool))
    return found.texts, found.completions


@torch.no_grad()
def answered(lm, text, answer, state=None, layer=0):
    """Log-probability of the answer and the end of its line, with a state put in after a layer; whether it is right."""
    column, ids = len(tokenize(lm, [text])[0]) - 1, tokenize(lm, [text + answer])[0]
    with nullcontext() if state is None else inject(lm, state[None], layer, column):
        logits = lm.model(torch.tensor([ids])).logits[0, column:].log_softmax(-1)  # [answer + 1, V]
    ends, tail = end_of_line_ids(lm), ids[column + 1 :]
    parts = [logits[i, token] for i, token in enumerate(tail)] + [logits[-1, ends].logsumexp(-1)]
    best = logits.argmax(-1).tolist()
    return sum(parts).item(), best[:-1] == tail and best[-1] in ends.tolist()


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("source", ["before", "after"])
def test_a_vector_of_either_model_is_put_into_either(tiny_llama, record, model, source, where):
    (texts, answers), (sources, _) = prompts(tiny_llama, 0, "test"), prompts(tiny_llama, 2, "selection")
    with model(source):
        vectors = capture(tiny_llama, list(sources))  # [B, L, d]
    name = f"{source} in {where}"
    found, right = record.tensors("log_prob")[name], record.tensors("right")[name]
    assert found.shape == right.shape == (TASKS * GROUPS, L)
    for row in (0, TASKS * GROUPS - 1):
        for layer in range(L):
            with model(where):
                expected = answered(tiny_llama, texts[row], answers[row], vectors[row, layer], layer)
            assert found[row, layer].item() == pytest.approx(expected[0], abs=1e-3)
            assert right[row, layer].item() == expected[1]


@pytest.mark.parametrize(("name", "shots"), [("alone", 0), ("few-shot", 2)])
@pytest.mark.parametrize("which", ["before", "after"])
def test_prompts_are_scored_in_either_model(tiny_llama, record, model, name, shots, which):
    with model(which):
        expected = [answered(tiny_llama, *prompt) for prompt in zip(*prompts(tiny_llama, shots, "test"), strict=True)]
    log_probs, right = zip(*expected[: TASKS * GROUPS], strict=True)
    assert record.tensors("log_prob")[f"{name}, {which}"].tolist() == pytest.approx(log_probs, abs=1e-3)
    assert record.tensors("right")[f"{name}, {which}"].tolist() == list(right)


def test_the_tuned_state_goes_into_the_untuned_run_of_its_own_prompt(tiny_llama, record, model):
    texts, answers = prompts(tiny_llama, 2, "test")
    with model("after"):
        states = capture(tiny_llama, list(texts))
    found, before = record.tensors("log_prob")["through"], record.tensors("log_prob")["few-shot, before"]
    # Below the trained layer the state is the untuned model's own.
    torch.testing.assert_close(found[:, 0], before, atol=1e-3, rtol=1e-4)
    assert (found[:, 1] - before).abs().mean() > 1e-2
    for layer in range(L):
        expected, _ = answered(tiny_llama, texts[3], answers[3], states[3, layer], layer)
        assert found[3, layer].item() == pytest.approx(expected, abs=1e-3)


def test_a_record_is_verified(record, monkeypatch):
    assert [comparison.agrees for comparison in TUNED_STATE.verify(record)] == [True] * 4
    tensors = Record.tensors

    def without_adapter(self, name):
        found = tensors(self, name)
        return {key: torch.zeros_like(value) for key, value in found.items()} if name == "adapter" else found

    monkeypatch.setattr(Record, "tensors", without_adapter)
    assert [comparison.agrees for comparison in TUNED_STATE.verify(record)] == [False] * 4
