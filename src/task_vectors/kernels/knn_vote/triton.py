"""The Triton form: tiles of distances in registers, the k nearest of each row kept beside them, and the vote."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from task_vectors.kernels.knn_vote.points import make_points

COLUMNS, WIDTH, WARPS = 64, 16, 8


def knn_vote_by_tiles(states: Tensor, labels: Tensor, k: int, metric: str, groups: Tensor) -> Tensor:
    """Predicted classes [N, L]; arguments as in `knn_vote`, checked, with states [N, L, d], k < N, groups [N]."""
    N, L, d = states.shape
    values, half_squares, first = make_points(states, metric)
    nearest = triton.next_power_of_2(k)
    rows = pick_rows(nearest)
    result = torch.empty(N, L, dtype=torch.long, device=states.device)  # [N, L]
    ids = (first.int(), groups.int().contiguous(), labels.long().contiguous())
    with torch.cuda.device_of(states):
        vote[(triton.cdiv(N, rows), L)](
            values, half_squares, *ids, result, N, L, d, k,
            NEAREST=nearest, ROWS=rows, COLUMNS=COLUMNS, WIDTH=WIDTH, num_warps=WARPS,
        )  # fmt: skip
    return result


def pick_rows(nearest: int) -> int:
    """Rows of a tile: the more neighbors each keeps in registers, the fewer rows have room."""
    return 64 if nearest <= 32 else 32


@triton.jit
def closeness(
    values, half_squares, rows, columns, N, d, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr
):
    """a·b - |b|²/2 [ROWS, COLUMNS] of one layer's points [N, d]: the larger, the nearer."""
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, d, WIDTH):
        at = start + tl.arange(0, WIDTH)
        a = tl.load(values + rows[:, None] * d + at[None, :], (rows[:, None] < N) & (at[None, :] < d), other=0.0)
        b = tl.load(values + columns[None, :] * d + at[:, None], (columns[None, :] < N) & (at[:, None] < d), other=0.0)
        products = tl.dot(a, b, products, input_precision="ieee")
    return products - tl.load(half_squares + columns, columns < N, other=0.0)[None, :]


@triton.jit
def sort_keys(close, columns):
    """Keys of int64 that are ordered by closeness and, where that is equal, from the last column to the first.

    The bits of a float, read as an integer, are ordered as the floats are, but for the negative ones, which run
    backward. (Those of -0.0 and 0.0 differ, but a sum that starts at 0.0 is not -0.0.)
    """
    bits = close.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - columns).to(tl.int64)[None, :]


@triton.jit
def keep_largest(best, keys, NONE: tl.constexpr):
    """The NEAREST largest of best [ROWS, NEAREST] and keys [ROWS, COLUMNS], no two of them equal, in no order.

    Keys go in one a row and turn. After the first tiles few are large enough, and the turns are few.
    """
    worst, new = tl.min(best, 1), tl.max(keys, 1)
    while tl.max((new > worst).to(tl.int32), 0) > 0:
        enters = (best == worst[:, None]) & (new > worst)[:, None]
        best = tl.where(enters, new[:, None], best)
        keys = tl.where(keys == new[:, None], NONE, keys)
        worst, new = tl.min(best, 1), tl.max(keys, 1)
    return best


@triton.jit
def majority(best, labels, place, k):
    """Commonest label [ROWS] of labels [ROWS, NEAREST], -1 for none; of equals the one with the largest of best."""
    votes = tl.zeros_like(labels)
    for member in range(0, k):
        label = tl.sum(tl.where(place == member, labels, 0), 1)
        votes += (labels == label[:, None]).to(votes.dtype)
    votes = tl.where(labels >= 0, votes, 0)
    leading = votes == tl.max(votes, 1)[:, None]
    nearest = tl.max(tl.where(leading & (labels >= 0), best, -(2**63)), 1)
    return tl.sum(tl.where(best == nearest[:, None], labels, 0), 1)


@triton.jit
def vote(
    values, half_squares, first, groups, labels, result, N, L, d, k,
    NEAREST: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The classes of a block of rows of one layer: result [N, L]."""
    layer = tl.program_id(1).to(tl.int64)
    values += layer * N * d
    half_squares += layer * N
    first += layer * N
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    own_first = tl.load(first + rows, rows < N, other=-1)
    own_group = tl.load(groups + rows, rows < N, other=-1)
    NONE: tl.constexpr = -(2**63)
    place = tl.arange(0, NEAREST)[None, :]
    # Below every key and all different while empty; places past k are never the worst, so nothing enters them.
    empty = tl.where(place < k, NONE + 1 + place.to(tl.int64), 2**63 - 1)
    best = tl.broadcast_to(empty, (ROWS, NEAREST))
    for start in range(0, N, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        close = closeness(values, half_squares, rows, columns.to(tl.int64), N, d, ROWS, COLUMNS, WIDTH)
        duplicate = own_first[:, None] == tl.load(first + columns, columns < N, other=-2)[None, :]
        keys = sort_keys(tl.where(duplicate, float("inf"), close), columns)
        group = tl.load(groups + columns, columns < N, other=-2)
        eligible = (columns[None, :] < N) & (own_group[:, None] != group[None, :])
        best = keep_largest(best, tl.where(eligible, keys, NONE), NONE)
    found = (best > NONE + NEAREST) & (place < k)
    column = 0x7FFFFFFF - (best & 0xFFFFFFFF)
    classes = majority(best, tl.load(labels + column, found, other=-1), place, k)
    tl.store(result + rows * L + layer, classes, rows < N)
