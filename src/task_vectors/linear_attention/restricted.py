"""Models whose position matrices lie in the set of Theorem 1 (pairs) or 2 (triplets): a few numbers are left to train.

D = diag(I_n (x) Lambda_1, Lambda_2) + I (x) Lambda_3 + Lambda_4 (x) Lambda_5 in every layer but the last, of which only
the query's own entry counts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from task_vectors.linear_attention.model import Weights
from task_vectors.linear_attention.prompts import Layout
from task_vectors.linear_attention.theory import project


@dataclass(frozen=True)
class Restricted:
    """S models with tensors by name, where x and y are places 0 and 1.

    scales [S, L, 3]; joined and own [S, L - 1, 2, 2]: Lambda_1 and Lambda_2 as [query, key]; last [S]: the last layer's
    entry of the answer's token on the query. Triplets also have magnified [S, L - 1]: Lambda_3; sums
    [S, L - 1, n + 1, n + 1]: Lambda_4 as [arrow, demonstration]; reach [S, L - 1, 2]: Lambda_5 for x and y.
    """

    layout: Layout
    n: int
    tensors: dict[str, Tensor]

    def weights(self) -> Weights:
        t, layout, n = self.tensors, self.layout, self.n
        token = torch.eye(layout.n_tokens(n))
        places = torch.stack([token[layout.inputs(n)], token[layout.answers(n)]])  # [2, n + 1, T]
        demos, query = places[:, :n], places[:, n:]
        D = torch.einsum("slqk,qit,kiu->sltu", t["joined"], demos, demos)  # [S, L - 1, T, T]
        D = D + torch.einsum("slqk,qit,kiu->sltu", t["own"], query, query)
        if "sums" in t:
            arrows = token[layout.arrows(n)]  # [n + 1, T]
            D = D + torch.einsum("sl,it,iu->sltu", t["magnified"], arrows, arrows)
            D = D + torch.einsum("slk,slai,at,kiu->sltu", t["reach"], t["sums"], arrows, places)
        return Weights(layout, t["scales"], D, t["last"][:, None] * places[0, n])


def restrict(weights: Weights) -> Restricted:
    """The restricted model nearest to one model (S = 1), each D by itself and over the keys that live in layer 1."""
    layout, n = weights.layout, weights.n
    places, arrows = torch.stack([layout.inputs(n), layout.answers(n)]), layout.arrows(n)  # [2, n + 1], [n + 1] or [0]
    parts = []
    for D in weights.D[0]:
        found = project(D, layout, n)
        part = {"joined": found.concatenation[places[:, None, 0], places[None, :, 0]]}
        part["own"] = found.concatenation[places[:, None, n], places[None, :, n]]
        if len(arrows):
            formed = found.formation[arrows[None, :, None], places[:, None]]  # [2, n + 1, n + 1]
            part |= {"magnified": D[arrows, arrows].mean(), "sums": found.weights}
            part["reach"] = (formed * found.weights).sum((1, 2))
        parts.append(part)
    tensors = {name: torch.stack([part[name] for part in parts])[None] for name in parts[0]}
    tensors |= {"scales": weights.scales, "last": weights.query_row[:, places[0, n]]}
    return Restricted(layout, n, tensors)
