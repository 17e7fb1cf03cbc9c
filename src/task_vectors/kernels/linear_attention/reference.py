"""One layer of linear attention, the formula as it stands in Dong et al. 2026, eq. 1 and 5."""

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
    """Z + (1/n) S (M Z) diag(A, B)^T with scores S[t, j] = x_j^T C x_t + (P D P)[t, j], formed in full: [S, B, T, T].

    The paper has tokens as columns: Z + (1/n) V Z M (Z^T Q Z + D') with D' = D^T. M takes the last token from the keys.
    """
    T, d = Z.shape[2], Z.shape[3] // 2
    if keep is not None:
        Z = Z * keep[..., None]
    A, B, C = (matrix if matrix.dim() == 3 else matrix[:, None, None] * torch.eye(d).to(matrix) for matrix in (A, B, C))
    X, Y = Z[..., :d], Z[..., d:]
    scores = X @ C[:, None].mT @ X.mT  # [S, B, T, T]
    if D is not None:
        positions = D[:, None] if signs is None else signs[..., None] * D[:, None] * signs[..., None, :]
        scores = scores + positions
    visible = torch.ones(T, T, dtype=torch.bool, device=Z.device)
    visible[:, -1] = False
    if causal:
        visible = visible.tril()
    scores = scores * visible
    update = torch.cat([scores @ X @ A[:, None].mT, scores @ Y @ B[:, None].mT], -1) / n
    if keep is not None:
        update = update * keep[..., None]
    return Z + update
