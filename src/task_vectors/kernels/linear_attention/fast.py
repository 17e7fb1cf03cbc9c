"""The layer on the CPU: the T x T scores are applied, never formed, and every product is a plain one.

States are held as columns, [S, B, 2d, T]: D then multiplies [B * 2d, T] matrices that need no copy, for all prompts in
one product. A result in that order, seen as [S, B, T, 2d], is what the next layer finds fastest.
"""

import torch
from torch import Tensor


def linear_attention(
    Z: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    n: int,
    signs: Tensor | None,
    keep: Tensor | None,
    causal: bool,
) -> Tensor:
    Z = Z.mT.contiguous()  # [S, B, 2d, T]
    if keep is not None:
        Z = Z * keep[:, :, None]
    d = Z.shape[2] // 2
    queries = Z[:, :, :d] if C.dim() == 1 else C[:, None] @ Z[:, :, :d]  # [S, B, d, T]
    scale = C if C.dim() == 1 else torch.ones_like(C[:, 0, 0])  # [S]
    positions = None if D is None else _position_product(Z, D.tril() if causal else D, signs)
    update = (_causal_attention if causal else _attention)(Z, queries, scale, positions)  # [S, B, 2d, T]
    if keep is not None:
        update = update * keep[:, :, None]
    if A.dim() == 1:
        factors = torch.cat([A[:, None].expand(-1, d), B[:, None].expand(-1, d)], 1) / n  # [S, 2d]
        return torch.addcmul(Z, update, factors[:, None, :, None]).mT
    update = torch.cat([A[:, None] @ update[:, :, :d], B[:, None] @ update[:, :, d:]], 2)
    return torch.add(Z, update, alpha=1 / n).mT


def _attention(Z: Tensor, queries: Tensor, scale: Tensor, positions: Tensor | None) -> Tensor:
    """positions + scale * sum_j z_j x_j^T q_t over all keys j but the last, as (sum_j z_j x_j^T) q_t."""
    d = queries.shape[2]
    states = Z.flatten(0, 1)  # [S * B, 2d, T]
    memory = torch.bmm(states, states[:, :d].mT) - torch.bmm(states[..., -1:], states[:, :d, -1:].mT)  # [S * B, 2d, d]
    memory = memory * scale.repeat_interleave(Z.shape[1])[:, None, None]
    if positions is None:
        return torch.bmm(memory, queries.flatten(0, 1)).view_as(Z)
    return torch.baddbmm(positions.flatten(0, 1), memory, queries.flatten(0, 1)).view_as(Z)


def _causal_attention(Z: Tensor, queries: Tensor, scale: Tensor, positions: Tensor | None) -> Tensor:
    """The same with the sum over keys up to the query: a prefix sum of the outer products, O(T d^2) as the rest."""
    d = queries.shape[2]
    memory = (Z[:, :, :, None] * Z[:, :, None, :d]).index_fill(-1, _last(Z), 0).cumsum(-1)  # [S, B, 2d, d, T]
    update = (memory * queries[:, :, None]).sum(3) * scale[:, None, None, None]
    return update if positions is None else positions + update


def _position_product(Z: Tensor, D: Tensor, signs: Tensor | None) -> Tensor:
    S, B, e, T = Z.shape
    D = D.index_fill(-1, _last(Z), 0)
    if signs is not None:
        Z = Z * signs[:, :, None]
    product = torch.bmm(Z.reshape(S, B * e, T), D.mT).view(S, B, e, T)
    return product if signs is None else product * signs[:, :, None]


def _last(Z: Tensor) -> Tensor:
    return torch.tensor([Z.shape[-1] - 1], device=Z.device)
