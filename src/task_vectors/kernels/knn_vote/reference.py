"""The definition in plain torch: one layer and one state at a time, distances in float64."""

import torch
from torch import Tensor


def knn_vote(
    states: Tensor, labels: Tensor, k: int, *, metric: str = "euclidean", groups: Tensor | None = None
) -> Tensor:
    """Predicted classes [N, L] for states [N, L, d]; arguments as in `task_vectors.kernels.knn_vote.knn_vote`."""
    N, L, _ = states.shape
    groups = torch.arange(N, device=states.device) if groups is None else groups
    predictions = [
        vote(labels[neighbors(distances(states[:, layer].double(), i, metric), groups != groups[i], k)])
        for i in range(N)
        for layer in range(L)
    ]
    return torch.tensor(predictions, device=states.device).view(N, L)


def distances(points: Tensor, i: int, metric: str) -> Tensor:
    """From point i of [N, d] to every point: [N], squared if Euclidean."""
    if metric == "euclidean":
        return (points - points[i]).square().sum(1)  # [N]
    norms = points.square().sum(1).sqrt()  # [N]
    return 1 - (points * points[i]).sum(1) / (norms * norms[i])


def neighbors(distance: Tensor, eligible: Tensor, k: int) -> Tensor:
    """The k eligible indices of the smallest distance, nearest first, of equal ones the lower index first."""
    order = distance.argsort(stable=True)
    return order[eligible[order]][:k]


def vote(labels: Tensor) -> int:
    """The commonest of the labels, which are ordered by nearness; of equally common ones that of the nearest member."""
    ordered = labels.tolist()
    return max(ordered, key=ordered.count)  # max gives the first of the largest
