"""A training step of the linear transformer against the forms that build the T x T scores, and against its own floor.

Triplets, d = 4, 1000 prompts, three layers; forward, backward and Adam; milliseconds for one seed. Ours trains four
seeds at once, as training does, and takes the mean over tasks exactly; the others train one seed and draw the tasks,
as the papers' scripts do. All compute the same function of weights and inputs, on plain Gaussian inputs. What it
costs to draw the stretched inputs that chapter 08 trains on stands in a row of its own.

- The script's form does what the published script of Dong et al. (2026) does in a layer, in that order: all scores of
  a prompt, scaled, D added, the last key's set to zero, then one product for x and one for y. The script's random
  signs, which mean further passes over the scores, are left out, in its favor.
- The tight form builds the same scores with the fewest passes: one product that adds D, one that takes x and y as one.
- The floor is the time of the matrix products that the step needs, alone, at their own shapes, into memory that is
  there already: forward, and the gradients of what is trained or computed from it. The first layer's attention adds no
  product of such a size (it depends on the inputs alone), and the last layer has a single query.
- Beside it: the same operations at the rate of a large square product.

Run `python benchmarks/linear_attention_step.py`; it takes three minutes and adds to results/linear_attention_step.csv.
"""

from collections.abc import Callable

import pandas as pd
import torch
from measure import append, gemm_rate, row, thread_counts, timed
from torch import Tensor
from tqdm import tqdm

from task_vectors.linear_attention.heavy_tails import stretched_inputs
from task_vectors.linear_attention.model import Weights, initial_weights, risk
from task_vectors.linear_attention.prompts import get_layout, prompt_states, sample_inputs, sample_tasks
from task_vectors.linear_attention.training import TOGETHER

D, BATCH, LAYERS, SEEDS = 4, 1000, 3, TOGETHER
DEMONSTRATIONS = (10, 30)
EQUAL = torch.tensor(1.0)  # what every prompt of a plain sample weighs
LARGE = 2048  # rows of the square product
ROUNDS = 7


def main() -> None:
    append("linear_attention_step", [row for _ in thread_counts() for n in DEMONSTRATIONS for row in compare(n)])


def compare(n: int) -> list[dict]:
    """Every form in turn, several times over; each runs once before its time is taken."""
    steps = steppers(n)
    needed, operations = products(n)
    rounds = []
    for _ in tqdm(range(ROUNDS + 1), desc=f"n = {n}, threads: {torch.get_num_threads()}"):
        seconds = {name: second_time(step) for name, step in steps.items()}
        seconds["ours"] /= SEEDS
        seconds["draws"] = second_time(lambda: stretched_inputs(BATCH, n + 1, None)) / SEEDS
        seconds["products"] = sum(map(second_time, needed)) / SEEDS
        seconds["large"] = operations / gemm_rate(LARGE) / SEEDS
        rounds.append(seconds)
    times, case = pd.DataFrame(rounds[1:]), f"n = {n}"
    return [
        row(case, "script's form", "ms", 1e3 * times.script),
        row(case, "tight score-building form", "ms", 1e3 * times.tight),
        row(case, "ours", "ms", 1e3 * times.ours),
        row(case, "stretched inputs", "ms", 1e3 * times.draws),
        row(case, "products alone", "ms", 1e3 * times.products),
        row(case, "same operations, large product", "ms", 1e3 * times.large),
        row(case, "script's form / ours", "ratio", times.script / times.ours),
        row(case, "tight score-building form / ours", "ratio", times.tight / times.ours),
        row(case, "ours / products alone", "ratio", times.ours / times.products),
        row(case, "ours / same operations, large product", "ratio", times.ours / times.large),
    ]


