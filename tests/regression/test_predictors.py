import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from task_vectors.regression.mixtures import FamilyMixture, Sequences, SparseMixture
from task_vectors.regression.predictors import (
    all_predictions,
    bayes,
    lasso,
    least_squares,
    oracle_ridge,
    ridge,
    tune_lasso,
)

SINGLE = {"atol": 1e-5, "rtol": 1e-5}  # computed in float64, given in float32
SIGMAS = 4  # standard errors that an estimate may be off
DEFAULT = SparseMixture()
OVERLAPPING = SparseMixture(dim=6, rank=3, n_classes=4, noise=0.4)
UNEVEN = replace(OVERLAPPING, frequencies=(0.7, 0.2, 0.1, 0.0))
mixtures = pytest.mark.parametrize("mixture", [DEFAULT, OVERLAPPING, UNEVEN])


def drawn(mixture, batch=20, n=21, seed=0):
    return mixture.sample(batch, n, torch.Generator().manual_seed(seed))


def part(sequences, kept):
    return Sequences(*(tensor[kept] for tensor in sequences))


def by_integration(mixture, x, y):
    """Prediction of y_i and posterior before it, of one sequence, by sums over a fine grid of each class's weight."""
    w = np.linspace(-9, 9, 200_001)
    predictions, posteriors = [], []
    for i in range(len(y) + 1):
        means, masses = [], []
        for (place,), prior in zip(mixture.supports.tolist(), mixture.frequencies or (0.5, 0.5), strict=True):
            misses = y[:i, None] - x[:i, place, None] * w
            joint = prior * np.exp(-(w**2) / 2 - (misses**2).sum(0) / (2 * mixture.noise**2))
            masses.append(joint.sum())
            means.append((joint * w).sum() / joint.sum() * x[i, place] if i < len(y) else 0)
        posteriors.append(np.array(masses) / sum(masses))
        predictions.append(posteriors[-1] @ means)
    return predictions[:-1], posteriors


@pytest.mark.parametrize("frequencies", [None, (0.9, 0.1)])
@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_bayes_is_what_integration_over_the_weights_gives(frequencies, noise):
    mixture = SparseMixture(dim=2, rank=1, n_classes=2, noise=noise, frequencies=frequencies)
    sequences = drawn(mixture, batch=8, n=6)
    found = bayes(mixture, sequences)
    for b in range(8):
        predictions, posteriors = by_integration(mixture, sequences.x[b].double().numpy(), sequences.y[b].numpy())
        torch.testing.assert_close(found.predictions[b].double(), torch.tensor(predictions), **SINGLE)
        torch.testing.assert_close(found.posterior[b].double(), torch.tensor(np.array(posteriors)), **SINGLE)


@mixtures
def test_the_posterior_sums_to_one_and_starts_at_the_frequencies(mixture):
    posterior = bayes(mixture, drawn(mixture, n=9)).posterior
    assert posterior.shape == (20, 10, mixture.n_classes)
    torch.testing.assert_close(posterior.sum(-1), torch.ones(20, 10))
    start = torch.tensor(mixture.frequencies or [1 / mixture.n_classes] * mixture.n_classes)
    torch.testing.assert_close(posterior[:, 0], start.expand(20, -1))


def test_a_class_that_never_comes_is_never_believed():
    posterior = bayes(UNEVEN, drawn(UNEVEN)).posterior
    assert not posterior[..., 3].any()
    assert posterior.isfinite().all()


def closed_form(x, y, penalty):
    """(XᵀX + λ I)⁻¹ Xᵀy at every prefix, times the next input."""
    x, y = x.double(), y.double()
    identity = torch.eye(x.shape[-1], dtype=torch.float64)
    predictions = []
    for i in range(y.shape[1]):
        X = x[:, :i]
        w = torch.linalg.solve(X.mT @ X + penalty * identity, X.mT @ y[:, :i, None])  # [B, D, 1]
        predictions.append((x[:, i, None] @ w)[:, 0, 0])
    return torch.stack(predictions, 1).float()


@mixtures
def test_ridge_is_its_closed_form_at_every_prefix(mixture):
    sequences = drawn(mixture)
    expected = closed_form(sequences.x, sequences.y, mixture.noise**2 * mixture.dim)
    torch.testing.assert_close(ridge(mixture, sequences), expected, **SINGLE)


@mixtures
def test_the_oracle_is_ridge_in_the_support(mixture):
    sequences = drawn(mixture)
    inside = torch.stack([x[:, mixture.supports[z]] for x, z in zip(sequences.x, sequences.classes, strict=True)])
    expected = closed_form(inside, sequences.y, mixture.noise**2 * mixture.rank)
    torch.testing.assert_close(oracle_ridge(mixture, sequences), expected, **SINGLE)


def test_with_one_class_bayes_is_the_oracle():
    mixture = SparseMixture(dim=6, rank=2, n_classes=1)
    sequences = drawn(mixture)
    torch.testing.assert_close(bayes(mixture, sequences).predictions, oracle_ridge(mixture, sequences))


