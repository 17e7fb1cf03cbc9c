"""knn_vote against scikit-learn's leave-one-out k-NN, layer by layer, and against its matrix products alone.

The states have the width of gemma-3-270m's: noise around a center for each class. scikit-learn computes float32 input
in float64, and decides a tied vote by the number of the class, so a few predictions differ.
Run `python benchmarks/knn_vote.py`; it takes two minutes on two cores and adds to results/knn_vote.csv.
"""

import pandas as pd
import torch
from measure import append, row, thread_counts, timed
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from tqdm import tqdm

from task_vectors.kernels.knn_vote import knn_vote

SIZES = ((700, 19), (3000, 4))  # states, layers
WIDTH = 640
K, N_CLASSES = 10, 33
CENTER_SPREAD = 0.3  # votes are seldom tied
ROUNDS = 7


def main() -> None:
    append("knn_vote", [row for _ in thread_counts() for size in SIZES for row in compare(size)])


def compare(size: tuple[int, int]) -> list[dict]:
    """All three ways in turn, several times over."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(N_CLASSES, size[:1], generator=generator)
    centers = CENTER_SPREAD * torch.randn(N_CLASSES, size[1], WIDTH, generator=generator)
    states = centers[labels] + torch.randn(*size, WIDTH, generator=generator)
    case = "{} states, {} layers".format(*size)
    rounds = []
    for _ in tqdm(range(ROUNDS + 1), desc=f"{case}, threads: {torch.get_num_threads()}"):
        ours, predictions = timed(lambda: knn_vote(states, labels, K))
        theirs, expected = timed(lambda: one_layer_at_a_time(states, labels))
        rounds.append((ours, theirs, timed(lambda: products_alone(states))[0]))
    times = pd.DataFrame(rounds[1:], columns=["ours", "theirs", "products"])
    return [
        row(case, "knn_vote", "s", times.ours),
        row(case, "scikit-learn", "s", times.theirs),
        row(case, "matrix products alone", "s", times.products),
        row(case, "scikit-learn / knn_vote", "ratio", times.theirs / times.ours),
        row(case, "knn_vote / matrix products alone", "ratio", times.ours / times.products),
        row(case, "predictions equal", "share", [(predictions == expected).double().mean().item()]),
    ]


def one_layer_at_a_time(states: Tensor, labels: Tensor) -> Tensor:
    """scikit-learn's predictions [N, L]: predict(None) is leave-one-out."""
    predictions = [
        KNeighborsClassifier(K, algorithm="brute").fit(states[:, layer].numpy(), labels.numpy()).predict(None)
        for layer in range(states.shape[1])
    ]
    return torch.stack([torch.from_numpy(layer) for layer in predictions], 1)


def products_alone(states: Tensor) -> Tensor:
    """The inner products of each layer's states, which a distance by matrix product cannot do without."""
    return torch.stack([(x @ x.T)[0, 0] for x in states.unbind(1)])


if __name__ == "__main__":
    main()