def steppers(n: int) -> dict[str, Callable[[], None]]:
    """A step of one seed in each score-building form, and of ours, which takes SEEDS of them at once."""
    layout = get_layout("triplets")
    one, many = initial_weights(layout, LAYERS, n, [0]), initial_weights(layout, LAYERS, n, list(range(SEEDS)))

    def drawn_loss(layer: Callable[..., Tensor]) -> Callable[[Weights], Tensor]:
        return lambda weights: score_building_loss(weights, sample_inputs(BATCH, n, D, None), draw_tasks(), layer)

    return {
        "script": stepper(one, drawn_loss(script_layer)),
        "tight": stepper(one, drawn_loss(tight_layer)),
        "ours": stepper(many, lambda weights: risk(weights, sample_inputs(BATCH, n, D, None), EQUAL).sum()),
    }


def draw_tasks() -> Tensor:
    return sample_tasks(BATCH, D, None)  # [B, d, d]


def stepper(weights: Weights, loss: Callable[[Weights], Tensor]) -> Callable[[], None]:
    """Forward, backward and Adam."""
    weights = weights.map(lambda tensor: tensor.clone().requires_grad_())
    optimizer = torch.optim.Adam(weights.tensors().values(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss(weights).backward()
        optimizer.step()

    return step


def score_building_loss(weights: Weights, X: Tensor, W: Tensor, layer: Callable[..., Tensor]) -> Tensor:
    """Mean square of the query's answer plus y, as it stands in the paper, for one model, these prompts and tasks."""
    Z = prompt_states(X, W, weights.layout)  # [B, T, 2d]
    last = torch.zeros_like(weights.D[0, 0]).index_put((torch.tensor([-1]),), weights.query_row)
    for scales, positions in zip(weights.scales[0], [*weights.D[0], last], strict=True):
        Z = layer(Z, *scales, positions, weights.n)
    return (Z[:, -1, D:] + (W @ X[:, -1, :, None])[..., 0]).square().mean()


def script_layer(Z: Tensor, a: Tensor, b: Tensor, c: Tensor, positions: Tensor, n: int) -> Tensor:
    X, Y = Z[..., :D], Z[..., D:]
    scores = X @ X.mT * c  # [B, T, T]
    scores += positions
    scores[..., -1] = 0
    return Z + torch.cat([scores @ (a * X), scores @ (b * Y)], -1) / n


def tight_layer(Z: Tensor, a: Tensor, b: Tensor, c: Tensor, positions: Tensor, n: int) -> Tensor:
    X, Y = Z[..., :D], Z[..., D:]
    scores = torch.baddbmm(positions, c * X, X.mT)  # [B, T, T]
    values = torch.cat([a * X, b * Y], -1).index_fill(1, torch.tensor([Z.shape[1] - 1]), 0)
    return torch.baddbmm(Z, scores, values / n)


def products(n: int) -> tuple[list[Callable[[], Tensor]], int]:
    """The products that a step of all seeds needs, each as a call, and their floating-point operations."""
    T, prompts = get_layout("triplets").n_tokens(n), SEEDS * BATCH
    keys = T - 1  # the last token is no key
    data = [(SEEDS, BATCH * D, n + 1, T), (SEEDS, BATCH * D, n, T)]  # layer 1: x and y, which have no gradient
    middle = [(SEEDS, BATCH * 2 * D, keys, T), (prompts, 2 * D, keys, D), (prompts, 2 * D, D, T)]
    last = [(prompts, 1, D, keys), (prompts, D, keys, 1)]
    calls, operations = [], 0
    for shape in [*data, *middle * (LAYERS - 2), *last]:
        batch, rows, inner, columns = shape
        left, right = torch.randn(batch, rows, inner), torch.randn(batch, inner, columns)
        gradient = torch.randn(batch, rows, columns)
        factors = [(left, right), (left.mT, gradient), (gradient, right.mT)][: 2 if shape in data else 3]
        calls += [product(*pair) for pair in factors]
        operations += len(factors) * 2 * batch * rows * inner * columns
    return calls, operations


def product(left: Tensor, right: Tensor) -> Callable[[], Tensor]:
    out = torch.empty(len(left), left.shape[1], right.shape[2])
    return lambda: torch.bmm(left, right, out=out)


def second_time(call: Callable[[], object]) -> float:
    """Seconds of the call, right after it has run once."""
    call()
    return timed(call)[0]


if __name__ == "__main__":
    main()
