"""The ways of putting a vector in are what their names say, and a record's verification finds a wrong one."""

import pytest
import torch

from task_vectors.experiments.injection_window import INJECTION_WINDOW, SENTENCE, WAYS, put_in, read_states, verify
from task_vectors.lm.interventions import capture, layer_sweep
from task_vectors.lm.models import load_model
from task_vectors.prompts.few_shot import few_shot_prompts, render
from task_vectors.records.store import recorded
from task_vectors.tasks.catalog import get_task

SIZES = {"n_demos": 2, "n_prompts": 8, "seed": 1, "template": "Example:{x} → {y}"}


@pytest.fixture
def record(tiny_facts):
    return recorded(INJECTION_WINDOW, **tiny_facts, task="present_to_gerund", **SIZES)


@pytest.fixture
def lm(record):
    return load_model(record.parameters["model"])


@pytest.fixture
def prompts():
    return few_shot_prompts(get_task("present_to_gerund"), 2, 8, 1, queries_per_prefix=4)


def expected(lm, prompts, way: str, i: int) -> torch.Tensor:
    """Log-probability of the answer to prompt i by layer, [L], with the state made here for it alone."""
    j, query = prompts.prefix[i], prompts.zero_shot_texts[i]
    [vector] = capture(lm, [prompts.vector_texts[j]])
    [zero] = capture(lm, [query])
    if way == "own":
        [vector] = capture(lm, [prompts.texts[i]])
    if way == "added":
        [other] = capture(lm, [render(prompts.template, (), prompts.vector_pairs[j][0])])
        vector = zero + (vector - other)
    if way == "rescaled":
        vector = torch.stack([v / v.norm() * z.norm() for v, z in zip(vector, zero, strict=True)])
    text = {"sink": "<eos>", "sentence": SENTENCE}.get(way, "") + query
    return layer_sweep(lm, [text], vector[None], prompts.completions[i : i + 1]).log_prob[0]


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_the_one_that_is_said(record, lm, prompts, way):
    found = record.tensors(way)["log_prob"]
    for i in (1, 6):
        torch.testing.assert_close(found[i], expected(lm, prompts, way, i), rtol=1e-4, atol=1e-4)


def test_a_rescaled_vector_is_as_long_as_what_it_replaces_and_a_state_of_its_own_changes_nothing(lm, prompts):
    states = read_states(lm, prompts, 8)
    nothing = states | {"vector": states["other_zero"]}  # the demonstrations would change nothing
    plain = layer_sweep(lm, prompts.zero_shot_texts, states["zero"], prompts.completions)
    torch.testing.assert_close(put_in(lm, prompts, nothing, "added").log_prob, plain.log_prob, rtol=1e-4, atol=1e-4)


def test_lengths_and_cosines(record, lm, prompts):
    states, found = read_states(lm, prompts, 8), record.tensors("states")
    cosines = [
        [torch.dot(v, z) / (v.norm() * z.norm()) for v, z in zip(*pair, strict=True)]
        for pair in zip(states["vector"], states["zero"], strict=True)
    ]
    torch.testing.assert_close(found["cosine_zero"], torch.tensor(cosines).mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["zero"], states["zero"].norm(dim=-1).mean(0))


def test_a_part_computed_again_agrees_and_another_vector_is_found_out(record):
    assert all(item.agrees for item in verify(record))
    path = record.folder / "added.safetensors"
    path.write_bytes((record.folder / "rescaled.safetensors").read_bytes())
    assert {item.what.split(":")[0] for item in verify(record) if not item.agrees} == {"added"}
