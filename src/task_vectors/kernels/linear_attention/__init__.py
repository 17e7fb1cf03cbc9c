"""One layer of the linear transformer with learned positions, for a batch of prompts and an ensemble of models."""

from torch import Tensor

from task_vectors.kernels.backend import pick_backend
from task_vectors.kernels.linear_attention import fast


def linear_attention(
    Z: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    *,
    n: int,
    signs: Tensor | None = None,
    keep: Tensor | None = None,
    causal: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Z + (1/n) S (M Z) diag(A, B)^T with scores S[t, j] = x_j^T C x_t + D[t, j] (Dong et al. 2026, eq. 1 and 5).

    Z [S, B, T, 2d]: S models, B prompts, tokens as rows, x in the first d columns and y in the last; any strides. A, B,
    C [S] (multiples of the identity) or [S, d, d]; D [S, T, T] as D[query, key], or None. n: demonstrations. The last
    token is no key (M). signs [S, B, T]: rows and columns of D are multiplied by them. keep [S, B, T] of 0 and 1 (token
    dropout, Proposition 5): a dropped token is zero in the input and in the output. causal: a token attends to itself
    and to earlier ones, by D as well. Differentiable in Z, A, B, C and D; the T x T scores are never formed.

    backend: "torch" or "triton" forces a path; None takes torch, on a GPU too, where it was measured to be as fast at
    the size that is trained and faster at a larger one.

    Raises ValueError for shapes that do not fit, RuntimeError for a backend that cannot run here.
    """
    _check(Z, A, B, C, D, n, signs, keep)
    if pick_backend(backend, Z, faster_on_gpu="torch") == "torch":
        return fast.linear_attention(Z, A, B, C, D, n, signs, keep, causal)
    from task_vectors.kernels.linear_attention import triton

    return triton.linear_attention(Z, A, B, C, D, n, signs, keep, causal)


def _check(Z, A, B, C, D, n, signs, keep) -> None:
    if Z.dim() != 4 or Z.shape[-1] % 2:
        raise ValueError(f"Z must be [models, prompts, tokens, 2 d], got {list(Z.shape)}")
    S, prompts, T, width = Z.shape
    for name, matrix in {"A": A, "B": B, "C": C}.items():
        if matrix.shape not in ((S,), (S, width // 2, width // 2)):
            raise ValueError(f"{name} must be [{S}] or [{S}, {width // 2}, {width // 2}], got {list(matrix.shape)}")
    if D is not None and D.shape != (S, T, T):
        raise ValueError(f"D must be [{S}, {T}, {T}] as D[query, key], got {list(D.shape)}")
    for name, mask in {"signs": signs, "keep": keep}.items():
        if mask is not None and mask.shape != (S, prompts, T):
            raise ValueError(f"{name} must be [{S}, {prompts}, {T}], got {list(mask.shape)}")
    if n < 1:
        raise ValueError(f"n counts the demonstrations and must be at least 1, got {n}")
