"""Training an ensemble: all seeds at once, each on the same prompts, none touching another.

The risk's tails are heavy, so prompts are stretched on purpose and weighted for it, and the norm of each model's
gradient is clipped. The penalty on the squared weights, in units of the risk, begins after a quarter of the steps, when
every model has long left the saddle at zero, and goes to zero with the last: it moves weights that cost nothing.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from task_vectors.linear_attention.heavy_tails import stretched_inputs
from task_vectors.linear_attention.model import Weights, initial_weights, risk
from task_vectors.linear_attention.prompts import get_layout
from task_vectors.linear_attention.restricted import Restricted

WARM_UP = 100  # steps
PENALTY_START = 0.25  # of the steps
MAX_NORM = 1.0  # of a model's gradient
EVALUATION_BATCH = 2000
TOGETHER = 4  # models in one pass forward and backward: the states of more leave the caches


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is trained: Adam, the rate warmed up and then taken linearly to zero."""

    steps: int = 2400
    batch: int = 500  # prompts, fresh in every step
    rate: float = 1e-3  # times n + 5: an entry of D acts through D / n, and has the further to go
    penalty: float = 3e-3  # on the sum of squared weights, beside the log-risk
    initial_std: float = 0.1


def train(
    layout: str, n_layers: int, n: int, seeds: list[int], recipe: Recipe, stop: int | None = None
) -> tuple[Weights, pd.DataFrame]:
    """Minimize the population risk of len(seeds) models with D free. A model whose risk is not finite stays as it is.

    Returns the weights, and the risk on its batch of every model after each twentieth of the steps, columns: step,
    seed, risk. `stop` ends the run early, at the same schedule: the first steps alone, for a check.
    """
    start = initial_weights(get_layout(layout), n_layers, n, seeds, recipe.initial_std)
    tensors, history = minimize(
        start.tensors(), lambda free: Weights(start.layout, **free), recipe, stop or recipe.steps, n_layers * 1000 + n
    )
    history["seed"] = [seeds[model] for model in history["seed"]]
    return Weights(start.layout, **tensors), history


def train_restricted(start: Restricted, recipe: Recipe) -> Restricted:
    """Go on from `start` within the theorem's set."""
    tensors, _ = minimize(
        start.tensors, lambda free: replace(start, tensors=free).weights(), recipe, recipe.steps, start.n
    )
    return replace(start, tensors=tensors)


def minimize(
    initial: dict[str, Tensor],
    weights_of: Callable[[dict[str, Tensor]], Weights],
    recipe: Recipe,
    stop: int,
    seed: int,
    risk_of: Callable[..., Tensor] = risk,
) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """`stop` steps down from `initial` (by name, [S, ...]): weights have the risk `risk_of(weights, X, importance)`.

    Returns the tensors, and the risks on their batches after each twentieth of recipe.steps (step, seed, risk).
    """
    free = {name: tensor.clone().requires_grad_() for name, tensor in initial.items()}
    n, tensors = weights_of(free).n, list(free.values())
    rate = recipe.rate * (n + 5)
    optimizer = torch.optim.Adam(tensors, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    rows, every = [], max(1, recipe.steps // 20)
    for step in tqdm(range(stop), desc=f"n = {n}", leave=False):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARM_UP) * (1 - step / recipe.steps)
        optimizer.zero_grad()
        batch, risks = stretched_inputs(recipe.batch, n + 1, generator), []
        for start in range(0, len(tensors[0]), TOGETHER):
            part = {name: tensor[start : start + TOGETHER] for name, tensor in free.items()}
            found = risk_of(weights_of(part), *batch)
            penalty = _penalty(recipe, step) * _square_norms(list(part.values()))
            (found + found.detach() * penalty).sum().backward()
            risks += found.tolist()
        if step % every == 0:
            rows += [{"step": step, "seed": model, "risk": value} for model, value in enumerate(risks)]
        _clip(tensors)
        optimizer.step()
    return {name: tensor.detach() for name, tensor in free.items()}, pd.DataFrame(rows)


@torch.no_grad()
def evaluate(
    weights: Weights, n_prompts: int, seed: int, risk_of: Callable[..., Tensor] = risk
) -> tuple[Tensor, Tensor]:
    """Risk on fresh prompts and its standard error over prompts: [S] and [S]."""
    batches = torch.stack([risk_of(weights, *batch) for batch in evaluation_prompts(n_prompts, weights.n, seed)])
    return batches.mean(0), batches.std(0) / math.sqrt(len(batches))


def evaluation_prompts(n_prompts: int, n: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The prompts of one seed and what they weigh, in batches; a smaller number is the beginning of a larger one."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(math.ceil(n_prompts / EVALUATION_BATCH)):
        yield stretched_inputs(EVALUATION_BATCH, n + 1, generator)


def _penalty(recipe: Recipe, step: int) -> float:
    done = step / recipe.steps
    return recipe.penalty * min(1, 2 - 2 * done) if done > PENALTY_START else 0.0


def _square_norms(tensors: list[Tensor]) -> Tensor:
    return sum(tensor.square().reshape(len(tensor), -1).sum(1) for tensor in tensors)  # [S]


@torch.no_grad()
def _clip(tensors: list[Tensor]) -> None:
    """Scale each model's gradient to at most MAX_NORM; one that is not finite becomes zero."""
    gradients = [tensor.grad for tensor in tensors]
    factors = (MAX_NORM / _square_norms(gradients).sqrt()).clamp(max=1).nan_to_num(0)  # [S]
    for gradient in gradients:
        gradient.nan_to_num_(0, 0, 0).mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
