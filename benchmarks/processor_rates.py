"""What this processor can do: the rate of a large matrix product, and of a large copy. All floors rest on these two.

The product is of square matrices, in float32 and bfloat16; the copy is of float32 numbers, and counts what is read and
what is written. Run `python benchmarks/processor_rates.py`; it takes seconds (a minute on a processor without bfloat16
instructions) and adds to results/processor_rates.csv.
"""

import torch
from measure import append, copy_bandwidth, gemm_rate, row, thread_counts

SIZES = {torch.float32: 2048, torch.bfloat16: 1024}
MEGABYTES = 256
ROUNDS = 9


def main() -> None:
    rows = []
    for _ in thread_counts():
        for dtype, size in SIZES.items():
            case = f"{size} x {size}, {str(dtype).removeprefix('torch.')}"
            rates = [gemm_rate(size, dtype) / 1e9 for _ in range(ROUNDS)]
            rows.append(row(case, "matrix product", "GFLOP/s", rates))
        rates = [copy_bandwidth(MEGABYTES) / 1e9 for _ in range(ROUNDS)]
        rows.append(row(f"{MEGABYTES} MB, float32", "copy", "GB/s", rates))
    append("processor_rates", rows)


if __name__ == "__main__":
    main()
