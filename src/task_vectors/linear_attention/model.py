"""An ensemble of linear transformers with learned position matrices, and its population risk.

With A, B, C multiples of the identity the answer is linear in the task: y_hat + W x_query = W r(X), where r(X) in R^d
depends on the prompt's inputs alone. The rows of W are N(0, I), so E_W ||W r||^2 / d = ||r||^2: the task is integrated
out exactly, and a prompt whose answers are its own inputs (W = I) gives r. All risks are per output coordinate, as in
the paper's figures.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from task_vectors.kernels.linear_attention import linear_attention
from task_vectors.linear_attention.prompts import Layout


@dataclass(frozen=True)
class Weights:
    """S models of L layers over T tokens (pairs or triplets).

    scales [S, L, 3]: a, b, c of each layer (A = aI, B = bI, C = cI). D [S, L - 1, T, T] as D[query, key]: of all layers
    but the last, of which only the query token's row counts: query_row [S, T].
    """

    layout: Layout
    scales: Tensor
    D: Tensor
    query_row: Tensor

    @property
    def n_layers(self) -> int:
        return self.scales.shape[1]

    @property
    def n(self) -> int:
        """Demonstrations in a prompt."""
        return self.query_row.shape[-1] // self.layout.tokens_per_demo - 1

    def tensors(self) -> dict[str, Tensor]:
        return {"scales": self.scales, "D": self.D, "query_row": self.query_row}

    def map(self, function) -> "Weights":
        """The same weights with `function` applied to each tensor."""
        return replace(self, **{name: function(tensor) for name, tensor in self.tensors().items()})


def initial_weights(
    layout: Layout, n_layers: int, n: int, seeds: list[int], std: float = 0.1, dtype: torch.dtype = torch.float32
) -> Weights:
    """Every entry from N(0, std^2), but for signs: after layer 1, a and b start positive, c negative.

    That is a descent step; training does not change the sign of a b, which decides the minimum that it reaches. Each
    seed has a generator of its own, so no model depends on its company.
    """
    T = layout.n_tokens(n)
    shapes = {"scales": (n_layers, 3), "D": (n_layers - 1, T, T), "query_row": (T,)}
    drawn = {name: [] for name in shapes}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for name, shape in shapes.items():
            drawn[name].append(std * torch.randn(shape, generator=generator, dtype=dtype))
        drawn["scales"][-1][1:] = drawn["scales"][-1][1:].abs() * torch.tensor([1, 1, -1])
    return Weights(layout, **{name: torch.stack(tensors) for name, tensors in drawn.items()})


def risk(weights: Weights, X: Tensor, importance: Tensor) -> Tensor:
    """Mean of ||r||^2 over prompts X [B, n + 1, d] that weigh importance [B]: [S]. The zero model has risk d."""
    return (residuals(weights, X).square().sum(-1) * importance).mean(-1)  # [S]


def residuals(weights: Weights, X: Tensor) -> Tensor:
    """r(X) of each model: [S, B, d]. States are kept as [S, B, 2d, T], in which every product is a plain one."""
    a, b, c = weights.scales.unbind(-1)  # each [S, L]
    Z = _first_layer(weights, X, a[:, 0], b[:, 0], c[:, 0])  # [S, B, 2d, T]
    for layer in range(1, weights.n_layers - 1):
        scales = a[:, layer], b[:, layer], c[:, layer]
        Z = linear_attention(Z.mT, *scales, weights.D[:, layer], n=weights.n).mT
    return _LastAnswer.apply(Z, weights.query_row, b[:, -1] / weights.n, c[:, -1]) + X[:, -1]


def all_states(weights: Weights, Z: Tensor) -> list[Tensor]:
    """States after each layer, by the general layer: L times [S, B, T, 2d]. Z [B, T, 2d], or [S, B, T, 2d] per model.

    The last layer's D has only its query row; all other rows of it are taken as zero.
    """
    S, L, _ = weights.scales.shape
    T = Z.shape[-2]
    last = weights.query_row.new_zeros(S, T, T)
    last[:, -1] = weights.query_row
    states, Z = [], Z.expand(S, -1, -1, -1)
    for layer in range(L):
        D = weights.D[:, layer] if layer < L - 1 else last
        Z = linear_attention(Z, *weights.scales[:, layer].unbind(-1), D, n=weights.n)
        states.append(Z)
    return states


def _first_layer(weights: Weights, X: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """After layer 1, from the inputs alone: no key but inputs and answers holds anything, and with W = I both are X.

    One product with the n + 1 inputs (for x, joined by their attention update X X^T X / n) and n answers replaces the
    general layer's product with T tokens.
    """
    layout, n = weights.layout, weights.n
    S, (B, N, d), T = len(a), X.shape, layout.n_tokens(n)
    inputs, answers = layout.inputs(n), layout.answers(n)[:n]
    place = torch.eye(T, dtype=X.dtype)
    x_rows = place[inputs] + a[:, None, None] / n * weights.D[:, 0, :, inputs].mT  # [S, n + 1, T]
    x_rows = torch.cat([x_rows, (a * c)[:, None, None] * place[inputs]], 1)  # [S, 2(n + 1), T]
    y_rows = place[answers] + b[:, None, None] / n * weights.D[:, 0, :, answers].mT  # [S, n, T]
    columns = X.mT  # [B, d, n + 1]
    update = torch.bmm(torch.bmm(columns, X), columns) / n  # [B, d, n + 1]
    sources = torch.cat([columns, update], -1).reshape(1, B * d, 2 * N).expand(S, -1, -1)
    Zx = torch.bmm(sources, x_rows).view(S, B, d, T)
    Zy = torch.bmm(sources[..., :n], y_rows).view(S, B, d, T)
    return torch.cat([Zx, Zy], 2)  # [S, B, 2d, T]


class _LastAnswer(torch.autograd.Function):
    """The answer half [S, B, d] of the last token after the last layer: the only query that counts there.

    Y s with s = b/n (c X^T q + row) over the keys, q the last token's x, and 1 for the last token, which is no key:
    what it holds itself is kept. Gradients are written out: all that states Z = [X; Y] get is one product of rank two
    (and what q gets), where autograd would write several tensors of their size.
    """

    @staticmethod
    def forward(ctx, Z, row, scale, c):
        d = Z.shape[2] // 2
        X, Y = Z[:, :, :d], Z[:, :, d:]  # each [S, B, d, T]
        products = X[..., -1:].mT @ X  # [S, B, 1, T]
        scores = c[:, None, None, None] * products + row[:, None, None]
        weighed = scale[:, None, None, None] * scores
        weighed[..., -1] = 1
        ctx.save_for_backward(Z, scale, c, products, scores, weighed)
        return (Y @ weighed.mT)[..., 0]

    @staticmethod
    def backward(ctx, g):
        Z, scale, c, products, scores, weighed = ctx.saved_tensors
        d = Z.shape[2] // 2
        X, Y = Z[:, :, :d], Z[:, :, d:]
        d_weighed = g[:, :, None] @ Y  # [S, B, 1, T]
        d_weighed[..., -1] = 0
        d_scores = scale[:, None, None, None] * d_weighed
        d_products = c[:, None, None, None] * d_scores
        left = Z.new_zeros(*Z.shape[:3], 2)
        left[:, :, :d, 0], left[:, :, d:, 1] = X[..., -1], g
        dZ = left @ torch.cat([d_products, weighed], 2)  # [S, B, 2d, T]
        dZ[:, :, :d, -1] += (X @ d_products.mT)[..., 0]
        return dZ, d_scores.sum((1, 2)), (d_weighed * scores).sum((1, 2, 3)), (d_scores * products).sum((1, 2, 3))
