"""Task Decodability (TD): how well a prompt's hidden state tells its task, by the vote of its nearest neighbors.

Han et al. 2025, section 4.1: leave-one-out k-nearest neighbors over the states of all tasks together, k = 10; the TD of
a task is the share of its prompts that are recognized. Chance is one over the number of classes in the pool, so whether
a Null class is in it matters.
"""

import torch
from torch import Tensor

from task_vectors.kernels.knn_vote import knn_vote

K = 10  # neighbors, as in the paper


def task_decodability(
    states: Tensor,
    labels: Tensor,
    k: int = K,
    metric: str = "euclidean",
    groups: Tensor | None = None,
) -> Tensor:
    """Share of each class's states that their k nearest neighbors name: [n_classes] or [L, n_classes].

    Leave-one-out (Han et al. 2025). Vote ties go to the class of the nearest member, distance ties to the lower index.

    Args:
        states: [N, d], or [N, L, d] of several layers.
        labels: [N], classes from 0, none of them empty.
        k: neighbors that vote.
        metric: "euclidean" or "cosine".
        groups: [N]; states of one group (prompts that share a query) are never each other's neighbors.

    Raises:
        ValueError: a class without states, or what knn_vote does not take.
    """
    n_classes = _count_classes(states, labels, groups)
    votes = knn_vote(states, labels, k, metric=metric, groups=groups)
    right = (votes.view(len(votes), -1) == labels[:, None]).float()  # [N, L]
    shares = torch.stack([right[labels == z].mean(0) for z in range(n_classes)], -1)  # [L, n_classes]
    return shares[0] if states.ndim == 2 else shares


def pairwise_decodability(
    states: Tensor, labels: Tensor, k: int = K, metric: str = "euclidean", groups: Tensor | None = None
) -> Tensor:
    """TD of class i in a pool of i and j alone, [n_classes, n_classes]; nan on the diagonal.

    Chance is one half. A pair's two numbers, [i, j] and [j, i], are its two classes' shares (Han et al. 2025, Fig. 23).

    Args:
        states: [N, d] of one layer.
        labels: [N], classes from 0.
        k: neighbors that vote.
        metric: "euclidean" or "cosine".
        groups: [N]; states of one group are never each other's neighbors.

    Raises:
        ValueError: states of several layers, or a class without states.
    """
    if states.ndim != 2:
        raise ValueError(f"states must be those of one layer, [N, d]; got {list(states.shape)}")
    n_classes = _count_classes(states, labels, groups)
    table = torch.full((n_classes, n_classes), torch.nan)
    for i in range(n_classes):
        for j in range(i + 1, n_classes):
            pool = (labels == i) | (labels == j)
            mine = None if groups is None else groups[pool]
            votes = knn_vote(states[pool], labels[pool], k, metric=metric, groups=mine)
            for z, other in ((i, j), (j, i)):
                table[z, other] = (votes[labels[pool] == z] == z).float().mean()
    return table


def _count_classes(states: Tensor, labels: Tensor, groups: Tensor | None) -> int:
    for name, ids in {"labels": labels, "groups": labels if groups is None else groups}.items():
        if ids.shape != states.shape[:1] or ids.is_floating_point():
            raise ValueError(f"{name} must be one integer a state; got {ids.dtype} {list(ids.shape)} for {len(states)}")
    counts = labels.bincount() if len(labels) and labels.min() >= 0 else labels
    if len(counts) < 2 or (counts <= 0).any():
        raise ValueError(
            f"labels must name at least two classes from 0, each with states; got {labels.unique().tolist()}"
        )
    return len(counts)
