"""Do states know more of the bases than the weights that ridge regression finds, which know none?

Ridge's weights are regressed out of the states, and the exact posterior is predicted from what is left, on other
sequences. A posterior does not change with the sign of the weights, so no linear function of them tells it, but
nonlinear ones do: those are the floors.
"""

import torch
from torch import Tensor
from torch.nn.functional import gelu

PENALTY = 1e-3  # of the prediction, in units of the number of sequences, on standardized states
DRAWS = 5  # of random projections in their floor


def beyond_weights(states: Tensor, weights: Tensor, posterior: Tensor) -> float:
    """R² of the posterior predicted from the states after ridge's weights are regressed out, on held-out sequences.

    Both regressions are fitted on every other sequence and scored on the rest. 0: what the mean posterior has; 1:
    no error; below 0 for a prediction that does harm.

    Args:
        states: [N, d] of one layer. weights: [N, D]. posterior: [N, K], P(z | demonstrations).

    Raises:
        ValueError: numbers of sequences that differ, or fewer than 4 of them.
    """
    lengths = {len(part) for part in (states, weights, posterior)}
    if len(lengths) > 1 or len(states) < 4:
        raise ValueError(f"states, weights and posterior must be of the same sequences, 4 at least; got {lengths}")
    fit, rest = slice(0, None, 2), slice(1, None, 2)
    states, weights, posterior = (part.double() for part in (states, weights, posterior))
    left = states - _predicted(weights, states, fit, 0.0)  # [N, d]; a penalty would leave some of the weights in
    predicted = _predicted(left, posterior, fit, PENALTY)[rest]  # [N / 2, K]
    truth, mean = posterior[rest], posterior[fit].mean(0)
    return 1 - ((truth - predicted).square().sum() / (truth - mean).square().sum()).item()


def floors(weights: Tensor, posterior: Tensor, width: int) -> dict[str, float]:
    """The same R² of functions of ridge's weights that know no bases, in the states' place.

    "random projection": so many random directions of the weights, through a GELU; the mean over draws. "sizes": each
    weight's absolute value, which is what a learner needs that shrinks small weights, as LASSO does.
    """
    scaled, found = weights / weights.std(), []
    for draw in range(DRAWS):
        generator = torch.Generator().manual_seed(draw)
        directions = torch.randn(weights.shape[1], width, generator=generator)  # [D, width]
        offsets = torch.randn(width, generator=generator)
        found.append(beyond_weights(gelu(scaled @ directions + offsets), weights, posterior))
    return {"random projection": sum(found) / DRAWS, "sizes": beyond_weights(weights.abs(), weights, posterior)}


def _predicted(inputs: Tensor, outputs: Tensor, fit: slice, penalty: float) -> Tensor:
    """Linear regression of outputs [N, K] on inputs [N, d], fitted on some of them: [N, K]."""
    center, spread = inputs[fit].mean(0), inputs[fit].std(0).clamp(min=1e-9)
    x, offset = (inputs - center) / spread, outputs[fit].mean(0)
    square = x[fit].mT @ x[fit] + penalty * len(x[fit]) * torch.eye(x.shape[1], dtype=x.dtype)
    return x @ torch.linalg.solve(square, x[fit].mT @ (outputs[fit] - offset)) + offset
