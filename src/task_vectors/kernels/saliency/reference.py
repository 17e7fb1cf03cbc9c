"""The formula in plain torch, with every head's A and ∂L/∂A in memory at once."""

import torch
from torch import Tensor


def attention_weights(
    q: Tensor, k: Tensor, *, scale: float, mask: Tensor | None = None, softcap: float | None = None
) -> Tensor:
    """A [B, H, T, T] of softmax attention, with zeros in the row of a query that may look nowhere."""
    T = q.shape[2]
    if mask is None:
        mask = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()
    mask = mask.view(-1, 1, T, T)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)  # [B, H, T, d]
    scores = scale * q @ k.mT  # [B, H, T, T]
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return scores.masked_fill(~mask, -torch.inf).softmax(-1).masked_fill(~mask, 0)


def head_saliency(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    d_out: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Σ_h |A_h ∘ ∂L/∂A_h| [B, T, T]; arguments as in `task_vectors.kernels.saliency.head_saliency`."""
    a = attention_weights(q, k, scale=scale, mask=mask, softcap=softcap)  # [B, H, T, T]
    d_a = d_out @ v.repeat_interleave(q.shape[1] // v.shape[1], 1).mT  # [B, H, T, T]
    return (a * d_a).abs().sum(1)
