"""Two attention heads over tokens of twice the width: what Proposition 6 sets beside an end token.

A token holds two streams, each an x half and a y half of d coordinates. The prompt stands in the first one, and the
second is empty. With all blocks multiples of the identity, head h adds

    (1/n) [sum_uv c_h[u, v] X_u X_v^T + D_h] M Z

to the streams, where X_u is the x half of stream u, and M takes the last token from the keys; what it reads in stream
v goes to stream u with the factor a_h[u, v] (x halves) or b_h[u, v] (y halves). Everything else is as in `model`:
the answer is minus the last token's y in the first stream, and the task is integrated out.
"""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from task_vectors.linear_attention.prompts import get_layout, prompt_states
from task_vectors.linear_attention.training import Recipe, minimize

LAYOUT = get_layout("triplets")
HEADS = STREAMS = 2


@dataclass(frozen=True)
class HeadWeights:
    """S models of L layers over T tokens.

    a, b, c [S, L, HEADS, STREAMS, STREAMS]. D [S, L - 1, HEADS, T, T] as D[query, key]: of all layers but the last, of
    which only the query token's row counts: query_row [S, HEADS, T].
    """

    a: Tensor
    b: Tensor
    c: Tensor
    D: Tensor
    query_row: Tensor

    @property
    def n(self) -> int:
        """Demonstrations in a prompt."""
        return self.query_row.shape[-1] // LAYOUT.tokens_per_demo - 1


def initial_heads(n_layers: int, n: int, seeds: list[int], std: float) -> HeadWeights:
    """Every entry from N(0, std^2), but for signs: after layer 1 a stream's own a and b start positive, c negative."""
    T = LAYOUT.n_tokens(n)
    scales = (n_layers, HEADS, STREAMS, STREAMS)
    shapes = {"a": scales, "b": scales, "c": scales, "D": (n_layers - 1, HEADS, T, T), "query_row": (HEADS, T)}
    own = torch.eye(STREAMS, dtype=torch.bool)
    drawn = {name: [] for name in shapes}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for name, shape in shapes.items():
            drawn[name].append(std * torch.randn(shape, generator=generator))
        for name, sign in (("a", 1), ("b", 1), ("c", -1)):
            later = drawn[name][-1][1:]
            drawn[name][-1][1:] = torch.where(own, sign * later.abs(), later)
    return HeadWeights(**{name: torch.stack(tensors) for name, tensors in drawn.items()})


def head_risk(weights: HeadWeights, X: Tensor, importance: Tensor) -> Tensor:
    """Mean of the squared residual over prompts X [B, n + 1, d] that weigh importance [B]: [S]."""
    d, n = X.shape[-1], weights.n
    prompt = prompt_states(X, torch.eye(d, dtype=X.dtype).expand(len(X), d, d), LAYOUT)  # [B, T, 2d]: y = x
    first = prompt.unflatten(-1, (2, 1, d)).permute(2, 3, 0, 1, 4)  # [half, 1, B, T, d]
    Z = torch.cat([first, torch.zeros_like(first)], 1).expand(len(weights.a), -1, -1, -1, -1, -1)
    for layer in range(weights.D.shape[1]):
        Z = Z + _update(weights, layer, Z) / n  # [S, half, stream, B, T, d]
    answer = Z[:, 1, 0, :, -1] + _last_update(weights, Z) / n  # [S, B, d]
    return ((answer + X[:, -1]).square().sum(-1) * importance).mean(-1)


def _update(weights: HeadWeights, layer: int, Z: Tensor) -> Tensor:
    S, _, _, B, T, d = Z.shape
    read = 1 if layer == 0 else STREAMS  # before layer 1 the second stream is empty
    keys = Z[:, :, :read].index_fill(4, torch.tensor([T - 1]), 0)
    columns = keys.permute(0, 3, 4, 1, 2, 5).reshape(S, B, T, -1)  # [S, B, T, half * stream * d]
    x = Z[:, 0, :read].permute(0, 2, 3, 1, 4).reshape(S, B, T, -1)  # [S, B, T, stream * d]
    memory = x.mT @ columns
    flat = columns.permute(0, 2, 1, 3).reshape(S, T, -1)
    total = 0
    for head in range(HEADS):
        mixed = _on_streams(weights.c[:, layer, head, :read, :read], memory, d)
        scored = x @ mixed + (weights.D[:, layer, head] @ flat).view(S, T, B, -1).transpose(1, 2)
        found = scored.view(S, B, T, 2, read, d)
        factors = torch.stack([weights.a[:, layer, head, :, :read], weights.b[:, layer, head, :, :read]], 1)
        total = total + torch.einsum("shuv,sbthvd->shubtd", factors, found)
    return total


def _on_streams(c: Tensor, memory: Tensor, d: int) -> Tensor:
    """c [S, u, v] on memory [S, B, v * d, columns]: each block of rows is a multiple of the identity."""
    blocks = memory.unflatten(2, (-1, d))  # [S, B, v, d, columns]
    return torch.einsum("suv,sbvdk->sbudk", c, blocks).flatten(2, 3)


def _last_update(weights: HeadWeights, Z: Tensor) -> Tensor:
    X, Y = Z[:, 0], Z[:, 1]  # each [S, stream, B, T, d]
    products = torch.einsum("subd,svbtd->suvbt", X[:, :, :, -1], X)
    scores = torch.einsum("shuv,suvbt->shbt", weights.c[:, -1], products) + weights.query_row[:, :, None]
    weighed = scores.index_fill(3, torch.tensor([Z.shape[4] - 1]), 0)
    return torch.einsum("shv,shbt,svbtd->sbd", weights.b[:, -1, :, 0], weighed, Y)


def train_heads(
    n_layers: int, n: int, seeds: list[int], recipe: Recipe, stop: int | None = None
) -> tuple[HeadWeights, pd.DataFrame]:
    """As `training.train`, for two heads."""
    start = vars(initial_heads(n_layers, n, seeds, recipe.initial_std))
    tensors, history = minimize(
        start, lambda free: HeadWeights(**free), recipe, stop or recipe.steps, n_layers * 1000 + n, head_risk
    )
    history["seed"] = [seeds[model] for model in history["seed"]]
    return HeadWeights(**tensors), history
