"""knn_vote against faiss and scikit-learn, layer by layer, and against its matrix products alone.

The states have the width of gemma-3-270m's: noise around a center for each class. faiss (its exact index) finds k + 1
neighbors, of which a state's own is dropped, and the vote is ours; it knows no groups, and rounds duplicates as they
come. scikit-learn computes float32 input in float64, and decides a tied vote by the number of the class.

faiss brings an OpenBLAS of 2021, which takes a processor that it does not know for one of 2004 and is then several
times slower. It is told here what numpy's newer one finds, so that the rival is as strong as it can be.

Run `pip install -r benchmarks/requirements.txt`, then `python benchmarks/knn_vote.py`; it takes two minutes on two
cores and adds to results/knn_vote.csv.
"""

import os

import pandas as pd
import torch
from measure import append, row, thread_counts, timed
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_info
from torch import Tensor
from tqdm import tqdm

from task_vectors.kernels.knn_vote import knn_vote
from task_vectors.kernels.knn_vote.fast import majority

for library in threadpool_info():
    if library["internal_api"] == "openblas":
        os.environ.setdefault("OPENBLAS_CORETYPE", library["architecture"])
import faiss  # noqa: E402, its OpenBLAS reads the variable when it is loaded

SIZES = ((700, 19), (3000, 4))  # states, layers
WIDTH = 640
K, N_CLASSES = 10, 33
CENTER_SPREAD = 0.3  # votes are seldom tied
ROUNDS = 12


def main() -> None:
    append("knn_vote", [row for _ in thread_counts() for size in SIZES for row in compare(size)])


def compare(size: tuple[int, int]) -> list[dict]:
    """All ways in turn, several times over."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(N_CLASSES, size[:1], generator=generator)
    centers = CENTER_SPREAD * torch.randn(N_CLASSES, size[1], WIDTH, generator=generator)
    states = centers[labels] + torch.randn(*size, WIDTH, generator=generator)
    case = "{} states, {} layers".format(*size)
    ways = {"knn_vote": ours, "faiss": by_faiss, "scikit-learn": by_scikit_learn, "products": products_alone}
    rounds = []
    for _ in tqdm(range(ROUNDS + 1), desc=f"{case}, threads: {torch.get_num_threads()}"):
        results = {name: timed(lambda way=way: way(states, labels)) for name, way in ways.items()}
        rounds.append({name: seconds for name, (seconds, _) in results.items()})
    times = pd.DataFrame(rounds[1:])
    mine = results["knn_vote"][1]
    equal = {name: (results[name][1] == mine).double().mean().item() for name in ("faiss", "scikit-learn")}
    return [
        row(case, "knn_vote", "s", times.knn_vote),
        row(case, "faiss", "s", times.faiss),
        row(case, "scikit-learn", "s", times["scikit-learn"]),
        row(case, "matrix products alone", "s", times.products),
        row(case, "faiss / knn_vote", "ratio", times.faiss / times.knn_vote),
        row(case, "scikit-learn / knn_vote", "ratio", times["scikit-learn"] / times.knn_vote),
        row(case, "knn_vote / matrix products alone", "ratio", times.knn_vote / times.products),
        *(row(case, f"predictions equal to those of {name}", "share", [share]) for name, share in equal.items()),
    ]


def ours(states: Tensor, labels: Tensor) -> Tensor:
    return knn_vote(states, labels, K)


def by_faiss(states: Tensor, labels: Tensor) -> Tensor:
    """Predictions [N, L] from faiss' exact search for the K + 1 nearest, the state's own among them, and our vote."""
    own, predictions = torch.arange(len(states))[:, None], []
    for layer in states.unbind(1):
        points = layer.contiguous().numpy()
        index = faiss.IndexFlatL2(points.shape[1])
        index.add(points)
        near = torch.from_numpy(index.search(points, K + 1)[1])  # [N, K + 1]
        others = near != own
        others[others.all(1), -1] = False  # where duplicates came first, the last of them goes
        near = near[others].view(-1, K)
        predictions.append(majority(labels[near], torch.ones_like(near, dtype=torch.bool), N_CLASSES))
    return torch.stack(predictions, 1)


def by_scikit_learn(states: Tensor, labels: Tensor) -> Tensor:
    """scikit-learn's predictions [N, L]: predict(None) is leave-one-out."""
    predictions = [
        KNeighborsClassifier(K, algorithm="brute").fit(states[:, layer].numpy(), labels.numpy()).predict(None)
        for layer in range(states.shape[1])
    ]
    return torch.stack([torch.from_numpy(layer) for layer in predictions], 1)


def products_alone(states: Tensor, _labels: Tensor) -> Tensor:
    """The inner products of each layer's states, which a distance by matrix product cannot do without."""
    return torch.stack([(x @ x.T)[0, 0] for x in states.unbind(1)])


if __name__ == "__main__":
    main()
