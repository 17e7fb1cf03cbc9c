"""How a sequence of inputs and outputs becomes tokens, where its outputs are predicted, and where its class is read.

pair: one token for each output to be predicted, [x_i, x_{i-1}, y_{i-1}]: the query with the demonstration before it.
product: the same with x_{i-1} y_{i-1} as well, the term that every regression sums over the demonstrations.
interleaved: x_1, y_1, x_2, y_2 … as in Garg et al. 2022 and Han et al. 2025, an output in the first of D entries.
All see the same, in the same order. A model of pairs need not first learn to look one token back, and one of products
not to multiply, which a small transformer is slow to learn.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

LAYOUTS = ("product", "pair", "interleaved")
ENTRIES = {"product": 3, "pair": 2}  # times D, and the output


def check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"unknown token layout {layout!r}; there are: {', '.join(LAYOUTS)}")


def token_shape(layout: str, n: int, dim: int) -> tuple[int, int]:
    """Number of tokens of a sequence of n inputs, and the entries of each."""
    check_layout(layout)
    return (2 * n - 1, dim) if layout == "interleaved" else (n, ENTRIES[layout] * dim + 1)


def tokens(layout: str, x: Tensor, y: Tensor) -> Tensor:
    """Tokens [B, T, entries] for x [B, n, D] and y [B, n]; the last output is in none of them."""
    check_layout(layout)
    if layout == "interleaved":
        outputs = pad(y[..., None], (0, x.shape[-1] - 1))  # [B, n, D]
        return torch.stack([x, outputs], 2).flatten(1, 2)[:, :-1]
    parts = [x, y[..., None], x * y[..., None]] if layout == "product" else [x, y[..., None]]
    before = torch.cat(parts, -1)[:, :-1]  # [B, n - 1, entries - D]
    return torch.cat([x, pad(before, (0, 0, 1, 0))], -1)


def at_queries(layout: str, values: Tensor) -> Tensor:
    """Of values at every token [B, T, …], those where an output is predicted: [B, n, …]."""
    return values[:, ::2] if layout == "interleaved" else values


def class_token(layout: str, n_tokens: int) -> int:
    """The first token that has seen all demonstrations but the query's output: where the class is read.

    pair and product: the last, which holds the query as well. interleaved: the one before it, which holds the last
    demonstration's output, as in the paper.
    """
    return n_tokens - 2 if layout == "interleaved" else n_tokens - 1
