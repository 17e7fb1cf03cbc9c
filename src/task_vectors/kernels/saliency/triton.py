"""The Triton form: the log-sum-exp of every row of scores, then the saliency of one tile summed over all heads."""

import torch
import triton
import triton.language as tl
from torch import Tensor

QUERIES, KEYS, WIDTH, WARPS = 64, 32, 16, 8


def head_saliency_by_tiles(
    q: Tensor, k: Tensor, v: Tensor, d_out: Tensor, scale: float, mask: Tensor | None, softcap: float | None
) -> Tensor:
    """Σ_h |A_h ∘ ∂L/∂A_h| [B, T, T] in float32; arguments as in `head_saliency_by_rows`."""
    B, H, T, d = q.shape
    G, e = v.shape[1], v.shape[3]
    if q.dtype == torch.bfloat16 and not q.is_cuda:
        # Triton's interpreter multiplies bfloat16 matrices as if they were integers; a GPU does not.
        q, k, v, d_out = (x.float() for x in (q, k, v, d_out))
    # The width runs along neighboring addresses, so that loads coalesce.
    q, k, v, d_out = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v, d_out))
    lse = torch.empty(B, H, T, dtype=torch.float32, device=q.device)  # [B, H, T]
    result = torch.zeros(B, T, T, dtype=torch.float32, device=q.device)  # [B, T, T]
    seen = (q, 0, 0, 0) if mask is None else (mask.view(torch.uint8), *mask.stride())  # a pointer that is never read
    common = {
        "scale": scale,
        "softcap": softcap or 0.0,
        "CAUSAL": mask is None,
        "SOFTCAP": softcap is not None,
        "QUERIES": QUERIES,
        "KEYS": KEYS,
        "WIDTH": WIDTH,
        "num_warps": WARPS,
    }
    tiles = triton.cdiv(T, QUERIES), triton.cdiv(T, KEYS)
    q_strides, k_strides, v_strides, out_strides = (x.stride()[:3] for x in (q, k, v, d_out))
    with torch.cuda.device_of(q):
        log_sum_exp[(tiles[0], B * H)](q, k, *seen, lse, *q_strides, *k_strides, H, H // G, T, d, **common)
        saliency[(*tiles, B)](
            q, k, v, d_out, *seen, lse, result, *q_strides, *k_strides, *v_strides, *out_strides, H, H // G, T, d, e,
            **common,
        )  # fmt: skip
    return result


@triton.jit
def inner_products(
    left, left_row, right, right_row, rows, columns, T, width,
    QUERIES: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Products [QUERIES, KEYS] of the given rows of two [T, width] matrices, in float32."""
    total = tl.zeros((QUERIES, KEYS), tl.float32)
    for start in range(0, width, WIDTH):
        at = start + tl.arange(0, WIDTH)
        x = tl.load(
            left + rows[:, None] * left_row + at[None, :], (rows[:, None] < T) & (at[None, :] < width), other=0.0
        )
        y = tl.load(
            right + columns[None, :] * right_row + at[:, None],
            (columns[None, :] < T) & (at[:, None] < width),
            other=0.0,
        )
        total = tl.dot(x, y, total, input_precision="ieee")
    return total


@triton.jit
def masked_scores(
    products, mask, mask_row, mask_column, rows, columns, T, scale, softcap,
    CAUSAL: tl.constexpr, SOFTCAP: tl.constexpr,
):  # fmt: skip
    """Scores [QUERIES, KEYS], minus infinity where a query may not look."""
    scores = products * scale
    if SOFTCAP:
        scores = softcap * (2 * tl.sigmoid(2 * scores / softcap) - 1)  # softcap · tanh(scores / softcap)
    inside = (rows[:, None] < T) & (columns[None, :] < T)
    if CAUSAL:
        keep = inside & (columns[None, :] <= rows[:, None])
    else:
        keep = tl.load(mask + rows[:, None] * mask_row + columns[None, :] * mask_column, inside, other=0) != 0
    return tl.where(keep, scores, float("-inf"))


@triton.jit
def log_sum_exp(
    q, k, mask, mask_batch, mask_row, mask_column, lse,
    q_batch, q_head, q_row, k_batch, k_group, k_row,
    H, heads_per_group, T, d, scale, softcap,
    CAUSAL: tl.constexpr, SOFTCAP: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """lse [B, H, T]: log of the sum of exp(scores) of a block of queries of one head; zero where there is nothing."""
    batch, head = tl.program_id(1).to(tl.int64) // H, tl.program_id(1) % H
    rows = tl.program_id(0).to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    q += batch * q_batch + head * q_head
    k += batch * k_batch + (head // heads_per_group) * k_group
    mask += batch * mask_batch
    largest = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    stop = T
    if CAUSAL:
        stop = tl.minimum(T, (tl.program_id(0) + 1) * QUERIES)
    for start in range(0, stop, KEYS):
        columns = start + tl.arange(0, KEYS)
        products = inner_products(q, q_row, k, k_row, rows, columns, T, d, QUERIES, KEYS, WIDTH)
        scores = masked_scores(products, mask, mask_row, mask_column, rows, columns, T, scale, softcap, CAUSAL, SOFTCAP)
        new = tl.maximum(largest, tl.max(scores, 1))
        shift = tl.where(new == float("-inf"), 0.0, new)  # minus infinity less itself would be nan
        total = total * tl.exp(largest - shift) + tl.sum(tl.exp(scores - shift[:, None]), 1)
        largest = new
    value = tl.where(total > 0, largest + tl.log(tl.where(total > 0, total, 1.0)), 0.0)
    tl.store(lse + tl.program_id(1).to(tl.int64) * T + rows, value, rows < T)


@triton.jit
def saliency(
    q, k, v, d_out, mask, mask_batch, mask_row, mask_column, lse, result,
    q_batch, q_head, q_row, k_batch, k_group, k_row, v_batch, v_group, v_row, out_batch, out_head, out_row,
    H, heads_per_group, T, d, e, scale, softcap,
    CAUSAL: tl.constexpr, SOFTCAP: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One tile of the result [B, T, T], which starts as zeros: the sum over heads never leaves the registers."""
    if CAUSAL and tl.program_id(1) * KEYS >= (tl.program_id(0) + 1) * QUERIES:
        return
    batch = tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0).to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    columns = tl.program_id(1) * KEYS + tl.arange(0, KEYS)
    mask += batch * mask_batch
    total = tl.zeros((QUERIES, KEYS), tl.float32)
    for head in range(H):
        group = head // heads_per_group
        products = inner_products(
            q + batch * q_batch + head * q_head, q_row, k + batch * k_batch + group * k_group, k_row,
            rows, columns, T, d, QUERIES, KEYS, WIDTH,
        )  # fmt: skip
        scores = masked_scores(products, mask, mask_row, mask_column, rows, columns, T, scale, softcap, CAUSAL, SOFTCAP)
        norm = tl.load(lse + (batch * H + head) * T + rows, rows < T, other=0.0)
        weights = tl.exp(scores - norm[:, None])
        d_weights = inner_products(
            d_out + batch * out_batch + head * out_head, out_row, v + batch * v_batch + group * v_group, v_row,
            rows, columns, T, e, QUERIES, KEYS, WIDTH,
        )  # fmt: skip
        total += weights * tl.abs(d_weights)
    inside = (rows[:, None] < T) & (columns[None, :] < T)
    tl.store(result + batch * T * T + rows[:, None] * T + columns[None, :], total, inside)
