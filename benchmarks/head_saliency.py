"""The torch form of one layer's saliency by the number of queries that it takes at once, at the heads of Llama 3.1 8B.

Blocks of four queries are what a processor's cache holds at twice as many tokens; they were the rival of the Triton
kernel on a GPU (results/kernels_on_gpu.csv), which larger ones would have served better.
Run `python benchmarks/head_saliency.py`; it takes half a minute and adds to results/head_saliency.csv.
"""

import pandas as pd
import torch
from measure import append, row, timed
from tqdm import tqdm

from task_vectors.kernels.saliency import fast, head_saliency

HEADS = 1024, 32, 8, 128  # tokens, heads, groups, width
QUERIES = (4, 64, 1024)  # in a block
ROUNDS = 7


def main() -> None:
    append("head_saliency", compare(*HEADS))


def compare(T: int, H: int, G: int, d: int) -> list[dict]:
    """All sizes of blocks in turn."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, d_out = (torch.randn(1, n, T, d, generator=generator) for n in (H, G, G, H))
    rounds, default = [], fast.SCRATCH["cpu"]
    try:
        for _ in tqdm(range(ROUNDS + 1), desc="blocks"):
            rounds.append({})
            for queries in QUERIES:
                fast.SCRATCH["cpu"] = queries * H * T
                rounds[-1][queries] = timed(lambda: head_saliency(q, k, v, d_out, scale=d**-0.5))[0]
    finally:
        fast.SCRATCH["cpu"] = default
    times, case = pd.DataFrame(rounds[1:]), f"{T} tokens, {H} heads of {d}"
    few = QUERIES[0]
    return [
        *(row(case, f"blocks of {queries}", "s", times[queries]) for queries in QUERIES),
        *(row(case, f"blocks of {few} / blocks of {n}", "ratio", times[few] / times[n]) for n in QUERIES[1:]),
    ]


if __name__ == "__main__":
    main()
