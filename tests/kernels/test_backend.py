"""Which path runs: what was asked for, or on a GPU what was measured to be faster there."""

import importlib.util

import pandas as pd
import pytest
import torch

from task_vectors.kernels.backend import pick_backend
from task_vectors.kernels.knn_vote import knn_vote
from task_vectors.kernels.linear_attention import linear_attention
from task_vectors.kernels.saliency import head_saliency
from task_vectors.paths import project_root


class OnGpu(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


CPU = torch.ones(2)
GPU = CPU.as_subclass(OnGpu)


def attend(Z, **options):
    return linear_attention(Z, *torch.ones(3, 1), None, n=1, **options)


def vote(states, **options):
    return knn_vote(states, torch.tensor([0, 1]), 1, **options)


def explain(q, **options):
    return head_saliency(q, q, q, q, scale=1.0, **options)


OPERATIONS = {  # module: the operation of one tensor, its shape, and its name in the benchmark
    "linear_attention": (attend, (1, 1, 3, 2), "linear attention"),
    "knn_vote": (vote, (2, 3), "neighbor vote"),
    "saliency": (explain, (1, 1, 3, 2), "head saliency"),
}
operations = pytest.mark.parametrize("module", OPERATIONS)


class Picked(Exception):
    """Its one argument is the path that was picked."""


@pytest.fixture
def picked(monkeypatch):
    """The path that an operation picks for a tensor of ones, which then does not run."""

    def stop(*args, **options):
        raise Picked(pick_backend(*args, **options))

    def pick(module, kind, dtype=torch.float32, **options):
        monkeypatch.setattr(f"task_vectors.kernels.{module}.pick_backend", stop)
        operation, shape, _ = OPERATIONS[module]
        with pytest.raises(Picked) as caught:
            operation(torch.ones(shape, dtype=dtype).as_subclass(kind), **options)
        return caught.value.args[0]

    return pick


@pytest.mark.parametrize("faster", ["torch", "triton"])
def test_the_default_is_the_faster_one_on_a_gpu_and_torch_elsewhere(faster):
    assert pick_backend(None, GPU, faster_on_gpu=faster) == faster
    assert pick_backend(None, CPU, faster_on_gpu=faster) == "torch"


@pytest.mark.parametrize("tensor", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("faster", ["torch", "triton"])
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_what_is_asked_for_runs(backend, faster, tensor):
    assert pick_backend(backend, tensor, faster_on_gpu=faster) == backend


def test_without_triton_the_default_is_torch_and_triton_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert pick_backend(None, GPU, faster_on_gpu="triton") == "torch"
    with pytest.raises(RuntimeError, match="not installed"):
        pick_backend("triton", GPU, faster_on_gpu="triton")


@operations
def test_the_default_of_an_operation_on_a_gpu_is_the_faster_one_as_measured(module, picked):
    """Triton where it was faster in every case of the latest run."""
    runs = pd.read_csv(project_root() / "benchmarks" / "results" / "kernels_on_gpu.csv")
    ratios = runs[(runs.date == runs.date.iloc[-1]) & (runs.name == "torch / triton")]
    mine = ratios[ratios["case"].str.startswith(OPERATIONS[module][2])]
    assert len(mine) > 0
    assert picked(module, OnGpu) == ("triton" if (mine["median"] > 1).all() else "torch")


@operations
def test_an_operation_on_a_cpu_takes_torch(module, picked):
    assert picked(module, torch.Tensor) == "torch"


@operations
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_an_operation_takes_what_is_asked_for(module, backend, picked):
    assert picked(module, OnGpu, backend=backend) == backend


@pytest.mark.parametrize("module", ["knn_vote", "saliency"])
def test_float64_takes_torch_on_a_gpu(module, picked):
    assert picked(module, OnGpu, torch.float64) == "torch"
