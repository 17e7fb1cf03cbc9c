"""The layer in torch: the T x T scores are applied, never formed, and every product is a plain one.

States are held as columns, [S, B, 2d, T]: D then multiplies [B * 2d, T] matrices that need no copy, for all prompts in
one product. A result in that order, seen as [S, B, T, 2d], is what the next layer finds fastest. The plain layer, the
one that is trained, has its gradients written out: at its sizes autograd's passes over memory cost as much as products.
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
    if D is not None and A.dim() == B.dim() == C.dim() == 1 and signs is None and keep is None and not causal:
        factors = torch.stack([A, B], 1).repeat_interleave(Z.shape[2] // 2, 1) / n  # [S, 2d]
        return _PlainLayer.apply(Z, factors, C, D).mT
    if keep is not None:
        Z = Z * keep[:, :, None]
    d = Z.shape[2] // 2
    X, _ = Z.split(d, 2)  # the gradient of a split is one tensor, that of a slice one more, most of it zeros
    queries = X if C.dim() == 1 else C[:, None] @ X  # [S, B, d, T]
    scale = C if C.dim() == 1 else torch.ones_like(C[:, 0, 0])  # [S]
    positions = None if D is None else _position_product(Z, D.tril() if causal else D, signs)
    update = (_causal_attention if causal else _attention)(Z, X, queries, scale, positions)  # [S, B, 2d, T]
    if keep is not None:
        update = update * keep[:, :, None]
    if A.dim() == 1:
        factors = torch.cat([A[:, None].expand(-1, d), B[:, None].expand(-1, d)], 1) / n  # [S, 2d]
        return torch.addcmul(Z, update, factors[:, None, :, None]).mT
    update = torch.cat([A[:, None] @ update[:, :, :d], B[:, None] @ update[:, :, d:]], 2)
    return torch.add(Z, update, alpha=1 / n).mT


class _PlainLayer(torch.autograd.Function):
    """Z + factors (Z D0^T + c (Z X0^T) X) for Z [S, B, 2d, T] with upper half X; 0 marks that the last key is left out.

    With M = Z X0^T and G the gradient times the factors, dM = c G X^T, and dZ = g + G D0 + dM X0; X gets, beside its
    part of dZ, c M^T G and (but for the last token) dM^T Z.
    """

    @staticmethod
    def forward(ctx, Z, factors, c, D):
        S, B, e, T = Z.shape
        D0 = D.index_fill(-1, _last(Z), 0)
        states, X = Z.view(S * B, e, T), Z[:, :, : e // 2].reshape(S * B, e // 2, T)
        X0 = X.index_fill(-1, _last(Z), 0)
        memory = torch.bmm(states, X0.mT)  # [S * B, 2d, d]
        scale = c.repeat_interleave(B)[:, None, None]
        update = torch.bmm(Z.view(S, B * e, T), D0.mT).view(S * B, e, T).baddbmm_(scale * memory, X).view_as(Z)
        ctx.save_for_backward(Z, factors, c, D0, X, X0, memory, update)
        return torch.addcmul(Z, update, factors[:, None, :, None])

    @staticmethod
    def backward(ctx, g):
        Z, factors, c, D0, X, X0, memory, update = ctx.saved_tensors
        S, B, e, T = Z.shape
        g = g.contiguous()
        G = g * factors[:, None, :, None]
        wide, columns, scale = G.view(S, B * e, T), G.view(S * B, e, T), c.repeat_interleave(B)[:, None, None]
        from_scores = torch.bmm(columns, X.mT)  # [S * B, 2d, d]
        d_memory = scale * from_scores
        dZ = torch.baddbmm(g.view_as(wide), wide, D0).view(S * B, e, T).baddbmm_(d_memory, X0)
        dX = torch.bmm(d_memory.mT, Z.view(S * B, e, T)).index_fill_(-1, _last(Z), 0)
        dZ[:, : e // 2] += dX.baddbmm_((scale * memory).mT, columns)
        dD = torch.bmm(wide.mT, Z.view_as(wide)).index_fill_(-1, _last(Z), 0)
        dc = (from_scores * memory).view(S, -1).sum(1)
        return dZ.view_as(Z), (g * update).sum((1, 3)), dc, dD


def _attention(Z: Tensor, X: Tensor, queries: Tensor, scale: Tensor, positions: Tensor | None) -> Tensor:
    """positions + scale * sum_j z_j x_j^T q_t over all keys j but the last, as (sum_j z_j x_j^T) q_t."""
    values, keys, queries = (tensor.flatten(0, 1) for tensor in (Z[..., :-1], X[..., :-1], queries))
    memory = torch.bmm(values, keys.mT) * scale.repeat_interleave(Z.shape[1])[:, None, None]  # [S * B, 2d, d]
    if positions is None:
        return torch.bmm(memory, queries).view_as(Z)
    return torch.baddbmm(positions.flatten(0, 1), memory, queries).view_as(Z)


def _causal_attention(Z: Tensor, X: Tensor, queries: Tensor, scale: Tensor, positions: Tensor | None) -> Tensor:
    """The same with the sum over keys up to the query: a prefix sum of the outer products, O(T d^2) as the rest."""
    memory = (Z[:, :, :, None] * X[:, :, None]).index_fill(-1, _last(Z), 0).cumsum(-1)  # [S, B, 2d, d, T]
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
