"""Means are those of the prompts that are named, controls have their length, and own states change nothing."""

import pytest
import torch

from task_vectors.experiments import patched_means
from task_vectors.experiments.patched_means import ENOUGH, INTERVENTION, KINDS, NONE, mean_states, patch, without_null
from task_vectors.lm.interventions import layer_sweep
from task_vectors.lm.scoring import score
from task_vectors.prompts.families import family_prompts
from task_vectors.records.store import recorded
from task_vectors.tasks.families.bitwise import bitwise_arithmetic

FAMILY = bitwise_arithmetic(3)


@pytest.fixture
def states():
    return torch.randn(4, 50, 3, 8, generator=torch.Generator().manual_seed(0))  # [K, B, L, d], Null last


def test_means(states):
    solved = torch.zeros(4, 50, dtype=torch.bool)
    solved[0, 3 : 3 + ENOUGH] = True
    solved[1, : ENOUGH - 1] = True
    solved[2] = True
    means = mean_states(states, solved, 0)
    assert tuple(means) == KINDS
    assert all(vectors.shape == (3, 3, 8) for vectors in means.values())
    torch.testing.assert_close(means["positive"][0], states[0, 3 : 3 + ENOUGH].mean(0))
    assert means["positive"][1].isnan().all()  # one too few
    # Of a task all of whose prompts are solved, as many unselected ones are all of them.
    torch.testing.assert_close(means["positive"][2], states[2].mean(0))
    torch.testing.assert_close(means["unselected"][2], states[2].mean(0))
    for task in range(3):
        torch.testing.assert_close(means["negative"][task], states[3].mean(0))


def test_controls_have_the_means_length_at_every_layer(states):
    means = mean_states(states, torch.ones(4, 50, dtype=torch.bool), 0)
    for kind in ("random", "wrong task"):
        torch.testing.assert_close(means[kind].norm(dim=-1), means["unselected"].norm(dim=-1))
    direction = torch.nn.functional.cosine_similarity(means["wrong task"][0], means["unselected"][1], -1)
    torch.testing.assert_close(direction, torch.ones(3))


def test_unselected_prompts_do_not_depend_on_which_were_solved(states):
    halves = [torch.arange(50).expand(4, 50) % 2 == parity for parity in (0, 1)]
    first, second = (mean_states(states, solved, 5)["unselected"] for solved in halves)
    assert torch.equal(first, second)
    assert not torch.equal(first, mean_states(states, halves[0], 6)["unselected"])


def test_patching_equals_a_sweep_and_skips_tasks_without_a_mean(tiny_llama):
    prompts = without_null(family_prompts(FAMILY, 2, 3, 0))
    assert prompts.labels.max() == 5
    means = torch.randn(6, 3, 32, generator=torch.Generator().manual_seed(1))
    means[2, 1, 0] = torch.nan
    found = patch(tiny_llama, prompts, means)
    assert found.shape == (6, 3, 3)
    assert (found[2] == NONE).all()
    for task in (0, 5):
        rows = slice(3 * task, 3 * task + 3)
        vectors = means[task].expand(3, -1, -1)
        expected = layer_sweep(tiny_llama, list(prompts.texts[rows]), vectors, list(prompts.completions[rows]))
        assert torch.equal(found[task].bool(), expected.exact)


def test_own_states_put_back_change_nothing(tiny_llama):
    prompts = family_prompts(FAMILY, 2, 2, 0)
    read = score(tiny_llama, list(prompts.texts), list(prompts.completions))
    sweep = layer_sweep(tiny_llama, list(prompts.texts), read.states, list(prompts.completions))
    assert torch.equal(sweep.exact, read.right[:, None].expand_as(sweep.exact))
    torch.testing.assert_close(sweep.log_prob, read.log_prob[:, None].expand_as(sweep.log_prob), rtol=1e-4, atol=1e-4)


def test_a_record_is_verified(tiny_llama, monkeypatch, tmp_path):
    monkeypatch.setattr(patched_means, "checked_model", lambda *_: tiny_llama)
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    facts = {"model": "tiny", "weights": "", "dtype": "float32", "family": "bitwise", "options": {"digits": 3}}
    record = recorded(INTERVENTION, **facts, source="", n_demos=1, n_sources=4, n_prompts=3, seed=0)
    assert record.table("sources").task.tolist() == list(FAMILY.tasks)
    assert {kind: tuple(right.shape) for kind, right in record.tensors("patched").items()} == dict.fromkeys(
        KINDS, (6, 3, 3)
    )
    assert (record.tensors("patched")["positive"] == NONE).all()
    assert (record.tensors("patched")["random"] != NONE).all()
    assert all(comparison.agrees for comparison in INTERVENTION.verify(record))
