"""The layer in Triton: one operation, run three more times with its arguments exchanged, makes the gradients too.

    apply(Q, K, V, D): U_t = sum_j (q_t . k_j + D[t, j]) v_j

over the keys j that t may see. With G the gradient of U: dQ = apply(G, V, K), dK = apply^T(V, G, Q),
dV = apply^T(K, Q, G, D^T), where apply^T sums over the tokens that see a key; and dD[t, j] = sum G_t . v_j.

Models and prompts are on the first axis of a launch, the only one that may be longer than 65 535.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS = 32  # of a tile of queries
KEYS = 16  # tokens of a step of D's product
COLUMNS = 64  # of a tile of values: prompts times width, so that D meets a matrix and not one prompt's few columns
WARPS, STAGES = 8, 1  # with fewer warps, or with more keys in a step, float32 spills registers
SPLITS = 8  # parts of the batch whose gradients of D are added at the end


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
    if keep is not None:
        Z = Z * keep[..., None]
    d = Z.shape[-1] // 2
    X = Z[..., :d]  # [S, B, T, d]
    queries = C[:, None, None, None] * X if C.dim() == 1 else X @ C[:, None].mT
    if D is not None:
        D = D.index_fill(-1, torch.tensor([Z.shape[2] - 1], device=Z.device), 0)
        D = D.tril() if causal else D
    update = _Apply.apply(queries, X, Z, D, signs, causal)  # [S, B, T, 2d]
    if keep is not None:
        update = update * keep[..., None]
    if A.dim() == 1:
        factors = torch.cat([A[:, None].expand(-1, d), B[:, None].expand(-1, d)], 1) / n  # [S, 2d]
        return torch.addcmul(Z, update, factors[:, None, None].to(Z.dtype))
    update = torch.cat([update[..., :d] @ A[:, None].mT, update[..., d:] @ B[:, None].mT], -1)
    return torch.add(Z, update, alpha=1 / n)


class _Apply(torch.autograd.Function):
    """U [S, B, T, e] for Q, K [S, B, T, d] and V [S, B, T, e]; the last token is no key of the first term."""

    @staticmethod
    def forward(ctx, Q, K, V, D, signs, causal):
        ctx.save_for_backward(Q, K, V, D, signs)
        ctx.causal = causal
        return _apply(Q, K, V, D, signs, causal, transposed=False)

    @staticmethod
    def backward(ctx, G):
        Q, K, V, D, signs = ctx.saved_tensors
        dQ = _apply(G, V, K, None, None, ctx.causal, transposed=False)
        dK = _apply(V, G, Q, None, None, ctx.causal, transposed=True)
        dV = _apply(K, Q, G, None if D is None else D.mT, signs, ctx.causal, transposed=True)
        dD = None if D is None else _position_gradient(G, V, signs).to(D.dtype)
        return dQ, dK, dV, dD, None, None


def _apply(
    Q: Tensor, K: Tensor, V: Tensor, D: Tensor | None, signs: Tensor | None, causal: bool, transposed: bool
) -> Tensor:
    S, B, T, e = V.shape
    width = triton.next_power_of_2(e)
    prompts = max(1, COLUMNS // width)
    tiles, batches = triton.cdiv(T, TOKENS), triton.cdiv(B, prompts)
    memory = torch.empty(S, B, tiles, Q.shape[-1], e, device=V.device, dtype=torch.float32)
    options = {"E": e, "WIDTH": width, "PROMPTS": prompts, "TOKENS": TOKENS, "D_KEY": Q.shape[-1]}
    summed = T if transposed else T - 1
    with torch.cuda.device_of(V):
        _memory_kernel[S * batches, tiles](
            K, V, memory, batches, B, T, summed, tiles, *K.stride(), *V.stride(), **options
        )
    if not causal:
        memory = memory.sum(2, keepdim=True)
    else:  # what lies in tiles before a query's own, or after it
        total = memory.flip(2).cumsum(2).flip(2) if transposed else memory.cumsum(2)
        memory = total - memory
    out = torch.empty_like(V, memory_format=torch.contiguous_format)
    D = D if D is None else D.to(V.dtype)
    signs = signs if signs is None else signs.expand(S, B, T)
    with torch.cuda.device_of(V):
        _apply_kernel[S * batches, tiles](
            Q, K, V, D, signs, memory, out, batches, B, T, summed, memory.shape[2],
            *Q.stride(), *K.stride(), *V.stride(), *(D.stride() if D is not None else (0, 0, 0)),
            *(signs.stride() if signs is not None else (0, 0, 0)),
            HAS_D=D is not None, HAS_SIGNS=signs is not None, CAUSAL=causal, TRANSPOSED=transposed, WIDEN=_widen(V),
            KEYS=KEYS, num_warps=WARPS, num_stages=STAGES, **options,
        )  # fmt: skip
    return out


def _position_gradient(G: Tensor, V: Tensor, signs: Tensor | None) -> Tensor:
    S, B, T, e = V.shape
    width = triton.next_power_of_2(e)
    prompts = max(1, COLUMNS // width)
    splits, tiles = min(SPLITS, triton.cdiv(B, prompts)), triton.cdiv(T, TOKENS)
    parts = torch.empty(splits, S, T, T, device=V.device, dtype=torch.float32)
    signs = signs if signs is None else signs.expand(S, B, T)
    with torch.cuda.device_of(V):
        _position_gradient_kernel[S * splits, tiles, tiles](
            G, V, signs, parts, S, B, T, triton.cdiv(triton.cdiv(B, prompts), splits),
            *G.stride(), *V.stride(), *(signs.stride() if signs is not None else (0, 0, 0)),
            HAS_SIGNS=signs is not None, WIDEN=_widen(V), E=e, WIDTH=width, PROMPTS=prompts, TOKENS=TOKENS,
            num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
    return parts.sum(0)


def _widen(V: Tensor) -> bool:
    """Triton's interpreter multiplies bfloat16 matrices as if they were integers; a GPU does not."""
    return V.dtype == torch.bfloat16 and not V.is_cuda


