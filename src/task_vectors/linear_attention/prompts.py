"""In-context linear regression as tokens: the layouts of Dong et al. 2026, section 3 and Proposition 6.

A prompt is drawn as its inputs alone, X [B, n + 1, d] with the query last: x_i ~ N(0, I_d). The answers y_i = W x_i
follow from a task W [B, d, d] with rows from N(0, I_d).
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where a prompt of n demonstrations and a query keeps its inputs, arrows and answers (tokens as rows)."""

    name: str
    tokens_per_demo: int
    joined: bool = False  # input and answer in one token

    def n_tokens(self, n: int) -> int:
        return self.tokens_per_demo * (n + 1)

    def inputs(self, n: int) -> Tensor:
        """Tokens of x_1 … x_n and the query."""
        return torch.arange(0, self.n_tokens(n), self.tokens_per_demo)  # [n + 1]

    def answers(self, n: int) -> Tensor:
        """Tokens of y_1 … y_n and the empty answer of the query, which is the last token."""
        return self.inputs(n) + self.tokens_per_demo - 1  # [n + 1]

    def arrows(self, n: int) -> Tensor:
        """Tokens between input and answer: zero in the prompt. Empty but for triplets."""
        return self.inputs(n)[: (n + 1) * (self.tokens_per_demo == 3)] + 1  # [n + 1] or [0]


LAYOUTS = {
    "single": Layout("single", 1, joined=True),
    "pairs": Layout("pairs", 2),
    "triplets": Layout("triplets", 3),
    "ended": Layout("ended", 4),  # triplets with an end token, empty as the arrow is
}


def get_layout(name: str) -> Layout:
    if name not in LAYOUTS:
        raise ValueError(f"unknown layout {name!r}; there are: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def sample_inputs(n_prompts: int, n: int, d: int, generator: torch.Generator, dtype=torch.float32) -> Tensor:
    """X from N(0, I_d): n demonstrations' inputs and the query's."""
    return torch.randn(n_prompts, n + 1, d, generator=generator, dtype=dtype)  # [B, n + 1, d]


def sample_tasks(n_prompts: int, d: int, generator: torch.Generator, dtype=torch.float32) -> Tensor:
    """W with rows from N(0, I_d)."""
    return torch.randn(n_prompts, d, d, generator=generator, dtype=dtype)  # [B, d, d]


def prompt_states(X: Tensor, W: Tensor, layout: Layout) -> Tensor:
    """The prompt's tokens: x in the first d columns, y in the last d; the query's answer is left empty."""
    B, n, d = X.shape[0], X.shape[1] - 1, X.shape[2]
    Z = X.new_zeros(B, layout.n_tokens(n), 2 * d)  # [B, T, 2d]
    Z[:, layout.inputs(n), :d] = X
    Z[:, layout.answers(n)[:n], d:] = X[:, :n] @ W.mT
    return Z
