"""Training an ensemble: all seeds at once, each on the same prompts, none touching another.

The norm of each model's gradient is clipped, because the risk's tails are heavy: it is a polynomial of high degree in
Gaussian inputs. The penalty on the squared weights, in units of the risk, begins after a quarter of the steps, when
every model has long left the saddle at zero, and goes to zero with the last: it moves weights that cost nothing.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from task_vectors.linear_attention.heavy_tails import stretched_inputs
from task_vectors.linear_attention.model import Weights, initial_weights, risk
from task_vectors.linear_attention.prompts import get_layout

WARM_UP = 100  # steps
PENALTY_START = 0.25  # of the steps
MAX_NORM = 1.0  # of a model's gradient
EVALUATION_BATCH = 2000


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is trained: Adam, the rate warmed up and then taken linearly to zero."""

    steps: int = 2400
    batch: int = 500  # prompts, fresh in every step
    rate: float = 0.01
    penalty: float = 3e-3  # on the sum of squared weights, beside the log-risk
    initial_std: float = 0.1


def train(
    layout: str, n_layers: int, n: int, seeds: list[int], recipe: Recipe, stop: int | None = None
) -> tuple[Weights, pd.DataFrame]:
    """Minimize the population risk of len(seeds) models with D free. A model whose risk is not finite stays as it is.

    Returns the weights, and the risk on its batch of every model after each twentieth of the steps, columns: step,
    seed, risk. `stop` ends the run early, at the same schedule: the first steps alone, for a check.
    """
    weights = initial_weights(get_layout(layout), n_layers, n, seeds, recipe.initial_std)
    weights = weights.map(lambda tensor: tensor.requires_grad_())
    tensors = list(weights.tensors().values())
    optimizer = torch.optim.Adam(tensors, lr=recipe.rate, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(n_layers * 1000 + n)
    rows, every = [], max(1, recipe.steps // 20)
    for step in tqdm(range(stop or recipe.steps), desc=f"{layout}, {n_layers} layers, n = {n}", leave=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * min(1, (step + 1) / WARM_UP) * (1 - step / recipe.steps)
        risks = risk(weights, *stretched_inputs(recipe.batch, n + 1, generator))  # [S]
        if step % every == 0:
            rows += [
                {"step": step, "seed": seed, "risk": value} for seed, value in zip(seeds, risks.tolist(), strict=True)
            ]
        optimizer.zero_grad()
        (risks + risks.detach() * _penalty(recipe, step) * _square_norms(tensors)).sum().backward()
        _clip(tensors)
        optimizer.step()
    return weights.map(Tensor.detach), pd.DataFrame(rows)


@torch.no_grad()
def evaluate(weights: Weights, n_prompts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Risk on fresh prompts and its standard error over prompts: [S] and [S]."""
    batches = torch.stack([risk(weights, *batch) for batch in evaluation_prompts(n_prompts, weights.n, seed)])
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
    return sum(tensor.flatten(1).square().sum(1) for tensor in tensors)  # [S]


@torch.no_grad()
def _clip(tensors: list[Tensor]) -> None:
    """Scale each model's gradient to at most MAX_NORM; one that is not finite becomes zero."""
    gradients = [tensor.grad for tensor in tensors]
    factors = (MAX_NORM / _square_norms(gradients).sqrt()).clamp(max=1).nan_to_num(0)  # [S]
    for gradient in gradients:
        gradient.nan_to_num_(0, 0, 0).mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
