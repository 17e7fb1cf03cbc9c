"""How a sequence of inputs and outputs becomes tokens, where its outputs are predicted, and where its class is read.

pair: one token for each output to be predicted, [x_i, x_{i-1}, y_{i-1}]: the query with the demonstration before it.
interleaved: x_1, y_1, x_2, y_2 … as in Garg et al. 2022 and Han et al. 2025, an output in the first of D entries.
Both see the same, in the same order; a model of pairs need not first learn to look one token back.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

LAYOUTS = ("pair", "interleaved")


def check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"unknown token layout {layout!r}; there are: {', '.join(LAYOUTS)}")


def token_shape(layout: str, n: int, dim: int) -> tuple[int, int]:
    """Number of tokens of a sequence of n inputs, and the entries of each."""
    check_layout(layout)
    return (n, 2 * dim + 1) if layout == "pair" else (2 * n - 1, dim)


def tokens(layout: str, x: Tensor, y: Tensor) -> Tensor:
    """Tokens [B, T, entries] for x [B, n, D] and y [B, n]; the last output is in none of them."""
    check_layout(layout)
    if layout == "pair":
        before = torch.cat([x, y[..., None]], -1)[:, :-1]  # [B, n - 1, D + 1]
        return torch.cat([x, pad(before, (0, 0, 1, 0))], -1)
    outputs = pad(y[..., None], (0, x.shape[-1] - 1))  # [B, n, D]
    return torch.stack([x, outputs], 2).flatten(1, 2)[:, :-1]


def at_queries(layout: str, values: Tensor) -> Tensor:
    """Of values at every token [B, T, …], those where an output is predicted: [B, n, …]."""
    return values if layout == "pair" else values[:, ::2]


def class_token(layout: str, n_tokens: int) -> int:
    """The first token that has seen all demonstrations but the query's output: where the class is read.

    pair: the last, which holds the query as well. interleaved: the one before it, which holds the last demonstration's
    output, as in the paper.
    """
    return n_tokens - 1 if layout == "pair" else n_tokens - 2
