import pytest
import torch

from task_vectors.linear_attention.model import Weights, initial_weights
from task_vectors.linear_attention.prompts import get_layout
from task_vectors.linear_attention.restricted import restrict
from task_vectors.linear_attention.theory import live_keys, project
from task_vectors.linear_attention.training import Recipe, evaluate, train_restricted


def start(name: str, n: int = 4, seed: int = 0) -> Weights:
    return initial_weights(get_layout(name), 3, n, [seed], std=0.4)


@pytest.mark.parametrize("name", ["pairs", "triplets"])
def test_the_set_holds_it_and_it_is_nearest_there(name):
    weights = start(name)
    found = restrict(weights).weights()
    alive = live_keys(weights.layout, weights.n)
    for free, tied in zip(weights.D[0], found.D[0], strict=True):
        nearest = project(free, weights.layout, weights.n)
        expected = nearest.concatenation + nearest.formation
        torch.testing.assert_close(tied[:, alive], expected[:, alive], atol=1e-4, rtol=1e-4)
        assert project(tied, weights.layout, weights.n).share == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["pairs", "triplets"])
def test_restricting_twice_changes_nothing(name):
    once = restrict(start(name)).weights()
    twice = restrict(once).weights()
    torch.testing.assert_close(once.D, twice.D, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(once.query_row, twice.query_row)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pairs", "triplets"])
def test_training_stays_in_the_set_and_leaves_the_zero_model_behind(name):
    after = train_restricted(restrict(start(name, seed=1)), Recipe(steps=400, batch=200)).weights()
    assert evaluate(after, 4000, seed=1)[0] < 2
    for D in after.D[0]:
        assert project(D, after.layout, after.n).share == pytest.approx(1, abs=1e-3)
