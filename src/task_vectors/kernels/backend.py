"""Which path runs an operation: on CUDA tensors the one that was measured to be faster there, elsewhere torch."""

import importlib.util
import os

import torch

BACKENDS = ("torch", "triton")


def pick_backend(backend: str | None, tensor: torch.Tensor, *, faster_on_gpu: str) -> str:
    """The path for `tensor`: the one that was asked for, or else on a GPU the faster one if it runs, elsewhere torch.

    `faster_on_gpu` is what benchmarks/kernels_on_gpu.py found for the operation.

    Raises ValueError for an unknown name and RuntimeError for a backend that cannot run here.
    """
    if backend is None:
        return faster_on_gpu if tensor.is_cuda and not _why_no_triton(tensor) else "torch"
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; there are: {', '.join(BACKENDS)} (None picks by device)")
    if backend == "triton" and (reason := _why_no_triton(tensor)):
        raise RuntimeError(f"backend 'triton' cannot run: {reason}; backend='torch' runs everywhere")
    return backend


def _why_no_triton(tensor: torch.Tensor) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed (it exists for Linux only)"
    if not tensor.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the tensors are on {tensor.device}, and only TRITON_INTERPRET=1 runs it without a GPU, for tests"
    return None
