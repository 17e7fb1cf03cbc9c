"""The torch form: blocks of queries, all heads of a block at once, so that the scratch memory is bounded."""

import torch
from torch import Tensor

# Scores [B, H, rows, T] of one block of queries by device: 2 MiB in float32 stays in a core's cache, 256 MiB keep a GPU
# busy (see README.md).
SCRATCH = {"cpu": 2**19, "cuda": 2**26}


def head_saliency_by_rows(
    q: Tensor, k: Tensor, v: Tensor, d_out: Tensor, scale: float, mask: Tensor | None, softcap: float | None
) -> Tensor:
    """Σ_h |A_h ∘ ∂L/∂A_h| [B, T, T]; arguments as in `head_saliency`, checked, with mask [B, T, T] or None."""
    B, H, T, _ = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    k, v = k.to(dtype), v.to(dtype)  # [B, G, T, d], [B, G, T, e]
    result = torch.zeros(B, T, T, dtype=dtype, device=q.device)  # [B, T, T]
    rows = max(1, SCRATCH["cuda" if q.is_cuda else "cpu"] // (B * H * T))
    for start in range(0, T, rows):
        stop = min(start + rows, T)
        if mask is None:
            seen = stop  # no query of the block may look further
            keep = torch.ones(1, stop - start, seen, dtype=torch.bool, device=q.device).tril(start)  # [1, rows, seen]
        else:
            seen = T
            keep = mask[:, start:stop]  # [B, rows, T]
        a = _scores(q[:, :, start:stop], k[:, :, :seen])  # [B, G, H/G, rows, seen]
        a.mul_(scale)
        if softcap is not None:
            a.div_(softcap).tanh_().mul_(softcap)
        a = a.masked_fill_(~keep[:, None, None], -torch.inf).softmax(-1)
        a.mul_(_scores(d_out[:, :, start:stop], v[:, :, :seen])).abs_()
        # Where a query may look nowhere, the softmax is nan.
        result[:, start:stop, :seen] = a.sum((1, 2)).masked_fill_(~keep, 0)
    return result


def _scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Inner products [B, G, H/G, rows, keys] of queries [B, H, rows, d] and keys [B, G, keys, d]."""
    B, H, R, d = queries.shape
    G = keys.shape[1]
    # The heads of a group share its keys: as rows of one matrix they make one product.
    folded = queries.to(keys.dtype).reshape(B, G, H // G * R, d)
    return (folded @ keys.mT).view(B, G, H // G, R, keys.shape[2])
