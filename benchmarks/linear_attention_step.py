"""A training step of the linear transformer against the form that builds the T x T scores, and against its own floor.

The floor is the time of the matrix products that the step needs, alone, at its own shapes: forward and both gradients.
Run `python benchmarks/linear_attention_step.py`; it takes two minutes and writes results/linear_attention_step.csv.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from task_vectors.kernels.linear_attention.reference import linear_attention as score_building_layer
from task_vectors.linear_attention.model import Weights, initial_weights, risk
from task_vectors.linear_attention.prompts import get_layout, prompt_states, sample_inputs, sample_tasks
from task_vectors.records import environment

D, BATCH, LAYERS, SEEDS = 4, 1000, 3, 8
ROUNDS = 15
RESULTS = Path(__file__).parent / "results" / "linear_attention_step.csv"


def main() -> None:
    rows = {}
    for n in (10, 30):
        measured = [round_of(n) for _ in range(ROUNDS + 1)][1:]
        for name in ("score-building", "ours", "floor"):
            rows[f"n = {n}: {name} [ms per seed and step]"] = [1e3 * times[name] for times in measured]
        rows[f"n = {n}: score-building / ours"] = [times["score-building"] / times["ours"] for times in measured]
        rows[f"n = {n}: ours / floor"] = [times["ours"] / times["floor"] for times in measured]
    table = pd.DataFrame([{"name": name, **spread(values)} for name, values in rows.items()])
    RESULTS.parent.mkdir(exist_ok=True)
    table.assign(threads=torch.get_num_threads(), **environment()).to_csv(RESULTS, index=False)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    print(f"Written to {RESULTS}")


def round_of(n: int) -> dict[str, float]:
    """Seconds per seed and step of each, one after the other, so that a busy moment hits all three."""
    weights = initial_weights(get_layout("triplets"), LAYERS, n, list(range(SEEDS)))
    one = initial_weights(get_layout("triplets"), LAYERS, n, [0])
    return {
        "score-building": seconds(stepper(one, score_building_loss)),
        "ours": seconds(stepper(weights, lambda weights: risk(weights, sample_inputs(BATCH, n, D, None)).sum()))
        / SEEDS,
        "floor": sum(seconds(product) for product in products(n)) / SEEDS,
    }


def stepper(weights: Weights, loss: Callable[[Weights], Tensor]) -> Callable[[], None]:
    """Forward, backward and Adam."""
    weights = weights.map(lambda tensor: tensor.clone().requires_grad_())
    optimizer = torch.optim.Adam(weights.tensors().values(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()

    return step


def score_building_loss(weights: Weights) -> Tensor:
    """The loss as it stands in the paper: tasks drawn, every layer with its full scores."""
    X, W = sample_inputs(BATCH, weights.n, D, None), sample_tasks(BATCH, D, None)
    Z = prompt_states(X, W, weights.layout)[None]  # [1, B, T, 2d]
    last = torch.zeros_like(weights.D[:, 0]).index_put((torch.tensor([0]), torch.tensor([-1])), weights.query_row)
    for layer in range(LAYERS):
        positions = weights.D[:, layer] if layer < LAYERS - 1 else last
        Z = score_building_layer(Z, *weights.scales[:, layer].unbind(-1), positions, weights.n, None, None, False)
    return (Z[0, :, -1, D:] + (W @ X[:, -1, :, None])[..., 0]).square().mean()


def products(n: int) -> Iterator[Callable[[], Tensor]]:
    """Every product of a step of three layers, and the products of its gradients, each as a call."""
    T, N = get_layout("triplets").n_tokens(n), n + 1
    first = [(SEEDS, BATCH * D, 2 * N, T), (SEEDS, BATCH * D, n, T)]  # of data: only the weights have a gradient
    prompts = SEEDS * BATCH
    middle = [(SEEDS, BATCH * 2 * D, T, T), (prompts, 2 * D, T, D), (prompts, 2 * D, D, T)]
    last = [(prompts, 1, D, T), (prompts, D, T, 1)]
    for shape in [*first, *middle, *last]:
        batch, rows, inner, columns = shape
        left, right = torch.randn(batch, rows, inner), torch.randn(batch, inner, columns)
        gradient = torch.randn(batch, rows, columns)
        yield lambda left=left, right=right: torch.bmm(left, right)
        yield lambda left=left, gradient=gradient: torch.bmm(left.mT, gradient)
        if shape not in first:
            yield lambda right=right, gradient=gradient: torch.bmm(gradient, right.mT)


def seconds(call: Callable[[], object]) -> float:
    call()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def spread(values: list[float]) -> dict[str, float]:
    """Median, and the 20 and 80 % quantiles."""
    low, *_, high = statistics.quantiles(values, n=5)
    return {"median": statistics.median(values), "low": low, "high": high}


if __name__ == "__main__":
    main()
