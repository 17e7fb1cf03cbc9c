"""The learner of each family of functions that is told which family it is: what a model could gain by knowing it.

linear: ridge regression. sparse: LASSO. leaky: ridge regression on outputs that were put back through the rectifier.
quadratic: ridge regression on the squares. The first and the last are the best possible.
"""

import math

import torch
from sklearn.linear_model import Lasso
from torch import Tensor

from task_vectors.regression.mixtures import FAMILIES, LEAK, LEAKY_MEAN, LEAKY_SD, FamilyMixture, Sequences, rectified
from task_vectors.regression.predictors import ridge

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.2)


def told_errors(mixture: FamilyMixture, test: Sequences, held_out: Sequences) -> dict[str, float]:
    """Each family's squared error at the last query, by the learner that is told; LASSO's penalty suits `held_out`."""
    x, y, classes = test
    predictions = {
        "linear": ridge(mixture, test),
        "leaky": rectified(ridge(mixture, Sequences(x, unrectified(y), classes))),
        "quadratic": ridge(mixture, Sequences((x.square() - 1) / math.sqrt(2), y, classes)),
    }
    found = {
        family: (predicted[:, -1] - y[:, -1]).square()[classes == FAMILIES.index(family)].mean().item()
        for family, predicted in predictions.items()
    }
    tuning, mine = (of_family(sequences, "sparse") for sequences in (held_out, test))
    penalty = min(PENALTIES, key=lambda p: (last_lasso(tuning, p) - tuning.y[:, -1]).square().mean())
    found["sparse"] = (last_lasso(mine, penalty) - mine.y[:, -1]).square().mean().item()
    return {family: found[family] for family in FAMILIES}


def of_family(sequences: Sequences, family: str) -> Sequences:
    """Those of one family."""
    return Sequences(*(part[sequences.classes == FAMILIES.index(family)] for part in sequences))


def unrectified(y: Tensor) -> Tensor:
    """What mixtures.rectified was given."""
    v = y * LEAKY_SD + LEAKY_MEAN
    return torch.where(v > 0, v, v / LEAK)


def last_lasso(sequences: Sequences, penalty: float) -> Tensor:
    """LASSO's prediction of the last output: [B]."""
    fit = Lasso(alpha=penalty, fit_intercept=False, max_iter=5000, tol=1e-3)
    x, y = (part.double().numpy() for part in sequences[:2])
    return torch.tensor(
        [inputs[-1] @ fit.fit(inputs[:-1], outputs[:-1]).coef_ for inputs, outputs in zip(x, y, strict=True)]
    )
