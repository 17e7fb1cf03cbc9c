"""Leave-one-out k-nearest-neighbor vote over the states of all layers, with no N × N matrix in memory."""

import torch
from torch import Tensor

from task_vectors.kernels.backend import pick_backend
from task_vectors.kernels.knn_vote.fast import knn_vote_by_rows

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
METRICS = ("euclidean", "cosine")
MOST_NEIGHBORS = 128  # that the Triton form keeps in registers


def knn_vote(
    states: Tensor,
    labels: Tensor,
    k: int = 10,
    *,
    metric: str = "euclidean",
    groups: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """The class that the k nearest other states of the same layer vote for: [N], or [N, L], in int64.

    A state is never its own neighbor, nor is one of its own group. Of equal distances the lower index is nearer, of
    equally many votes the class with the nearest member wins, and where fewer than k states are eligible all of them
    vote. This is the prediction whose accuracy in each class is Task Decodability (Han et al. 2025).

    Distances are computed in float32 (float64 for float64 states) after centering. Duplicates are always at distance 0
    of each other and at equal distances from any third state; other distances are compared as rounded, which is exactly
    for Euclidean distances of states on a grid of small integers (README.md says how small).

    Args:
        states: [N, d] or [N, L, d], finite. labels: [N] of integers from 0. k: neighbors, at least 1.
        metric: "euclidean" or "cosine" (one minus the cosine of the angle between two states, none of which is zero).
        groups: [N] of integers; two states with the same one are never neighbors. None: each is a group of its own.
        backend: "torch" or "triton" (not for float64 or k > 128) forces a path; None takes torch, on a GPU too, where
            it was measured to be the faster one.

    Raises:
        ValueError: shapes, types or values that do not fit. RuntimeError: a backend that cannot run here.
    """
    _check(states, labels, k, metric, groups)
    N = len(states)
    groups = torch.arange(N, device=states.device) if groups is None else groups.unique(return_inverse=True)[1]
    if not groups.any():
        raise ValueError(f"no state has a neighbor: all {N} are in one group; give states of at least two groups")
    k = min(k, N - 1)
    if states.dtype == torch.float64 or k > MOST_NEIGHBORS:
        if backend == "triton":
            raise ValueError(
                f"backend 'triton' computes in float32 with k up to {MOST_NEIGHBORS}; got {states.dtype} and k = {k}: "
                "use backend='torch' or None"
            )
        backend = backend or "torch"
    layers = states.detach() if states.ndim == 3 else states.detach()[:, None]  # [N, L, d]
    if pick_backend(backend, states, faster_on_gpu="torch") == "torch":
        predictions = knn_vote_by_rows(layers, labels, k, metric, groups)
    else:
        from task_vectors.kernels.knn_vote.triton import knn_vote_by_tiles

        predictions = knn_vote_by_tiles(layers, labels, k, metric, groups)
    return predictions.view(states.shape[:-1])


def _check(states: Tensor, labels: Tensor, k: int, metric: str, groups: Tensor | None) -> None:
    if states.ndim not in (2, 3) or states.numel() == 0:
        raise ValueError(f"states must be [N, d] or [N, L, d], not empty; got {list(states.shape)}")
    if states.dtype not in DTYPES:
        raise ValueError(f"states must be of a floating type; got {states.dtype}")
    for name, ids in {"labels": labels, "groups": labels if groups is None else groups}.items():
        if ids.shape != states.shape[:1] or ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise ValueError(
                f"{name} must be one integer for each of the {len(states)} states; got {ids.dtype} {list(ids.shape)}"
            )
        if ids.device != states.device:
            raise ValueError(f"{name} must be on the states' device, {states.device}; got {ids.device}")
    if labels.min() < 0:
        raise ValueError(f"labels must count classes from 0; got {labels.min().item()}")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k must be a whole number of neighbors, at least 1; got {k}")
    if metric not in METRICS:
        raise ValueError(f"unknown metric {metric!r}; there are: {', '.join(METRICS)}")
    low, high = states.aminmax()  # nan if any is; far faster than isfinite
    if not (low.isfinite() and high.isfinite()):
        index = int(states.isfinite().flatten(1).all(1).int().argmin())
        raise ValueError(f"states must be finite; those of index {index} are not")
    if metric == "cosine" and (zero := (states == 0).all(-1).view(len(states), -1).any(1)).any():
        raise ValueError(
            f"a zero state has no direction, so no cosine; that of index {int(zero.int().argmax())} is one"
        )
