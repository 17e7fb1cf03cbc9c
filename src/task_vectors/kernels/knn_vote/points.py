"""What both forms start from: states made ready for distances by a matrix product, and which of them are the same."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Points(NamedTuple):
    """States of L layers, moved and scaled so that the ranking of distances |a - b| is that of |b|²/2 - a·b.

    values: [L, N, d] in float32, or in float64. half_squares: [L, N], |b|²/2. first: [L, N], the lowest index of a
    state with the same values, so that two states are duplicates where their `first` is equal.
    """

    values: Tensor
    half_squares: Tensor
    first: Tensor


def make_points(states: Tensor, metric: str) -> Points:
    """Points of states [N, L, d], made layer by layer so that only one layer is in scratch memory."""
    N, L, d = states.shape
    dtype = torch.promote_types(states.dtype, torch.float32)
    points = Points(
        torch.empty(L, N, d, dtype=dtype, device=states.device),
        torch.empty(L, N, dtype=dtype, device=states.device),
        first_duplicates(states),
    )
    scale = power_below(torch.stack(states.aminmax()).abs().max().to(dtype))
    for layer, first in enumerate(points.first):
        x = states[:, layer].to(dtype)  # [N, d]
        x = on_sphere(x, first) if metric == "cosine" else x * scale  # no square is too large
        points.values[layer] = centered(x)
        # The first one's, since a device may sum a row in an order that depends on where the row lies.
        points.half_squares[layer] = points.values[layer].square().sum(1).div_(2)[first]
    return points


def first_duplicates(states: Tensor) -> Tensor:
    """For each of states [N, L, d] the lowest index of an equal one of its layer: [L, N].

    All layers are sorted and compared at once: a GPU waits for the result a few times, and not a few times a layer.
    """
    N, L, _ = states.shape
    first = lowest_index(torch.stack([hashes(x) for x in states.unbind(1)]))  # [L, N]
    layer, later = (first != torch.arange(N, device=states.device)).nonzero(as_tuple=True)
    if (states[later, layer] == states[first[layer, later], layer]).all():
        return first
    # Unequal states share a hash; this takes longer.
    return lowest_index(torch.stack([x.unique(dim=0, return_inverse=True)[1] for x in states.unbind(1)]))


def hashes(x: Tensor) -> Tensor:
    """An integer [N] for each row of x [N, d], the same for equal rows: integer sums do not depend on their order."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**31), 2**31 - 1, (x.shape[1],), generator=generator, dtype=torch.int32) | 1
    # Plus zero, since -0.0 and 0.0 are one value with two patterns of bits.
    bits = (x.float() + 0.0).view(torch.int32)  # [N, d]
    bits ^= bits >> 16  # states that were bfloat16 have only zeros in the lower half
    return bits.mul_(factors.to(x.device)).sum(1, dtype=torch.int32)


def lowest_index(keys: Tensor) -> Tensor:
    """For each of keys [L, N] of 32 bits the lowest index of an equal one in its row: [L, N]."""
    L, N = keys.shape
    row = torch.arange(L, device=keys.device)[:, None]
    values, places = (keys + (row << 32)).view(-1).unique(return_inverse=True)
    columns = torch.arange(N, device=keys.device).repeat(L)
    return torch.full_like(values, N).scatter_reduce_(0, places, columns, "amin")[places].view(L, N)


def on_sphere(x: Tensor, first: Tensor) -> Tensor:
    """Rows of x [N, d] at length 1, in float64: the squares of their distances are twice the cosine distances.

    float64, because states of a language model share a large mean: what tells them apart is a small part of them.
    """
    x = x / x.abs().amax(1, keepdim=True).double()  # no square is too small
    return x / torch.linalg.vector_norm(x, dim=1)[first, None]


def centered(x: Tensor) -> Tensor:
    """x [N, d] less about its mean, and scaled by a power of two.

    The mean is rounded, coordinate by coordinate, to a power of two of at most the range: states on a grid (integers,
    say) stay on it, and their distances are exact.
    """
    low, high = x.amin(0), x.amax(0)  # faster than aminmax, which is slow along an axis
    spread = high - low  # [d]
    per_unit = power_below(spread) * 2
    center = torch.where(spread > 0, (x.mean(0) * per_unit).round() / per_unit, low)  # [d]
    return (x - center).mul_(power_below(spread.max()))


def power_below(numbers: Tensor) -> Tensor:
    """For each number the power of two that as a factor brings its size to [1/2, 1), or as near as the type allows."""
    largest = math.frexp(torch.finfo(numbers.dtype).max)[1] - 2
    return torch.ldexp(torch.ones_like(numbers), -numbers.frexp().exponent.clamp(-largest, largest))
