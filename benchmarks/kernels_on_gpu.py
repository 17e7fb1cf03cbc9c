"""The Triton kernels on a GPU: against the torch form on the same GPU, against float64, and against their floors.

Sizes: linear attention as it is trained (chapter 08: triplets of 30 demonstrations, 1000 prompts, width 4) and eight
times as wide and three times as long, forward and backward; the neighbor vote at 700 and 3000 states of width 4096 in
32 layers; head saliency at 2048 tokens of 32 heads of width 128 in 8 groups (a layer of Llama 3.1 8B).

- A floor is the larger of two times: the operations that the definition needs, at the rate of a large square product
  of the same type taken in the same round, and the bytes that must be read or written once, at that of a large copy.
- Differences are from the torch form in float64: the largest one, of the largest entry.

Run `python benchmarks/kernels_on_gpu.py` on a machine with a GPU; it takes two minutes and adds to
results/kernels_on_gpu.csv.
"""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch
from measure import append, copy_bandwidth, gemm_rate, row, timed
from torch import Tensor

from task_vectors.kernels.knn_vote import knn_vote
from task_vectors.kernels.linear_attention import linear_attention
from task_vectors.kernels.saliency import head_saliency

DEVICE = "cuda"
ATTENTION = (4, 1000, 92, 4), (4, 1000, 272, 32)  # models, prompts, tokens, width
VOTES = (700, 32, 4096), (3000, 32, 4096)  # states, layers, width
SALIENCY = 2048, 32, 8, 128  # tokens, heads, groups, width
LARGE, MEGABYTES = 8192, 4096
CALLS, ROUNDS = 5, 9


class Work(NamedTuple):
    """One operation at one size: call(backend, dtype) gives its results; what it needs at least."""

    case: str
    call: Callable[[str, torch.dtype], tuple[Tensor, ...]]
    operations: float
    entries: float  # read or written once
    dtype: torch.dtype = torch.float32


def main() -> None:
    if DEVICE == "cuda" and not torch.cuda.is_available():
        print("Nothing measured: this benchmark needs a GPU, and torch sees none here")  # `make bench` goes on
        return
    works = [attention(*sizes) for sizes in ATTENTION] + [votes(*sizes) for sizes in VOTES]
    works += [saliency(dtype, *SALIENCY) for dtype in BYTES]
    append("kernels_on_gpu", [*rates(), *(row for work in works for row in compare(work))])


def rates() -> list[dict]:
    products = {dtype: [gemm_rate(LARGE, dtype, DEVICE) / 1e12 for _ in range(ROUNDS)] for dtype in BYTES}
    copies = [copy_bandwidth(MEGABYTES, DEVICE) / 1e9 for _ in range(ROUNDS)]
    names = {dtype: f"{LARGE} x {LARGE}, {name(dtype)}" for dtype in BYTES}
    rows = [row(names[dtype], "matrix product", "TFLOP/s", products[dtype]) for dtype in BYTES]
    return [*rows, row(f"{MEGABYTES} MB", "copy", "GB/s", copies)]


def compare(work: Work) -> list[dict]:
    """Both forms in turn, several times over, each so many calls in a row; and the floor in the same round."""
    exact = work.call("torch", torch.float64)
    rounds = []
    for _ in range(ROUNDS + 1):
        seconds = {backend: time_of(work, backend) for backend in ("torch", "triton")}
        arithmetic = work.operations / gemm_rate(LARGE, work.dtype, DEVICE)
        bytes_moved = work.entries * BYTES[work.dtype] / copy_bandwidth(MEGABYTES, DEVICE)
        rounds.append(seconds | {"floor": max(arithmetic, bytes_moved)})
    times, case = pd.DataFrame(rounds[1:]), f"{work.case}, {name(work.dtype)}"
    found = {backend: difference(work.call(backend, work.dtype), exact) for backend in ("torch", "triton")}
    return [
        row(case, "triton", "ms", 1e3 * times.triton),
        row(case, "torch", "ms", 1e3 * times.torch),
        row(case, "floor", "ms", 1e3 * times.floor),
        row(case, "torch / triton", "ratio", times.torch / times.triton),
        row(case, "triton / floor", "ratio", times.triton / times.floor),
        *(row(case, f"difference of {backend}", "of the largest entry", [found[backend]]) for backend in found),
    ]


def time_of(work: Work, backend: str) -> float:
    """Seconds of a call."""
    return timed(lambda: [work.call(backend, work.dtype) for _ in range(CALLS)])[0] / CALLS


def difference(found: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> float:
    """The largest over all results; of classes, the share that differs."""
    if exact[0].dtype == torch.long:
        return (found[0] != exact[0]).double().mean().item()
    pairs = zip(found, exact, strict=True)
    return max(((mine - theirs).abs().max() / theirs.abs().max()).item() for mine, theirs in pairs)


def attention(models: int, prompts: int, T: int, d: int) -> Work:
    """The layer and its gradients; D alone costs 2 T² operations a column, and its two gradients as much each."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    Z, G = (torch.randn(models, prompts, T, 2 * d, generator=generator, device=DEVICE) for _ in range(2))
    D = torch.randn(models, T, T, generator=generator, device=DEVICE) / T
    scales = torch.ones(3, models, device=DEVICE)

    def call(backend: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        inputs = [x.to(dtype).detach().requires_grad_() for x in (Z, *scales, D)]
        out = linear_attention(*inputs, n=T // 3, backend=backend)
        return out.detach(), *torch.autograd.grad(out, inputs, G.to(dtype))

    columns, numbers = models * prompts * 2 * d, Z.numel()
    operations = 6 * columns * T * T + 24 * columns * T * d
    return Work(f"linear attention, {T} tokens, d = {d}", call, operations, 4 * numbers + 2 * D.numel())


def votes(n_states: int, n_layers: int, width: int, n_classes: int = 7) -> Work:
    """Of the products of all pairs a triangle is enough."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    labels = torch.randint(n_classes, (n_states,), generator=generator, device=DEVICE)
    centers = 0.05 * torch.randn(n_classes, n_layers, width, generator=generator, device=DEVICE)
    states = centers[labels] + torch.randn(n_states, n_layers, width, generator=generator, device=DEVICE)

    def call(backend: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return (knn_vote(states.to(dtype), labels, backend=backend),)

    case = f"neighbor vote, {n_states} states, {n_layers} layers, width {width}"
    return Work(case, call, n_layers * n_states**2 * width, states.numel())


def saliency(dtype: torch.dtype, T: int, H: int, G: int, d: int) -> Work:
    """Scores and their gradients, of the pairs that a causal mask leaves."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    q, k, v, d_out = (torch.randn(1, n, T, d, generator=generator, device=DEVICE).to(dtype) for n in (H, G, G, H))

    def call(backend: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        inputs = (x.to(dtype) for x in (q, k, v, d_out))
        return (head_saliency(*inputs, scale=d**-0.5, backend=backend),)

    entries = 2 * (H + G) * T * d + T * T * 4 / BYTES[dtype]  # the result is in float32
    return Work(f"head saliency, {T} tokens, {H} heads of {d}", call, 2 * H * T * T * d, entries, dtype)


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


BYTES = {torch.float32: 4, torch.bfloat16: 2}

if __name__ == "__main__":
    main()
