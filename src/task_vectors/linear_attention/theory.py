"""The sets of position matrices in Theorems 1 and 2 of Dong et al. 2026, and how much of a learned D they explain.

In code D is D[query, key] (tokens as rows), the transpose of the paper's. Theorem 1 (pairs): every demonstration's
tokens mix their own x and y in one way (Lambda_1), the query's in another (Lambda_2): embedding concatenation. Theorem
2 (triplets) adds Lambda_4 (x) Lambda_5: arrow i reads sum_j beta_ij x_j and, with the same weights, sum_j beta_ij y_j:
task-vector formation. Its self magnification Lambda_3 acts on arrows that hold nothing in layer 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from task_vectors.linear_attention.prompts import Layout

IMPUTATIONS = 100  # rounds of the rank-one fit with an unseen entry


@dataclass(frozen=True)
class Projection:
    """The nearest point of the theorem's set to one D [T, T], its two parts, and shares of ||D||^2 over live entries.

    mask is the share of the entries that the set may use at all, free of ties: what a looser reading would report.
    """

    concatenation: Tensor
    formation: Tensor
    weights: Tensor  # [n + 1, n + 1] beta of arrow (row) on demonstration (column), or empty
    share: float
    formation_share: float
    mask_share: float


def live_keys(layout: Layout, n: int) -> Tensor:
    """Tokens that hold something before layer 1, where D_1 can change the loss: each x, and each y but the query's."""
    return torch.cat([layout.inputs(n), layout.answers(n)[:n]]).sort().values


def project(D: Tensor, layout: Layout, n: int) -> Projection:
    """Project a first layer's D [T, T] on the set of Theorem 1 (pairs) or 2 (triplets), over its live keys."""
    alive = torch.zeros_like(D)
    alive[:, live_keys(layout, n)] = 1
    D = D * alive
    concatenation, allowed = _concatenation(D, layout, n)
    formation, weights = _formation(D, layout, n)
    allowed[layout.arrows(n)[:, None], live_keys(layout, n)] = 1
    total = D.square().sum()
    unexplained = (D - (concatenation + formation) * alive).square().sum()
    return Projection(
        concatenation,
        formation,
        weights,
        share=1 - (unexplained / total).item(),
        formation_share=((formation * alive).square().sum() / total).item(),
        mask_share=((D * allowed).square().sum() / total).item(),
    )


def _concatenation(D: Tensor, layout: Layout, n: int) -> tuple[Tensor, Tensor]:
    """diag(I_n (x) Lambda_1, Lambda_2): a mean over demonstrations for each of four places, and the query's own."""
    fitted, allowed = torch.zeros_like(D), torch.zeros_like(D)
    places = layout.inputs(n), layout.answers(n)
    for query in places:
        for key in places:
            fitted[query[:n], key[:n]] = D[query[:n], key[:n]].mean()
            fitted[query[n], key[n]] = D[query[n], key[n]]
            allowed[query, key] = 1
    return fitted, allowed


def _formation(D: Tensor, layout: Layout, n: int) -> tuple[Tensor, Tensor]:
    """Lambda_4 (x) Lambda_5: the best rank-one fit of the arrows' rows, seen as [x or y, arrow and demonstration].

    The query has no answer to weigh: that column of the y part is unseen, and is filled in by the fit itself.
    """
    arrows, fitted = layout.arrows(n), torch.zeros_like(D)
    if len(arrows) == 0:
        return fitted, D.new_zeros(0, 0)
    keys = torch.stack([layout.inputs(n), layout.answers(n)])  # [2, n + 1]
    blocks = D[arrows[None, :, None], keys[:, None, :]]  # [2, n + 1, n + 1]
    for _ in range(IMPUTATIONS):
        U, sizes, V = torch.linalg.svd(blocks.flatten(1), full_matrices=False)
        fit = (sizes[0] * U[:, :1] * V[:1]).view_as(blocks)
        blocks[1, :, n] = fit[1, :, n]
    fitted[arrows[None, :, None], keys[:, None, :]] = fit
    return fitted, V[0].view(n + 1, n + 1)
