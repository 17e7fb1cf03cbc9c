import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.linear_attention.heavy_tails import PLAIN_SHARE, log_mean_exp, stretched_inputs
from task_vectors.linear_attention.model import initial_weights, residuals
from task_vectors.linear_attention.prompts import get_layout

N_PROMPTS = 100_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.floats(0, 12), min_size=4, max_size=4), st.integers(0, 10))
def test_the_mean_over_directions_is_what_a_simulation_gives(eigenvalues, seed):
    directions = torch.nn.functional.normalize(torch.randn(40_000, 4, generator=generator(seed)).double(), dim=1)
    values = (directions.square() @ torch.tensor(eigenvalues).double()).exp()
    expected, error = values.mean().item(), values.std().item() / math.sqrt(len(values))
    computed = log_mean_exp(torch.tensor(eigenvalues).double()).exp().item()
    assert computed == pytest.approx(expected, abs=6 * error + 1e-9)


@pytest.mark.parametrize("size", [0.0, 1.0, 400.0])
def test_equal_eigenvalues_need_no_integral(size):
    assert log_mean_exp(torch.full((4,), size)).item() == pytest.approx(size, abs=1e-4)


@pytest.mark.parametrize("rows", [2, 6, 31])
@pytest.mark.parametrize("power", [0, 1, 4, 8])
def test_weighted_moments_are_those_of_normal_inputs(rows, power):
    """E |X|^(2 k) = m (m + 2) … (m + 2 k - 2) for m standard normal numbers."""
    X, importance = stretched_inputs(N_PROMPTS, rows, generator(), torch.float64)
    m = X[0].numel()
    exact = math.prod(m + 2 * i for i in range(power))
    values = importance * X.square().sum((1, 2)) ** power / exact
    error = values.std().item() / math.sqrt(N_PROMPTS)
    assert values.mean().item() == pytest.approx(1, abs=5 * error)
    assert error < 0.02
    assert importance.max() <= 1 / PLAIN_SHARE + 1e-9


def test_it_sees_tails_that_a_plain_sample_misses():
    """E lambda^k of the largest eigenvalue, k = 20: plain samples scatter over orders of magnitude, these do not."""

    def estimates(weighted: bool) -> torch.Tensor:
        means = []
        for seed in range(20):
            X, weight = stretched_inputs(2_000, 11, generator(seed), torch.float64)
            if not weighted:
                X, weight = torch.randn(2_000, 11, 4, generator=generator(seed), dtype=torch.float64), 1.0
            means.append((weight * torch.linalg.eigvalsh(X.mT @ X)[:, -1] ** 20).mean())
        return torch.stack(means)

    def scatter(values: torch.Tensor) -> float:
        return (values.std() / values.mean()).item()

    assert scatter(estimates(weighted=True)) < 0.25
    assert scatter(estimates(weighted=False)) > 1


def test_what_is_averaged_does_not_change_when_inputs_are_rotated():
    weights = initial_weights(get_layout("triplets"), 3, 4, [0], std=0.5, dtype=torch.float64)
    X = torch.randn(5, 5, 4, generator=generator(), dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator(1), dtype=torch.float64)).Q
    torch.testing.assert_close(residuals(weights, X @ rotation), residuals(weights, X) @ rotation)
