"""Probes beside Task Decodability: what a linear and a quadratic rule can tell of the class.

Within a class the weights w vary around zero, so states of one class may differ from another's in their directions and
not in their mean: neighbors can miss what a quadratic rule finds.
"""

import warnings

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

KINDS = ("linear", "quadratic")
FOLDS = 5
COMPONENTS = 20  # that the quadratic rule sees: it must estimate a covariance for each class


def probe_accuracy(kind: str, states: Tensor, classes: Tensor) -> float:
    """Cross-validated accuracy of a linear (shrunken LDA) or quadratic (QDA) rule on states [N, d] of one layer."""
    X, z = states.double().numpy(), classes.numpy()
    if kind == "linear":
        rule = make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    elif kind == "quadratic":
        n_components = min(COMPONENTS, X.shape[1], len(X) // (4 * len(np.unique(z))))
        rule = make_pipeline(
            StandardScaler(), PCA(n_components, random_state=0), QuadraticDiscriminantAnalysis(reg_param=0.1)
        )
    else:
        raise ValueError(f"unknown probe {kind!r}; there are: {', '.join(KINDS)}")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # states of an untrained layer may be collinear
        return float(cross_val_score(rule, X, z, cv=folds).mean())
