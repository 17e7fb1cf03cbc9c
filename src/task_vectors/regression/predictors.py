"""What the best learners would predict: least squares, LASSO, ridge regression and the Bayes predictor of the mixture.

Each gives predictions [B, n]: entry i is the prediction of y_i from the i demonstrations before it. The Bayes predictor
has the lowest mean squared error that any predictor can have, and comes with the posterior over the classes.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from task_vectors.regression.mixtures import FamilyMixture, Sequences, SparseMixture


class BayesPrediction(NamedTuple):
    """Predictions [B, n], and P(z | the demonstrations before each) [B, n + 1, K], the last after all of them."""

    predictions: Tensor
    posterior: Tensor


def all_predictions(
    mixture: SparseMixture | FamilyMixture, sequences: Sequences, held_out: Sequences
) -> dict[str, Tensor]:
    """The predictions [B, n] of every learner that knows this mixture, by name; LASSO's penalty suits `held_out`."""
    found = {
        "least squares": least_squares(sequences),
        "ridge": ridge(mixture, sequences),
        "LASSO": lasso(sequences, tune_lasso(held_out)),
    }
    if isinstance(mixture, SparseMixture):
        found["oracle ridge"] = oracle_ridge(mixture, sequences)
        found["Bayes"] = bayes(mixture, sequences).predictions
    return found


def least_squares(sequences: Sequences) -> Tensor:
    """The shortest weights of least squared error in all D inputs: [B, n]."""
    x, y = (part.double() for part in sequences[:2])
    predictions = torch.zeros_like(y)
    for i in range(1, y.shape[1]):
        w = torch.linalg.pinv(x[:, :i]) @ y[:, :i, None]  # [B, D, 1]
        predictions[:, i] = (x[:, i, None] @ w)[:, 0, 0]
    return predictions.float()


def ridge(mixture: SparseMixture | FamilyMixture, sequences: Sequences) -> Tensor:
    """Ridge regression in all D inputs, of the penalty that suits weights of variance 1 / D: [B, n]."""
    x, y, _ = sequences
    return _regress(x.double(), y.double(), 1 / mixture.dim, mixture.noise).means.float()


def oracle_ridge(mixture: SparseMixture, sequences: Sequences) -> Tensor:
    """Ridge regression in the true support, as if told the class: [B, n]."""
    x, y, classes = sequences
    places = mixture.supports[classes][:, None].expand(-1, x.shape[1], -1)  # [B, n, rank]
    return _regress(x.gather(2, places).double(), y.double(), 1 / mixture.rank, mixture.noise).means.float()


def bayes(mixture: SparseMixture, sequences: Sequences) -> BayesPrediction:
    """Ridge in every support, weighted by the exact posterior: P(z | demonstrations) ∝ P(z) Π_i N(y_i; m_i, s_i²).

    m_i and s_i² are the mean and variance of the outcome to come in the ridge regression of class z on what came
    before, so their product is its marginal likelihood (Bishop 2006, section 3.4).
    """
    x, y, _ = sequences
    on_supports = x.double()[..., mixture.supports].transpose(1, 2)  # [B, K, n, rank]
    found = _regress(on_supports, y.double()[:, None], 1 / mixture.rank, mixture.noise)  # each [B, K, n]
    evidence = -0.5 * ((y[:, None] - found.means).square() / found.variances + found.variances.log())
    weights = mixture.frequencies or [1 / mixture.n_classes] * mixture.n_classes
    prior = torch.tensor(weights, dtype=torch.float64).log()
    log_posterior = prior[:, None] + torch.nn.functional.pad(evidence.cumsum(-1), (1, 0))  # [B, K, n + 1]
    posterior = log_posterior.softmax(1)
    predictions = (posterior[..., :-1] * found.means).sum(1)
    return BayesPrediction(predictions.float(), posterior.transpose(1, 2).float())


def lasso(sequences: Sequences, penalties: list[float]) -> Tensor:
    """LASSO in all D inputs, by scikit-learn, with a penalty for each number of demonstrations: [B, n]."""
    from sklearn.linear_model import Lasso

    x, y = (part.double().numpy() for part in sequences[:2])
    predictions = torch.zeros(y.shape)
    for i, penalty in enumerate(penalties[1:], start=1):
        fit = Lasso(alpha=penalty, fit_intercept=False, max_iter=500, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that stops at max_iter predicts as well
            for b in range(len(y)):
                predictions[b, i] = float(x[b, i] @ fit.fit(x[b, :i], y[b, :i]).coef_)
    return predictions


def tune_lasso(held_out: Sequences, grid: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.2)) -> list[float]:
    """The penalty of lowest error on held-out sequences for each number of demonstrations, for lasso()."""
    n = held_out.y.shape[1]
    errors = [(lasso(held_out, [penalty] * n) - held_out.y).square().mean(0) for penalty in grid]
    return [grid[best] for best in torch.stack(errors).argmin(0).tolist()]


class _Regression(NamedTuple):
    means: Tensor
    variances: Tensor


def _regress(x: Tensor, y: Tensor, prior_variance: float, noise: float) -> _Regression:
    """Bayesian linear regression along the sequence: of each outcome, the mean and variance before it is seen.

    One outcome updates the weights' mean and covariance by its surprise (recursive least squares), which costs D² a
    step where solving anew costs D³. x [..., n, D], y [..., n]; both results are [..., n].
    """
    n, D = x.shape[-2:]
    shape = torch.broadcast_shapes(x.shape[:-2], y.shape[:-1])
    mean = x.new_zeros(*shape, D)
    covariance = prior_variance * torch.eye(D, dtype=x.dtype).expand(*shape, D, D)
    means, variances = [], []
    for i in range(n):
        xi = x[..., i, :]
        gain = (covariance @ xi[..., None])[..., 0]  # [..., D]
        means.append((mean * xi).sum(-1))
        variances.append((gain * xi).sum(-1) + noise**2)
        scaled = gain / variances[-1][..., None]
        mean = mean + scaled * (y[..., i] - means[-1])[..., None]
        covariance = covariance - scaled[..., None] * gain[..., None, :]
    return _Regression(torch.stack(means, -1), torch.stack(variances, -1))
