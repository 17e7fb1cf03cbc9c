"""A small family, a small tuning, and adapters to compare."""

import torch
from safetensors.torch import load_file

from task_vectors import checkpoints
from task_vectors.lm import finetuning
from task_vectors.lm.finetuning import (
    Adapter,
    Tuning,
    adapted,
    training_prompts,
)
from task_vectors.lm.tokens import whole_lines
from task_vectors.tasks.families.bitwise import bitwise_arithmetic

FAMILY = bitwise_arithmetic(digits=3)
TUNING = Tuning(layers=(1,), rank=2, alpha=4, steps=12, batch=3, warm_up=2, n_demos=1, seed=3)
EVERY = 4
TEXTS, COMPLETIONS = ["1 -> 2\n3 ->", "10110 01101 -> 00100\n01 ->", "a ->"], [" 4", " 00100", " bb"]


def logits(lm, text="10 01 -> 11\n00 01 ->"):
    with torch.no_grad():
        return lm.model(torch.tensor([lm.tokenizer(text).input_ids]), use_cache=False).logits


def scrambled(lm, tuning, seed=0):
    """An adapter that changes something."""
    generator = torch.Generator().manual_seed(seed)
    with adapted(lm, tuning) as parameters:
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
    return Adapter(tuning, {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()})


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def assert_same_run(one, other):
    """Adapter and checkpoint, but for the time it took, are equal to the bit."""
    for name in (finetuning.ADAPTER, checkpoints.CHECKPOINT):
        mine, theirs = ({k: v for k, v in load_file(run / name).items() if k != "seconds"} for run in (one, other))
        assert same(mine, theirs), name


def batch_of(lm, step):
    return whole_lines(lm, *training_prompts(FAMILY, TUNING, step))
