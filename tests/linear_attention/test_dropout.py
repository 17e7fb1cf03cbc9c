import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.linear_attention.dropout import (
    OBJECTIVES,
    predicted_weights,
    printed_moment,
    script_moment,
    second_moment,
    visible,
)


def simulated(weights, keep, d, draws, seed):
    """E |answer|^2 / d by drawing inputs and masks; mean and standard error."""
    rng = np.random.default_rng(seed)
    n, m = weights.shape
    inputs = rng.normal(size=(draws, n, d))
    s, t, u = (rng.random((draws, size)) < keep for size in (n, n, m))
    kernel = s[:, :, None] * t[:, None] * np.einsum("bj,ij,kj->bik", u, weights, weights)
    maps = np.einsum("bik,bkd,bie->bde", kernel, inputs, inputs)
    values = (maps**2).sum((1, 2)) / d
    return values.mean(), values.std() / np.sqrt(draws)


@pytest.mark.parametrize("keep", [1.0, 0.8, 0.3])
@pytest.mark.parametrize(("n", "m", "d"), [(3, 4, 4), (2, 5, 1)])
def test_the_moment_is_what_a_simulation_gives(keep, n, m, d):
    weights = np.random.default_rng(n).normal(size=(n, m)) / np.sqrt(n * m)
    mean, error = simulated(weights, keep, d, draws=100_000, seed=1)
    assert second_moment(weights, keep, d) == pytest.approx(mean, abs=4 * error)


def test_a_simulation_tells_the_printed_objective_from_the_derived_one():
    weights = np.random.default_rng(4).normal(size=(3, 4)) / np.sqrt(12)
    mean, error = simulated(weights, 0.5, 8, draws=200_000, seed=1)
    assert second_moment(weights, 0.5, 8) == pytest.approx(mean, abs=4 * error)
    assert abs(printed_moment(weights, 0.5, 8) - mean) > 10 * error
    # Without dropout there is nothing to tell.
    assert printed_moment(weights, 1.0, 8) == pytest.approx(second_moment(weights, 1.0, 8))


def test_the_scripts_objective_is_of_demonstrations_lost_whole():
    weights, keep, rng = np.random.default_rng(4).normal(size=(3, 4)), 0.4, np.random.default_rng(1)
    kept, arrows = (rng.random((400_000, size)) < keep for size in (3, 4))
    dropped = kept[:, :, None] * weights * arrows[:, None]  # [draws, n, m]
    values = ((dropped @ dropped.mT) ** 2).sum((1, 2))
    error = values.std() / np.sqrt(len(values))
    assert script_moment(weights, keep, d=4) == pytest.approx(values.mean(), abs=4 * error)
    assert script_moment(weights, keep, d=4) == script_moment(weights, keep, d=640)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_has_minima_of_its_own(objective):
    moment, found = OBJECTIVES[objective], {}
    for name in OBJECTIVES:
        found[name] = moment(predicted_weights(4, 0.3, objective=name, causal=True, starts=5), 0.3, 4)
    others = [value for name, value in found.items() if name != objective]
    assert found[objective] < min(others) * (1 - 1e-4)


@given(st.floats(0.1, 1), st.integers(1, 8))
def test_the_moment_scales_with_the_fourth_power(keep, d):
    weights = np.random.default_rng(0).normal(size=(3, 4))
    assert second_moment(2 * weights, keep, d) == pytest.approx(16 * second_moment(weights, keep, d))


def test_without_dropout_demonstrations_are_kept_apart():
    """Proposition 3: L L^T is a multiple of the identity."""
    weights = predicted_weights(4, 1.0)
    np.testing.assert_allclose(weights @ weights.T, np.eye(4) / 4, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_the_norm_is_one_and_nothing_invisible_is_read(causal):
    weights = predicted_weights(4, 0.6, causal=causal, starts=5)
    assert np.linalg.norm(weights) == pytest.approx(1)
    assert not weights[~visible(4, causal)].any()


def test_no_other_weights_are_better():
    best = second_moment(predicted_weights(3, 0.7, starts=10), 0.7, 4)
    for seed in range(50):
        other = np.random.default_rng(seed).normal(size=(3, 4))
        assert second_moment(other / np.linalg.norm(other), 0.7, 4) >= best - 1e-9


def test_an_arrow_reads_what_was_answered_before_it():
    assert visible(2, causal=True).tolist() == [[False, True, True], [False, False, True]]


@pytest.mark.parametrize("keep", [0.2, 0.5])
def test_late_demonstrations_weigh_more_in_the_last_causal_arrow(keep):
    """Proposition 5; and several starts agree, however small the moment is."""
    last = [np.abs(predicted_weights(6, keep, causal=True, starts=3, seed=seed)[:, -1]) for seed in range(3)]
    np.testing.assert_allclose(last, np.broadcast_to(last[0], (3, 6)), atol=2e-3)
    assert (np.diff(last[0]) > -1e-3).all()
    assert last[0][-1] > last[0][0] + 0.1
