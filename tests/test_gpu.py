"""On a GPU everything comes out as on the CPU, and in main memory. Skipped where there is no GPU."""

import copy

import pytest
import torch
from tiny_models import tiny_model

from task_vectors.experiments.band_tuning import look
from task_vectors.lm.finetuning import Tuning, train, tuned
from task_vectors.lm.interventions import capture, continue_greedily, inject, layer_sweep, unembed
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.scoring import score
from task_vectors.tasks.families.bitwise import bitwise_arithmetic

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

TEXTS = ["Example:cat → cats\nExample:dog →", "Example:a →", "Example:mouse → mice\nExample:ox → oxen\nExample:hen →"]
ANSWERS = [" dogs", " b", " hens"]
CLOSE = {"rtol": 1e-3, "atol": 2e-3}


@pytest.fixture(params=["gpt2", "gemma3_text", "qwen3"])
def pair(request) -> tuple[LanguageModel, LanguageModel]:
    """The same model in main memory and on the GPU."""
    lm = tiny_model(request.param)
    return lm, LanguageModel(lm.name, copy.deepcopy(lm.model).to("cuda"), lm.tokenizer)


def test_states_and_scores(pair):
    here, there = pair
    states = capture(here, TEXTS)
    torch.testing.assert_close(capture(there, TEXTS), states, **CLOSE)
    for vectors in (states, states.to("cuda")):
        torch.testing.assert_close(layer_sweep(there, TEXTS, vectors), layer_sweep(here, TEXTS, states), **CLOSE)
        swept = layer_sweep(there, TEXTS, vectors, ANSWERS)
        torch.testing.assert_close(swept.log_prob, layer_sweep(here, TEXTS, states, ANSWERS).log_prob, **CLOSE)
        written = continue_greedily(there, TEXTS, vectors=vectors[:, 1], layer=1)
        assert written.texts == continue_greedily(here, TEXTS, vectors=states[:, 1], layer=1).texts
    found, wanted = score(there, TEXTS, ANSWERS), score(here, TEXTS, ANSWERS)
    torch.testing.assert_close(found.states, wanted.states, **CLOSE)
    torch.testing.assert_close(found.log_prob, wanted.log_prob, **CLOSE)
    torch.testing.assert_close(unembed(there, states[:, 0]).cpu(), unembed(here, states[:, 0]), **CLOSE)


@torch.no_grad()
def test_injection_takes_vectors_from_anywhere(pair):
    here, there = pair
    ids, states = torch.arange(3, 12)[None], torch.ones(1, here.d_model)
    with inject(here, states, 1):
        wanted = here.model(ids).logits
    for vectors in (states, states.to("cuda")):
        with inject(there, vectors, 1):
            torch.testing.assert_close(there.model(ids.to("cuda")).logits.cpu(), wanted, **CLOSE)


def test_a_trained_adapter_is_the_same_on_both(pair, tmp_path):
    here, there = pair
    family = bitwise_arithmetic(digits=3)
    tuning = Tuning(layers=(1,), rank=2, alpha=4, steps=4, batch=3, warm_up=1, rate=0.1, n_demos=1)
    train(there, family, tuning, tmp_path, every=2, stop=3)
    adapter, losses, _ = train(there, family, tuning, tmp_path, every=2)  # goes on from the second step
    torch.testing.assert_close(losses[:1], train(here, family, tuning, stop=1)[1], **CLOSE)
    tables = []
    for lm in pair:
        with tuned(lm, adapter):
            tables.append(
                look(
                    lm, family="bitwise", options={"digits": 3}, n_demos=1, n_prompts=3, pool="test", seed=0, lens=True
                )
            )
    for one, other in zip(*tables, strict=True):
        if isinstance(one, dict):
            assert all((one[name] == other[name]).float().mean() > 0.9 for name in one)
        else:
            torch.testing.assert_close(
                torch.tensor(other.log_prob.to_numpy()), torch.tensor(one.log_prob.to_numpy()), **CLOSE
            )
