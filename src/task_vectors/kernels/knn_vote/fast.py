"""The torch form: blocks of rows, each one matrix product, a selection of the k nearest, and the vote."""

import torch
from torch import Tensor

from task_vectors.kernels.knn_vote.points import make_points

# Scores [rows, N] of one block by device: 4 MiB in float32 stay in a cache, 256 MiB keep a GPU busy (see README.md).
SCRATCH = {"cpu": 2**20, "cuda": 2**26}
# Columns that are compared by their smallest score only, at first.
BUNDLE = 16


def knn_vote_by_rows(states: Tensor, labels: Tensor, k: int, metric: str, groups: Tensor) -> Tensor:
    """Predicted classes [N, L]; arguments as in `knn_vote`, checked, with states [N, L, d], k < N, groups [N]."""
    N, L, _ = states.shape
    values, half_squares, first = make_points(states, metric)
    duplicates = (first != torch.arange(N, device=first.device)).any(1).tolist()
    classes, labels = labels.unique(return_inverse=True)
    result = torch.empty(N, L, dtype=torch.long, device=states.device)  # [N, L]
    block = max(1, SCRATCH["cuda" if states.is_cuda else "cpu"] // N)
    for start in range(0, N, block):
        rows = slice(start, min(start + block, N))
        excluded = (groups[rows, None] == groups).view(-1).nonzero()[:, 0]
        for layer in range(L):
            scores = torch.addmm(half_squares[layer], values[layer, rows], values[layer].T, alpha=-1)  # [rows, N]
            if duplicates[layer]:
                # A product rounds an entry as its place in the matrix has it: duplicates share the first one's.
                scores = scores[:, first[layer]]
                scores.masked_fill_(first[layer, rows, None] == first[layer], -torch.inf)
            scores.view(-1).index_fill_(0, excluded, torch.inf)
            near, found = nearest(scores, k)  # [rows, k]
            result[rows, layer] = majority(labels[near], found, len(classes))
    return classes.to(torch.long)[result]


def nearest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns [rows, k] of the smallest scores [rows, N > k], of equal ones the lower first; False where infinite."""
    values, columns = smallest(scores, k + 1)
    # These order equal scores in no particular way; the one past the last shows whether an equal one was left out.
    tied = ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] < torch.inf)).any(1).nonzero()[:, 0]
    if len(tied):
        values[tied], columns[tied] = (x[:, : k + 1] for x in scores[tied].sort(stable=True))
    return columns[:, :k], values[:, :k] < torch.inf


def smallest(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The n smallest scores of each row in ascending order, and their columns: both [rows, n].

    They lie in the n bundles of columns whose smallest scores are smallest, or among the columns left over.
    """
    width = scores.shape[1] // BUNDLE
    if width <= n:
        return scores.topk(n, largest=False)
    bundles = scores[:, : BUNDLE * width].unflatten(1, (BUNDLE, width))  # [rows, BUNDLE, width]
    chosen = bundles.amin(1).topk(n, largest=False, sorted=False).indices  # [rows, n]
    steps = torch.arange(0, BUNDLE * width, width, device=scores.device)  # [BUNDLE]
    rest = torch.arange(BUNDLE * width, scores.shape[1], device=scores.device).expand(len(scores), -1)
    candidates = torch.cat([(chosen[:, None] + steps[:, None]).flatten(1), rest], 1)  # [rows, BUNDLE * n + rest]
    values, at = scores.gather(1, candidates).topk(n, largest=False)
    return values, candidates.gather(1, at)


def majority(labels: Tensor, found: Tensor, n_classes: int) -> Tensor:
    """Commonest class [rows] of labels [rows, k], nearest first, where found; of equally common ones the nearest's."""
    counts = torch.zeros(len(labels), n_classes, dtype=torch.long, device=labels.device)  # [rows, n_classes]
    counts.scatter_add_(1, labels, found.long())
    # argmax gives the first of the largest, and all that were found come before the others.
    winner = counts.gather(1, labels).argmax(1, keepdim=True)
    return labels.gather(1, winner)[:, 0]
