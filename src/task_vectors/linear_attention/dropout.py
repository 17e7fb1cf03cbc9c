"""The weights that token dropout asks for (Dong et al. 2026, Propositions 3 and 5), derived anew.

Two layers, tasks written to arrows only: after layer 1 arrow j holds sum_i L[i, j] (x_i; y_i), and layer 2 answers
sum_ik K_ik (x_i . x_query) y_k with K = L L^T. Let every token be kept with probability p on its own: x_i by s_i, y_k
by t_k, arrow j by u_j, so that K_ik = s_i t_k sum_j u_j L_ij L_kj. For Gaussian inputs the answer's second moment is

    E |answer|^2 / d = d E |K|^2 + E (tr K)^2 + E tr K^2,

and with E tr K = p^3 |L|^2 held fixed, the best weights are those that make it least. With q = p - p^2 and r = p^2 -
p^4, for the columns l_j (arrows) and rows l^i (demonstrations) of L:

    E |K|^2    = p^2 (q sum_j |l_j|^4 + p^2 |L L^T|^2)
    E (tr K)^2 = r (q |L|_4^4 + p^2 sum_i |l^i|^4) + p^4 (q sum_j |l_j|^4 + p^2 |L|^4)
    E tr K^2   = r (q |L|_4^4 + p^2 sum_i |l^i|^4) + p^4 (q sum_j |l_j|^4 + p^2 |L L^T|^2)

At p = 1 this is (d + 1) |L L^T|^2 + 1, least where L L^T is a multiple of the identity: Proposition 3.

What the paper prints as Proposition 5, and what its public script minimizes for the plotted curve, are two other
objectives; all three stand in OBJECTIVES.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

PATIENCE = {"maxiter": 2000, "maxfun": 200_000, "ftol": 1e-12, "gtol": 1e-7}


def second_moment(weights: np.ndarray, keep: float, d: int) -> float:
    """E |answer|^2 / d for weights [n, m] of n demonstrations in m arrows, all tokens kept with probability `keep`."""
    squares = weights**2
    q, r = keep - keep**2, keep**2 - keep**4
    entries, rows, columns = (squares**2).sum(), (squares.sum(1) ** 2).sum(), (squares.sum(0) ** 2).sum()
    gram = ((weights @ weights.T) ** 2).sum()
    pairs = keep**2 * (q * columns + keep**2 * gram)
    traces = r * (q * entries + keep**2 * rows) + keep**4 * (q * columns + keep**2 * squares.sum() ** 2)
    crossed = r * (q * entries + keep**2 * rows) + keep**4 * (q * columns + keep**2 * gram)
    return float(d * pairs + traces + crossed)


def printed_moment(weights: np.ndarray, keep: float, d: int) -> float:
    """The objective as Proposition 5 prints it, with the constant p^6 |L|^4 that it leaves out.

    Against `second_moment` |K|^2 and tr K^2 have exchanged their weights d and 1, and the dropout of arrows, p^3 - p^4,
    is with the rows of L, where it belongs to its columns. At p = 1 both are the same.
    """
    squares, p = weights**2, keep
    entries, rows, columns = (squares**2).sum(), (squares.sum(1) ** 2).sum(), (squares.sum(0) ** 2).sum()
    gram = ((weights @ weights.T) ** 2).sum()
    spread = (1 + d) * ((p**3 - p**4 - p**5 + p**6) * entries + (p**4 - p**6) * rows + (p**5 - p**6) * columns)
    return float(spread + (p**3 - p**4) * rows + (p**4 + d * p**6) * gram + p**6 * squares.sum() ** 2)


def script_moment(weights: np.ndarray, keep: float, d: int) -> float:
    """The objective of the paper's script: E |K|^2 where a demonstration is kept or lost whole. It has no d.

    K = S L U L^T S: one mask S for inputs and answers, where the proposition has one for each.
    """
    squares, p = weights**2, keep
    entries, rows, columns = (squares**2).sum(), (squares.sum(1) ** 2).sum(), (squares.sum(0) ** 2).sum()
    gram = ((weights @ weights.T) ** 2).sum()
    return float((p - p**2) ** 2 * entries + (p**3 - p**4) * (rows + columns) + p**4 * gram)


Objective = Callable[[np.ndarray, float, int], float]  # of weights, keep and d
OBJECTIVES: dict[str, Objective] = {
    "derived": second_moment,
    "printed": printed_moment,
    "script": script_moment,
}


def visible(n: int, causal: bool) -> np.ndarray:
    """Which demonstrations an arrow can read, [n, n + 1]: all of them, or those whose answer stands before it."""
    return np.arange(n)[:, None] < np.arange(n + 1)[None] if causal else np.ones((n, n + 1), dtype=bool)


def predicted_weights(
    n: int,
    keep: float,
    d: int = 4,
    *,
    objective: str = "derived",
    causal: bool = False,
    starts: int = 20,
    seed: int = 0,
) -> np.ndarray:
    """The weights [n, n + 1] of norm 1 that make one of OBJECTIVES least: the best of several random starts.

    The norm is imposed exactly, by minimizing over the weights divided by their norm. Causal weights are determined up
    to signs of columns; each column is given with a positive sum.
    """
    moment, mask, rng = OBJECTIVES[objective], visible(n, causal), np.random.default_rng(seed)

    def normalized(free: np.ndarray) -> np.ndarray:
        weights = np.zeros(mask.shape)
        weights[mask] = free
        return weights / np.linalg.norm(free)

    def log_moment(free: np.ndarray) -> float:
        # The moment itself may be tiny, and the minimizer would stop before it starts.
        return np.log(moment(normalized(free), keep, d))

    drawn = rng.normal(size=(starts, mask.sum()))
    found = [minimize(log_moment, start, method="L-BFGS-B", options=PATIENCE) for start in drawn]
    weights = normalized(min(found, key=lambda result: result.fun).x)
    return weights * np.where(weights.sum(0) < 0, -1, 1)
