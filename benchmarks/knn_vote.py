"""knn_vote against scikit-learn's leave-one-out k-NN, layer by layer, and against its matrix products alone.

Run `python benchmarks/knn_vote.py`; it takes two minutes on two cores and writes results/knn_vote.csv.
"""

import os

# OpenMP reads it when it is loaded: where other programs run too, threads that spin while they wait hold up all others.
os.environ["OMP_WAIT_POLICY"] = "passive"

import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from task_vectors.kernels.knn_vote import knn_vote
from task_vectors.records import environment

SIZES = ((700, 19, 640), (3000, 4, 640))  # states, layers, width: gemma-3-270m's
K, N_CLASSES = 10, 33
CENTER_SPREAD = 0.3  # votes are seldom tied, which scikit-learn decides by the number of the class
ROUNDS = 7
RESULTS = Path(__file__).parent / "results" / "knn_vote.csv"


def main() -> None:
    cores = torch.get_num_threads()
    rows = [row for threads in sorted({1, cores}) for size in SIZES for row in compare(size, threads)]
    table = pd.DataFrame(rows)
    RESULTS.parent.mkdir(exist_ok=True)
    table.assign(k=K, wait_policy=os.environ["OMP_WAIT_POLICY"], **environment()).to_csv(RESULTS, index=False)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"Written to {RESULTS}")


def compare(size: tuple[int, int, int], threads: int) -> list[dict]:
    """All three ways in turn, several times over, so that a busy moment of the machine hits all of them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(N_CLASSES, size[:1], generator=generator)
    centers = CENTER_SPREAD * torch.randn(N_CLASSES, *size[1:], generator=generator)
    states = centers[labels] + torch.randn(size, generator=generator)
    rounds = []
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        for _ in tqdm(range(ROUNDS + 1), desc=f"{size}, {threads} threads"):
            ours, predictions = timed(lambda: knn_vote(states, labels, K))
            theirs, expected = timed(lambda: one_layer_at_a_time(states, labels))
            products, _ = timed(lambda: products_alone(states))
            rounds.append(
                {
                    "knn_vote [s]": ours,
                    "scikit-learn [s]": theirs,
                    "matrix products alone [s]": products,
                    "scikit-learn / knn_vote": theirs / ours,
                    "knn_vote / matrix products": ours / products,
                    "predictions equal": (predictions == expected).double().mean().item(),
                }
            )
    quantiles = pd.DataFrame(rounds[1:]).quantile([0.5, 0.2, 0.8])
    where = dict(zip(("states", "layers", "width"), size, strict=True)) | {"threads": threads}
    names = ("median", "20th percentile", "80th percentile")
    return [{**where, "name": name, **dict(zip(names, quantiles[name], strict=True))} for name in quantiles]


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


def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds and result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
