"""A small GPT for in-context regression: pre-norm blocks of GPT-2's shape on vectors in place of words.

Equal to transformers' GPT-2 with activation_function="gelu" at copied weights. GPT-2's own activation approximates the
GELU by a tanh, which takes a CPU several times as long as the exact one.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class Attention(nn.Module):
    """Causal self-attention of H heads, each of width d / H."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, states: Tensor, keep_heads: Tensor | None = None) -> Tensor:
        B, T, d = states.shape
        parts = self.queries_keys_values(states).view(B, T, 3, self.n_heads, d // self.n_heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # each [B, H, T, d / H]
        mixed = causal_attention(queries, keys, values)
        mixed = mixed.transpose(1, 2)  # [B, T, H, d / H]
        if keep_heads is not None:
            mixed = mixed * keep_heads[:, None]
        return self.output(mixed.reshape(B, T, d))


class Block(nn.Module):
    """Attention, then a network of one hidden layer four times as wide, each added to the residual stream."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, n_heads)
        self.network_norm = nn.LayerNorm(width)
        self.network_in = nn.Linear(width, 4 * width)
        self.network_out = nn.Linear(4 * width, width)

    def forward(self, states: Tensor, keep_heads: Tensor | None = None) -> Tensor:
        states = states + self.attention(self.attention_norm(states), keep_heads)
        return states + self.network_out(gelu(self.network_in(self.network_norm(states))))


class GPT(nn.Module):
    """Reads tokens [B, T, entries], gives one number for each [B, T].

    Weights are normal with sd 1 / sqrt(width): GPT-2's 0.02 is meant for widths near a thousand, and at 64 it leaves
    attention uniform for thousands of steps. Those that write to the residual stream are smaller by sqrt(2 L).
    """

    def __init__(self, entries: int, n_tokens: int, n_layers: int, width: int, n_heads: int):
        super().__init__()
        self.read_in = nn.Linear(entries, width)
        self.positions = nn.Parameter(torch.zeros(n_tokens, width))
        self.blocks = nn.ModuleList(Block(width, n_heads) for _ in range(n_layers))
        self.final_norm = nn.LayerNorm(width)
        self.read_out = nn.Linear(width, 1)
        self._initialize()

    def forward(self, tokens: Tensor, keep_heads: Tensor | None = None) -> Tensor:
        """Predictions [B, T]. keep_heads: [L, H], what each head's output is multiplied by."""
        return self.finish(self.embed(tokens), keep_heads=keep_heads)

    def embed(self, tokens: Tensor) -> Tensor:
        """The residual stream before the first block: [B, T, d]."""
        return self.read_in(tokens) + self.positions[: tokens.shape[1]]

    def finish(self, states: Tensor, after: int = 0, keep_heads: Tensor | None = None) -> Tensor:
        """Predictions [B, T] from the states [B, T, d] after so many blocks."""
        for layer in range(after, len(self.blocks)):
            states = self.blocks[layer](states, None if keep_heads is None else keep_heads[layer])
        return self.read_out(self.final_norm(states))[..., 0]

    def states(self, tokens: Tensor) -> Tensor:
        """The residual stream after each block: [B, T, L, d]."""
        states, found = self.embed(tokens), []
        for block in self.blocks:
            states = block(states)
            found.append(states)
        return torch.stack(found, 2)

    def _initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                writes = name.endswith(("output.weight", "network_out.weight"))
                std = 1 / math.sqrt(self.read_in.out_features)
                nn.init.normal_(parameter, std=std / math.sqrt(2 * len(self.blocks)) if writes else std)


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(d / H)) v over a token and those before it; all [B, H, T, d / H].

    For so few tokens the fused form is no faster on a CPU forward, and its backward is slower, on two threads as well.
    """
    if queries.is_cuda:
        return scaled_dot_product_attention(queries, keys, values, is_causal=True)
    T, width = queries.shape[-2:]
    later = torch.full((T, T), -math.inf, dtype=queries.dtype).triu(1)
    scores = queries @ keys.mT * (1 / math.sqrt(width)) + later  # [B, H, T, T]
    return scores.softmax(-1) @ values