@pytest.mark.parametrize("i", [1, 3, 6])
def test_least_squares_goes_through_all_demonstrations_as_long_as_it_can(i):
    """An input that comes again gets the output that it had, whichever it is."""
    sequences = drawn(OVERLAPPING, n=i + 1)
    for earlier in range(i):
        sequences.x[:, i] = sequences.x[:, earlier]
        torch.testing.assert_close(least_squares(sequences)[:, i], sequences.y[:, earlier], **SINGLE)


def test_least_squares_takes_the_shortest_weights():
    sequences = drawn(OVERLAPPING, n=8)
    for b in range(20):
        x, y = sequences.x[b].double().numpy(), sequences.y[b].double().numpy()
        expected = [0.0, *(x[i] @ np.linalg.lstsq(x[:i], y[:i])[0] for i in range(1, 8))]  # also for i > D = 6
        np.testing.assert_allclose(least_squares(sequences)[b], expected, rtol=1e-5, atol=1e-5)


def test_lasso_ends_at_least_squares_and_at_nothing():
    sequences = drawn(OVERLAPPING, n=12)
    weak, strong = (lasso(sequences, [penalty] * 12) for penalty in (1e-7, 1e3))
    torch.testing.assert_close(weak[:, 9:], least_squares(sequences)[:, 9:], atol=0.02, rtol=0.02)  # sklearn's own tol
    assert not strong.any()
    assert not weak[:, 0].any()


def test_lasso_has_a_penalty_for_each_number_of_demonstrations():
    sequences = drawn(OVERLAPPING, n=6)
    mixed = lasso(sequences, [0.1, 0.1, 1e3, 0.1, 0.2, 0.1])
    assert torch.equal(mixed[:, [1, 3, 5]], lasso(sequences, [0.1] * 6)[:, [1, 3, 5]])
    assert torch.equal(mixed[:, 4], lasso(sequences, [0.2] * 6)[:, 4])
    assert not mixed[:, 2].any()


def test_the_tuned_penalty_is_the_best_of_the_grid_for_each_number_of_demonstrations():
    grid = (0.003, 0.1, 3.0)
    held_out = drawn(OVERLAPPING, batch=40, n=8)
    chosen = tune_lasso(held_out, grid)
    assert len(set(chosen[1:])) > 1
    errors = {penalty: (lasso(held_out, [penalty] * 8) - held_out.y).square().mean(0) for penalty in grid}
    for i in range(1, 8):
        assert errors[chosen[i]][i] == min(error[i] for error in errors.values())


@pytest.mark.parametrize("mixture", [OVERLAPPING, FamilyMixture(dim=6, rank=2)])
def test_all_predictions_are_those_of_every_learner_that_knows_the_mixture(mixture):
    sequences, held_out = drawn(mixture, n=5), drawn(mixture, n=5, seed=1)
    expected = {
        "least squares": least_squares(sequences),
        "ridge": ridge(mixture, sequences),
        "LASSO": lasso(sequences, tune_lasso(held_out)),
    }
    if mixture is OVERLAPPING:
        expected["oracle ridge"] = oracle_ridge(mixture, sequences)
        expected["Bayes"] = bayes(mixture, sequences).predictions
    found = all_predictions(mixture, sequences, held_out)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def assert_not_worse(ours, other, name):
    """Errors [B, n] of the same sequences: on average below, and at no position clearly above."""
    difference = (ours - other).double()
    assert difference.mean() < 0, name
    error = difference.std(0) / math.sqrt(len(difference))
    assert (difference.mean(0) <= SIGMAS * error).all(), name


def test_bayes_has_the_lowest_error_but_for_the_one_who_is_told_the_class():
    sequences = drawn(DEFAULT, batch=10_000)
    few, some = slice(100), slice(2000)  # LASSO takes a millisecond a prediction, least squares a quarter
    penalties = tune_lasso(drawn(DEFAULT, batch=25, seed=1))

    def errors(predictions, kept=slice(None)):
        return (predictions - sequences.y[kept]).square()

    ours = errors(bayes(DEFAULT, sequences).predictions)
    assert_not_worse(ours[some], errors(least_squares(part(sequences, some)), some), "least squares")
    assert_not_worse(ours, errors(ridge(DEFAULT, sequences)), "ridge")
    assert_not_worse(ours[few], errors(lasso(part(sequences, few), penalties), few), "LASSO")
    oracle = errors(oracle_ridge(DEFAULT, sequences))
    assert_not_worse(oracle, ours, "the oracle")
    assert oracle.mean(0).min() > DEFAULT.noise**2


@pytest.mark.parametrize("mixture", [DEFAULT, UNEVEN])
def test_the_posterior_is_right_as_often_as_it_says(mixture):
    """The probability of its favorite is the share of sequences in which the favorite is the class."""
    sequences = drawn(mixture, batch=10_000, n=10)
    said, favorite = bayes(mixture, sequences).posterior.double().max(-1)  # [B, n + 1]
    right = (favorite == sequences.classes[:, None]).double()
    for i in (1, 2, 4, 7, 10):
        gap = right[:, i] - said[:, i]
        assert abs(gap.mean()) < SIGMAS * gap.std() / math.sqrt(len(gap))
        unsure = said[:, i] < said[:, i].median()  # not only on average over all, but among those that are unsure
        assert abs(gap[unsure].mean()) < SIGMAS * gap[unsure].std() / math.sqrt(unsure.sum())
    assert right[:, 10].mean() > right[:, 1].mean() + 0.05
