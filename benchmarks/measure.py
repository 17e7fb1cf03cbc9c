"""What the benchmarks share: seconds of a call, the spread of many, the machine's own rates, and rows that are kept.

Every result file is one tidy table. case: the sizes, in words; name: what is measured, in `unit`; median, low and high:
the 50, 20 and 80 % quantiles over rounds; lower and upper: the ends of the median's 95 % interval, and how many rounds
it is taken from; threads; and then when, where and with which versions. In a round every way runs once, one right after
the other, and a ratio is taken within a round: a busy moment of the machine hits both. A run appends its rows, all with
one date, so older runs stay.

On one thread seconds are those of the processor: on an idle machine they are the clock's, and on a busy one they leave
out the time that others ran.

`make bench` sets OMP_WAIT_POLICY=passive: where other programs run too, threads that spin while they wait for one that
has lost its core make everything many times slower.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from scipy import stats
from threadpoolctl import threadpool_limits

from task_vectors.records.environment import environment

RESULTS = Path(__file__).parent / "results"


def timed(call: Callable[[], object]) -> tuple[float, object]:
    """Seconds and result."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    now = time.process_time if alone else time.perf_counter
    wait()
    start = now()
    result = call()
    wait()
    return now() - start, result


def row(case: str, name: str, unit: str, values: Sequence[float]) -> dict:
    """One row: the spread of these values, one a round, measured with the threads that torch has now."""
    values = pd.Series(values, dtype=float)
    low, median, high = values.quantile([0.2, 0.5, 0.8])
    lower, upper = median_interval(values)
    spread = {"median": median, "low": low, "high": high, "lower": lower, "upper": upper}
    return {
        "case": case,
        "name": name,
        "unit": unit,
        **spread,
        "rounds": len(values),
        "threads": torch.get_num_threads(),
    }


def median_interval(values: pd.Series) -> tuple[float, float]:
    """95 % interval of the median of independent values of any distribution; nan for fewer than six.

    Of n values, as many lie below the true median as heads fall in n throws of a coin.
    """
    rank = int(stats.binom.ppf(0.025, len(values), 0.5))
    ordered = values.sort_values().to_list()
    return (ordered[rank - 1], ordered[-rank]) if rank else (math.nan, math.nan)


def append(benchmark: str, rows: list[dict]) -> None:
    """Print the rows, and add them, with where they come from, to results/<benchmark>.csv."""
    table, path = pd.DataFrame(rows), RESULTS / f"{benchmark}.csv"
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    here = environment()
    # Threads are a column of their own, and not always all of the processor's.
    here["processor"] = here["processor"].removesuffix(f", {torch.get_num_threads()} CPU threads")
    here |= {
        "scikit-learn": version("scikit-learn"),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "wait policy": os.environ.get("OMP_WAIT_POLICY", "default"),
    }
    older = [pd.read_csv(path, dtype=str, keep_default_na=False)] if path.exists() else []
    path.parent.mkdir(exist_ok=True)
    pd.concat([*older, table.assign(**here)]).to_csv(path, index=False)
    print(f"Added to {path}")


def thread_counts() -> Iterator[int]:
    """One thread, then all that torch takes here; the number holds, for scikit-learn too, in the body of the loop."""
    cores = torch.get_num_threads()
    try:
        for threads in sorted({1, cores}):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                yield threads
    finally:
        torch.set_num_threads(cores)


def gemm_rate(size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> float:
    """Operations a second of one product of two square matrices, into memory that is there already."""
    a = torch.randn(size, size, device=device).to(dtype)
    product = torch.empty_like(a)
    torch.mm(a, a, out=product)
    return 2 * size**3 / timed(lambda: torch.mm(a, a, out=product))[0]


def copy_bandwidth(megabytes: int, device: torch.device | str = "cpu") -> float:
    """Bytes a second, read and written, of a copy that no cache holds."""
    source = torch.ones(megabytes * 250_000, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2e6 * megabytes / timed(lambda: target.copy_(source))[0]
