"""How the Triton kernels are launched: on the device of their tensors, and in a grid that a GPU takes."""

import contextlib

import pytest
import torch

from task_vectors.kernels.knn_vote import knn_vote
from task_vectors.kernels.knn_vote import triton as vote
from task_vectors.kernels.linear_attention import linear_attention
from task_vectors.kernels.linear_attention import triton as attention
from task_vectors.kernels.saliency import head_saliency
from task_vectors.kernels.saliency import triton as saliency

LONGEST = 2**31 - 1, 65_535, 65_535  # axes of a grid in CUDA


def attend(prompts=2):
    Z = torch.ones(1, 1, 3, 2).expand(1, prompts, 3, 2).requires_grad_()
    D = torch.ones(1, 3, 3, requires_grad=True)
    linear_attention(Z, *torch.ones(3, 1), D, n=1, backend="triton").sum().backward()


def choose():
    knn_vote(torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 1]), 1, backend="triton")


def explain():
    head_saliency(*torch.ones(4, 1, 2, 3, 2), scale=1.0, backend="triton")


OPERATIONS = {  # an operation, its module, and how often it launches each of its kernels
    "linear attention": (attend, attention, {"_memory_kernel": 4, "_apply_kernel": 4, "_position_gradient_kernel": 1}),
    "neighbor vote": (choose, vote, {"vote": 1}),
    "head saliency": (explain, saliency, {"log_sum_exp": 1, "saliency": 1}),
}


@pytest.fixture
def launches(monkeypatch):
    """Names, grids and devices of what is launched from a module; nothing runs."""
    devices, found = [None], []

    @contextlib.contextmanager
    def device_of(tensor):
        devices.append(tensor.device)
        yield
        devices.pop()

    class Kernel:
        def __init__(self, name):
            self.name = name

        def __getitem__(self, grid):
            return lambda *args, **options: found.append((self.name, grid, devices[-1]))

    def watch(module, names):
        monkeypatch.setattr(torch.cuda, "device_of", device_of)
        for name in names:
            monkeypatch.setattr(module, name, Kernel(name))
        return found

    return watch


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_launch_is_on_the_device_of_its_tensors(name, launches):
    """On a machine with several GPUs the current one may be another."""
    operation, module, kernels = OPERATIONS[name]
    found = launches(module, kernels)
    operation()
    assert sorted(name for name, _, _ in found) == sorted(name for name, times in kernels.items() for _ in range(times))
    assert {device for _, _, device in found} == {torch.device("cpu")}


def test_linear_attention_takes_more_prompts_than_fit_on_a_short_axis(launches, monkeypatch):
    monkeypatch.setattr(attention, "COLUMNS", 1)  # each prompt in a program of its own, as wide ones are
    _, module, kernels = OPERATIONS["linear attention"]
    found = launches(module, kernels)
    attend(prompts=70_000)
    for name, grid, _ in found:
        assert all(length <= most for length, most in zip(grid, LONGEST, strict=False)), name
        if name != "_position_gradient_kernel":  # which goes through its prompts one after the other
            assert grid == (70_000, 1)
