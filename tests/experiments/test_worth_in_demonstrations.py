"""Distances are those of their definitions, prompts are who they say they are, and a wrong record is found out."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from task_vectors.experiments.worth_in_demonstrations import (
    QUERIES_PER_PREFIX,
    WORTH_IN_DEMONSTRATIONS,
    candidates,
    compare,
    draw,
    leave_out,
    next_token,
    verify,
)
from task_vectors.lm.interventions import capture, inject
from task_vectors.lm.models import load_model
from task_vectors.lm.tokens import prompt_tokens
from task_vectors.prompts.few_shot import DEFAULT_TEMPLATE, render, split
from task_vectors.records.store import recorded
from task_vectors.tasks.catalog import get_task

SHOTS, SOURCES = [0, 1, 3], [1, 2]
SIZES = {"n_queries": 8, "n_draws": 3, "n_selection": 4, "seed": 0, "template": DEFAULT_TEMPLATE}
TASK = "present_to_gerund"


@pytest.fixture
def record(tiny_facts):
    return recorded(WORTH_IN_DEMONSTRATIONS, **tiny_facts, task=TASK, shots=SHOTS, sources=SOURCES, **SIZES)


@pytest.fixture
def lm(record):
    return load_model(record.parameters["model"])


def plain(lm, text: str) -> torch.Tensor:
    """Log-probabilities of the next token, [V], by one forward of this text alone."""
    with torch.no_grad():
        return lm.model(torch.tensor(prompt_tokens(lm, [text]))).logits[0, -1].log_softmax(-1)


def with_vector(lm, text: str, vector: torch.Tensor, layer: int) -> torch.Tensor:
    with inject(lm, vector[None], layer):
        return plain(lm, text)


def random_prompts(R: int, K: int, V: int = 7) -> torch.Tensor:
    return torch.randn(R, K, V, generator=torch.Generator().manual_seed(R * K)).mul(2).log_softmax(-1)


def test_the_mean_over_single_prompts_is_the_distance_to_their_mean_plus_their_spread():
    prompts, others = random_prompts(3, 4), random_prompts(1, 5)[0]  # [R, K, V], [C, V]
    found = compare(prompts, others)
    single = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=prompts[:, None]),
        torch.distributions.Categorical(logits=others[None, :, None]),
    )  # [R, C, K]
    torch.testing.assert_close(single.mean(0), found["to_vector"] + found["spread"])
    assert (found["spread"] > 0.1).all(), "without a spread the two would be equal by themselves"


def test_the_other_direction_and_agreement():
    prompts, others = random_prompts(3, 4), random_prompts(1, 5)[0]
    found, mean = compare(prompts, others), prompts.exp().mean(0)  # [K, V]
    expected = [[(q.exp() * (q - p.log())).sum() for p in mean] for q in others]
    torch.testing.assert_close(found["from_vector"], torch.tensor(expected))
    same = [[float(q.argmax() == p.argmax()) for p in mean] for q in others]
    assert found["agrees"].tolist() == same
    assert 0 < found["agrees"].mean() < 1, "both outcomes are needed to tell them apart"


def test_a_candidate_is_never_among_the_prompts_it_is_compared_with():
    prompts = random_prompts(4, 2)
    assert torch.equal(leave_out(prompts, 1), prompts[[0, 2, 3]])


def test_candidates_are_the_prompts_and_vectors_that_are_said(lm):
    layer, [drawn, _] = 1, draw(get_task(TASK), 3, 8, 2, 0)
    said, _ = next_token(lm, DEFAULT_TEMPLATE, drawn, layer, SHOTS, SOURCES)
    demos, [other, _], q = drawn["demos"][1], drawn["others"][1], 2
    zero = render(DEFAULT_TEMPLATE, (), drawn["queries"][q][0])
    for c, (kind, n) in enumerate(candidates(SHOTS, SOURCES)):
        if kind == "shot":
            expected = plain(lm, render(DEFAULT_TEMPLATE, tuple(demos[:n]), drawn["queries"][q][0]))
        else:
            source, without = (
                capture(lm, [render(DEFAULT_TEMPLATE, tuple(demos[:m]), other)])[0, layer] for m in (n, 0)
            )
            own = capture(lm, [zero])[0, layer]
            expected = with_vector(lm, zero, source if kind == "replaced" else own + (source - without), layer)
        torch.testing.assert_close(said[1, c, q], expected, rtol=1e-4, atol=1e-4, msg=f"{kind} {n}")


def test_queries_demonstrations_and_vectors_queries_are_disjoint():
    task = get_task(TASK)
    sets, pools = draw(task, 5, 8, 3, 0), split(task, 5, 0)
    for name, drawn in (
        ("test", [pair for each in sets for pair in each["queries"]]),
        ("demonstrations", [pair for each in sets for demos in each["demos"] for pair in demos]),
        ("vector", [pair for each in sets for pair in each["others"]]),
    ):
        assert set(drawn) <= {task.pairs[i] for i in pools[name]}, name
    assert len({pair for each in sets for pair in each["queries"]}) == 8
    with pytest.raises(ValueError, match="multiple of"):
        draw(task, 5, QUERIES_PER_PREFIX + 1, 3, 0)


def test_the_vector_by_layer_agrees_with_the_one_at_the_chosen_layer(record):
    """With one draw left out, the first draw's row by layer is one of those that were averaged."""
    facts = {**record.parameters, "n_draws": 2}
    two = recorded(WORTH_IN_DEMONSTRATIONS, **facts)
    lm, layer = load_model(facts["model"]), int(two.table("layer").layer[0])
    [drawn, _] = draw(get_task(TASK), 3, 8, 2, 0)
    said, _ = next_token(lm, DEFAULT_TEMPLATE, drawn, layer, SHOTS, SOURCES)
    at = candidates(SHOTS, SOURCES).index(("replaced", SOURCES[-1]))
    expected = compare(said[1:, : len(SHOTS), 0], said[0, [at], 0])
    for name, found in two.tensors("layers").items():
        torch.testing.assert_close(found[0, layer], expected[name][0], rtol=1e-4, atol=1e-4)


def test_a_record_is_small_and_a_part_of_it_computed_again_agrees_and_another_is_found_out(record):
    C, K = len(candidates(SHOTS, SOURCES)), len(SHOTS)
    assert {name: tuple(part.shape) for name, part in record.tensors("distances").items()} == {
        name: (8, C, K) for name in ("to_vector", "from_vector", "spread", "agrees")
    }
    assert all(item.agrees for item in verify(record))
    path = record.folder / "distances.safetensors"
    parts = load_file(path)
    save_file(parts | {"to_vector": parts["from_vector"] * 1.1}, path)
    assert {item.what for item in verify(record) if not item.agrees} == {"distances, to_vector: mean"}