@triton.jit
def _places(X, s, rows, b, c, x0, x1, x2, x3):
    """Pointers [rows, columns] into X [S, B, T, e], with offsets of 64 bits; b and c say what a column holds."""
    across = s * x0 + b.to(tl.int64) * x1 + tl.cast(c, tl.int64) * x3
    return X + ((rows.to(tl.int64) * x2)[:, None] + across[None])


@triton.jit
def _memory_kernel(
    K, V, out, batches, B, T, summed, tiles, k0, k1, k2, k3, v0, v1, v2, v3,
    E: tl.constexpr, WIDTH: tl.constexpr, PROMPTS: tl.constexpr, TOKENS: tl.constexpr, D_KEY: tl.constexpr,
):  # fmt: skip
    """out[s, b, tile, i, c] = sum over the tile's tokens j < summed of k_j[i] v_j[c]."""
    s, tile = (tl.program_id(0) // batches).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, PROMPTS * WIDTH)
    b = tl.program_id(0) % batches * PROMPTS + column // WIDTH
    c = column % WIDTH
    j = tile * TOKENS + tl.arange(0, TOKENS)
    inside = (b < B) & (c < E)
    seen = (j < summed)[:, None] & inside[None]
    values = tl.load(_places(V, s, j, b, c, v0, v1, v2, v3), seen, 0.0).to(tl.float32)
    for i in range(D_KEY):
        key = tl.load(_places(K, s, j, b, i, k0, k1, k2, k3), seen, 0.0).to(tl.float32)
        tl.store(out + (((s * B + b) * tiles + tile) * D_KEY + i) * E + c, tl.sum(key * values, 0), inside)


@triton.jit
def _apply_kernel(
    Q, K, V, D, signs, memory, out, batches, B, T, summed, tiles,
    q0, q1, q2, q3, k0, k1, k2, k3, v0, v1, v2, v3, d0, d1, d2, s0, s1, s2,
    HAS_D: tl.constexpr, HAS_SIGNS: tl.constexpr, CAUSAL: tl.constexpr, TRANSPOSED: tl.constexpr, WIDEN: tl.constexpr,
    E: tl.constexpr, WIDTH: tl.constexpr, PROMPTS: tl.constexpr, TOKENS: tl.constexpr, D_KEY: tl.constexpr,
    KEYS: tl.constexpr,
):  # fmt: skip
    """One tile of tokens for a few prompts: D's product with all keys, what the memory holds, and the tile itself."""
    s, tile = (tl.program_id(0) // batches).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, PROMPTS * WIDTH)
    b = tl.program_id(0) % batches * PROMPTS + column // WIDTH
    c = column % WIDTH
    row = tl.arange(0, TOKENS)
    t = tile * TOKENS + row
    inside = (b < B) & (c < E)
    valid = (t < T)[:, None] & inside[None]
    sum = tl.zeros((TOKENS, PROMPTS * WIDTH), tl.float32)
    if HAS_D:
        for start in range(0, T, KEYS):
            j = start + tl.arange(0, KEYS)
            weights = tl.load(_places(D, s, t, j, 0, d0, d2, d1, 0), (t < T)[:, None] & (j < T)[None], 0.0)
            seen = (j < T)[:, None] & inside[None]
            values = tl.load(_places(V, s, j, b, c, v0, v1, v2, v3), seen, 0.0)
            if HAS_SIGNS:
                sign = tl.load(_places(signs, s, j, b, 0, s0, s1, s2, 0), seen, 0.0).to(tl.float32)
                values = (values * sign).to(weights.dtype)
            if WIDEN:
                weights, values = weights.to(tl.float32), values.to(tl.float32)
            sum = tl.dot(weights, values, sum, input_precision="ieee")
        if HAS_SIGNS:
            sum *= tl.load(_places(signs, s, t, b, 0, s0, s1, s2, 0), valid, 0.0).to(tl.float32)
    # A key takes no part if it is the last token: by `summed`, or transposed, by having no output of this term.
    answered = valid & (t < T - 1)[:, None] if TRANSPOSED else valid
    held = tile if CAUSAL else 0
    for i in range(D_KEY):
        query = tl.load(_places(Q, s, t, b, i, q0, q1, q2, q3), answered, 0.0).to(tl.float32)
        store = tl.load(memory + (((s * B + b) * tiles + held) * D_KEY + i) * E + c, inside, 0.0)
        sum += query * store[None]
    if CAUSAL:
        for step in range(TOKENS):
            j = tile * TOKENS + step + tl.zeros((1,), tl.int32)
            sees = (j >= t) if TRANSPOSED else (j <= t)
            present = (inside & (j < summed))[None]
            score = tl.zeros((TOKENS, PROMPTS * WIDTH), tl.float32)
            for i in range(D_KEY):
                query = tl.load(_places(Q, s, t, b, i, q0, q1, q2, q3), answered, 0.0).to(tl.float32)
                key = tl.load(_places(K, s, j, b, i, k0, k1, k2, k3), present, 0.0).to(tl.float32)
                score += query * key
            value = tl.load(_places(V, s, j, b, c, v0, v1, v2, v3), present, 0.0).to(tl.float32)
            sum += tl.where(sees[:, None], score, 0.0) * value
    tl.store(out + ((s * B + b[None]) * T + t[:, None]) * E + c[None], sum.to(out.dtype.element_ty), valid)


@triton.jit
def _position_gradient_kernel(
    G, V, signs, out, S, B, T, steps, g0, g1, g2, g3, v0, v1, v2, v3, s0, s1, s2,
    HAS_SIGNS: tl.constexpr, WIDEN: tl.constexpr,
    E: tl.constexpr, WIDTH: tl.constexpr, PROMPTS: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """out[split, s, t, j] = sum over the split's prompts and all columns of G_t v_j."""
    s, split = (tl.program_id(0) % S).to(tl.int64), tl.program_id(0) // S
    column, row = tl.arange(0, PROMPTS * WIDTH), tl.arange(0, TOKENS)
    t, j = tl.program_id(1) * TOKENS + row, tl.program_id(2) * TOKENS + row
    c = column % WIDTH
    sum = tl.zeros((TOKENS, TOKENS), tl.float32)
    for step in range(steps):
        b = (split * steps + step) * PROMPTS + column // WIDTH
        inside = (b < B) & (c < E)
        in_t, in_j = (t < T)[:, None] & inside[None], (j < T)[:, None] & inside[None]
        gradient = tl.load(_places(G, s, t, b, c, g0, g1, g2, g3), in_t, 0.0)
        values = tl.load(_places(V, s, j, b, c, v0, v1, v2, v3), in_j, 0.0)
        if HAS_SIGNS:
            sign = tl.load(_places(signs, s, t, b, 0, s0, s1, s2, 0), in_t, 0.0).to(tl.float32)
            gradient = (gradient * sign).to(V.dtype.element_ty)
            sign = tl.load(_places(signs, s, j, b, 0, s0, s1, s2, 0), in_j, 0.0).to(tl.float32)
            values = (values * sign).to(V.dtype.element_ty)
        if WIDEN:
            gradient, values = gradient.to(tl.float32), values.to(tl.float32)
        sum = tl.dot(gradient, tl.trans(values), sum, input_precision="ieee")
    tl.store(out + ((split * S + s) * T + t[:, None]) * T + j[None], sum, (t < T)[:, None] & (j < T)[None])
