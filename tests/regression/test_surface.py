"""What needs no knowledge of classes, beside a loop and beside ridge regression's own predictions."""

import torch

from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.predictors import ridge
from task_vectors.regression.readings import balanced
from task_vectors.regression.surface import mean_product, ridge_weights

MIXTURE = SparseMixture(dim=4, rank=2, n_classes=2)


def test_the_mean_product_is_that_of_the_demonstrations_alone():
    sequences = balanced(MIXTURE, 3, 6, seed=0)
    expected = [sum(x[i] * y[i] for i in range(5)) / 5 for x, y in zip(sequences.x, sequences.y, strict=True)]
    torch.testing.assert_close(mean_product(sequences), torch.stack(expected))
    sequences.x[:, -1], sequences.y[:, -1] = 9, 9
    torch.testing.assert_close(mean_product(sequences), torch.stack(expected))


def test_ridge_weights_predict_as_ridge_regression_does():
    sequences = balanced(MIXTURE, 5, 8, seed=1)
    predicted = (sequences.x[:, -1] * ridge_weights(MIXTURE, sequences)).sum(1)
    torch.testing.assert_close(predicted, ridge(MIXTURE, sequences)[:, -1], atol=1e-4, rtol=1e-3)
