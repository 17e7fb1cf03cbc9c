"""What the surface of a sequence tells, with no knowledge of classes: the level that a state must exceed."""

import torch
from torch import Tensor

from task_vectors.regression.mixtures import FamilyMixture, Sequences, SparseMixture


def mean_product(sequences: Sequences) -> Tensor:
    """The average of x_i y_i over the demonstrations, the last query left out: [B, D]."""
    return (sequences.x[:, :-1] * sequences.y[:, :-1, None]).mean(1)


def ridge_weights(mixture: SparseMixture | FamilyMixture, sequences: Sequences) -> Tensor:
    """The weights of ridge regression in all D inputs, as in predictors.ridge, on the demonstrations: [B, D]."""
    x, y = sequences.x[:, :-1], sequences.y[:, :-1, None]
    penalty = mixture.dim * mixture.noise**2 * torch.eye(mixture.dim)
    return torch.linalg.solve(x.mT @ x + penalty, x.mT @ y)[..., 0]
