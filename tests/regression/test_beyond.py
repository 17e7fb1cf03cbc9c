"""The posterior beyond ridge's weights: what holds it is told from what does not, on sequences that were not fitted."""

import pytest
import torch

from task_vectors.regression.beyond import beyond_weights, floors
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.predictors import bayes
from task_vectors.regression.readings import balanced
from task_vectors.regression.surface import ridge_weights

N, D, K = 2000, 6, 3


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, D, generator=generator), torch.rand(N, K, generator=generator).softmax(1)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_states_that_hold_the_posterior_beside_the_weights_are_at_the_ceiling(drawn):
    weights, posterior = drawn
    states = torch.cat([posterior @ noise(K, 5), weights @ noise(D, 5)], 1)  # [N, 10]
    assert beyond_weights(states, weights, posterior) > 0.95


def test_what_the_weights_tell_linearly_does_not_count():
    """A posterior that is linear in the weights: the states hold it all, and nothing of it beyond them."""
    weights = noise(N, D)
    posterior = 0.5 + weights[:, :K] / 100
    states = torch.cat([weights, noise(N, 4)], 1)
    assert abs(beyond_weights(states, weights, posterior)) < 0.02
    assert beyond_weights(states, noise(N, D).flip(0), posterior) > 0.9


def test_many_states_without_knowledge_do_not_predict_other_sequences(drawn):
    """As many dimensions as half of the fitted sequences: on those themselves R² would be one half."""
    weights, posterior = drawn
    assert beyond_weights(noise(N, N // 4), weights, posterior) < 0


def test_half_of_the_variance_is_one_half(drawn):
    weights, _ = drawn
    seen, hidden = noise(2, N, K).unbind()
    assert beyond_weights(seen, weights, seen + hidden) == pytest.approx(0.5, abs=0.05)


def test_the_floors_are_functions_of_the_weights_alone(drawn):
    """Sizes tell a posterior that is made of sizes; neither floor tells one that the weights know nothing of."""
    weights, posterior = drawn
    made_of_sizes = weights.abs()[:, :K] / 100
    assert floors(weights, made_of_sizes, 32)["sizes"] > 0.95
    assert max(floors(weights, posterior, 32).values()) < 0.02


def test_nothing_but_the_posterior_itself_is_beyond_all_floors():
    mixture = SparseMixture()
    sequences = balanced(mixture, 250, 6, seed=0)
    weights, posterior = ridge_weights(mixture, sequences), bayes(mixture, sequences).posterior[:, 5]
    found = floors(weights, posterior, 64)
    assert 0 < found["random projection"] < found["sizes"] < 0.6
    assert beyond_weights(posterior, weights, posterior) > 0.9


@pytest.mark.parametrize(("n_states", "n_weights"), [(8, 6), (3, 3)])
def test_sequences_that_do_not_match_are_refused(n_states, n_weights):
    with pytest.raises(ValueError, match="of the same sequences"):
        beyond_weights(torch.zeros(n_states, 2), torch.zeros(n_weights, 2), torch.zeros(n_states, 2))
