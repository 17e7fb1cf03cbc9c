"""Attention saliency of one layer from its queries, keys, values and output gradient, with no [H, T, T] tensor."""

import torch
from torch import Tensor

from task_vectors.kernels.backend import pick_backend
from task_vectors.kernels.saliency.fast import head_saliency_by_rows

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def head_saliency(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    d_out: Tensor,
    *,
    scale: float,
    mask: Tensor | None = None,
    softcap: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """`Σ_h |A_h ∘ ∂L/∂A_h|`, [B, T, T] as [query, key] (Dong et al. 2026), in float32 (float64 for float64 inputs).

    A_h = softmax(s) over the keys that the mask allows, with s = scale · q_h k_gᵀ, or with a softcap c the softmax of
    c · tanh(s / c), and ∂L/∂A_h = d_out_h v_gᵀ; head h uses group g = h // (H / G). A is made again tile by tile, so
    memory is that of the result. A query that may look nowhere gives zeros. The result carries no gradient.

    Args:
        q: [B, H, T, d]. k: [B, G, T, d], where G divides H. v: [B, G, T, e]. d_out: [B, H, T, e], the gradient of the
            loss with respect to A_h v_g.
        mask: [T, T] or [B, T, T] of bool, True where a query may look; None: at itself and all tokens before it.
        softcap: the largest size of a score, or None.
        backend: "torch" or "triton" forces a path; None takes Triton for CUDA tensors, where it was measured to be the
            faster one (float64 always runs in torch), and torch for others.

    Raises:
        ValueError: shapes, types or values that do not fit. RuntimeError: a backend that cannot run here.
    """
    _check(q, k, v, d_out, mask, softcap)
    if q.dtype == torch.float64:
        if backend == "triton":
            raise ValueError("backend 'triton' computes in float32, and q is float64: use backend='torch' or None")
        backend = "torch"
    if mask is not None:
        mask = mask.expand(len(q), -1, -1)  # [B, T, T]
    with torch.no_grad():
        if pick_backend(backend, q, faster_on_gpu="triton") == "torch":
            return head_saliency_by_rows(q, k, v, d_out, scale, mask, softcap)
        from task_vectors.kernels.saliency.triton import head_saliency_by_tiles

        return head_saliency_by_tiles(q, k, v, d_out, scale, mask, softcap)


def _check(q: Tensor, k: Tensor, v: Tensor, d_out: Tensor, mask: Tensor | None, softcap: float | None) -> None:
    shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in {"q": q, "k": k, "v": v, "d_out": d_out}.items())
    if any(x.ndim != 4 for x in (q, k, v, d_out)) or min(map(torch.numel, (q, k, v, d_out))) == 0:
        raise ValueError(f"q, k, v and d_out must be [batch, heads, tokens, width], none of them empty; got {shapes}")
    B, H, T, d = q.shape
    G, e = v.shape[1], v.shape[3]
    if k.shape != (B, G, T, d) or v.shape != (B, G, T, e) or d_out.shape != (B, H, T, e) or H % G:
        raise ValueError(
            "q [B, H, T, d], k [B, G, T, d], v [B, G, T, e] and d_out [B, H, T, e] must agree, and G divide H; "
            f"got {shapes}"
        )
    if q.dtype not in DTYPES or {k.dtype, v.dtype, d_out.dtype} != {q.dtype}:
        raise ValueError(
            f"q, k, v and d_out must have one floating type; got {q.dtype}, {k.dtype}, {v.dtype}, {d_out.dtype}"
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape not in ((T, T), (B, T, T))):
        raise ValueError(
            f"mask must be bool and {[T, T]} or {[B, T, T]}, True where a query may look; "
            f"got {mask.dtype} {list(mask.shape)}"
        )
    if len(devices := {x.device for x in (q, k, v, d_out, q if mask is None else mask)}) > 1:
        raise ValueError(f"all tensors must be on one device; got {', '.join(sorted(map(str, devices)))}")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap must be above 0, or None for none; got {softcap}")
