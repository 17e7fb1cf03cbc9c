"""A small model whose blocks are trained in part, from before its states tell the classes apart.

The counterpart of fine-tuning a band of a language model's layers (Han et al. 2025, section 4), where the best
possible predictor is known: how much of the gap to it does each band of blocks close?
"""

import functools
import json
import math
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from task_vectors.checkpoints import TrainingDiverged
from task_vectors.experiments.emergence import MIXTURES, PER_CLASS, TEST_SEED, long_table, look
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.regression.mixtures import Mixture
from task_vectors.regression.readings import balanced, by_class
from task_vectors.regression.training import Recipe, build, position_weights, predict, snapshot, train, training_step
from task_vectors.schedules import schedule

WARM_UP = 100  # steps
COOL_DOWN = 0.4  # of the steps, the last ones
CHECK_STEPS = 3
TOLERANCE = 3e-2  # rounding grows over the steps before: two threads, or a GPU, differ by 1.4 %, batches by 5 to 10
HELD_OUT_SEED = 900_006  # of sequences to choose a rate by


def run(
    *, seed: int, mixture: str, task: dict, recipe: dict, start: int, blocks: list[int], steps: int, rate: float
) -> dict[str, object]:
    """Train the whole model for `start` steps, then only these blocks (counted from 0) for `steps` more.

    What comes before and after the blocks stays as it is. Tables, each with stage "start" and "end": "errors" (class,
    demos, error), "decodability" (reading, metric, layer, class, td) and "probes"; "training" (seconds, parameters,
    and held_out, the error at the end on sequences that no other table uses). Tensors: "losses" of the steps with the
    blocks alone.
    """
    problem, how = MIXTURES[mixture](**task), Recipe(**recipe)
    if how.architecture != "gpt" or min(start, steps) < 1:
        raise ValueError(
            f"only a GPT has blocks, and start and steps must be 1 or more; got {recipe}, {start}, {steps}"
        )
    model = started(problem, how, seed, start)
    before = looks(model, problem, how)
    trained = choose(model, blocks)
    losses, seconds = continued(model, problem, how, seed, start, steps, rate)
    after = looks(model.requires_grad_(False), problem, how)
    held_out = errors(model, problem, how, HELD_OUT_SEED)["error"].mean()
    return {
        **{name: pd.concat([before[name].assign(stage="start"), after[name].assign(stage="end")]) for name in before},
        "training": pd.DataFrame({"seconds": [seconds], "parameters": [trained], "held_out": [held_out]}),
        "losses": {"losses": torch.tensor(losses)},
    }


def looks(model: nn.Module, mixture: Mixture, recipe: Recipe) -> dict[str, pd.DataFrame]:
    """Tables "errors", "decodability" and "probes" of one model."""
    return look(model, mixture, recipe)[0] | {"errors": errors(model, mixture, recipe)}


def started(mixture: Mixture, recipe: Recipe, seed: int, start: int) -> nn.Module:
    """The model after the first `start` steps of its own training."""
    with tempfile.TemporaryDirectory() as folder:
        train(mixture, recipe, seed, Path(folder), every=start, stop=start)
        return snapshot(Path(folder), recipe, mixture.dim, start)


def choose(model: nn.Module, blocks: list[int]) -> int:
    """These blocks of a frozen model need gradients; how many parameters they have. ValueError for one that is not."""
    if not blocks or not set(blocks) <= set(range(len(model.blocks))):
        raise ValueError(f"blocks must be some of 0 … {len(model.blocks) - 1}; got {blocks}")
    for block in blocks:
        model.blocks[block].requires_grad_(True)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def continued(
    model: nn.Module, mixture: Mixture, recipe: Recipe, seed: int, start: int, steps: int, rate: float, stop: int = 0
) -> tuple[list[float], float]:
    """Train what needs gradients, on sequences that the model has not seen: the losses, and the seconds.

    The rate is warmed up, held, and taken linearly to zero at the last of `steps`; `stop` ends before, for a check.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0, fused=True)
    weights, losses, before = position_weights(recipe.n_demos + 1), [], time.monotonic()
    for step in tqdm(range(stop or steps), desc=f"blocks, seed {seed}", mininterval=5):
        for group in optimizer.param_groups:
            group["lr"] = rate * schedule(step, steps, WARM_UP, COOL_DOWN)
        losses.append(training_step(model, optimizer, mixture, recipe, weights, seed, start + step))
        if not math.isfinite(losses[-1]):
            raise TrainingDiverged(f"the loss of step {step} is {losses[-1]} (seed {seed}): use a rate below {rate}")
    return losses, time.monotonic() - before


def errors(model: nn.Module, mixture: Mixture, recipe: Recipe, seed: int = TEST_SEED) -> pd.DataFrame:
    """Mean square error of each class after each number of demonstrations (class, demos, error)."""
    test = balanced(mixture, PER_CLASS, recipe.n_demos + 1, seed)
    found = (predict(model, recipe.layout, test.x, test.y) - test.y).square()  # [B, n]
    return long_table(by_class(found, test.classes), "class", "demos", "error")


def verify(record: Record) -> list[Comparison]:
    """The first losses of the blocks' training, from the start that all bands of a seed share."""
    facts = record.parameters
    problem, how = MIXTURES[facts["mixture"]](**facts["task"]), Recipe(**facts["recipe"])
    model = build(how, problem.dim, 0)
    model.load_state_dict(_start(facts["mixture"], json.dumps(facts["task"]), how, facts["seed"], facts["start"]))
    model.requires_grad_(False)
    choose(model, facts["blocks"])
    sizes = (facts[name] for name in ("seed", "start", "steps", "rate"))
    again, _ = continued(model, problem, how, *sizes, stop=min(CHECK_STEPS, facts["steps"]))
    recorded = record.tensors("losses")["losses"]
    return [Comparison(f"loss of step {i}", recorded[i].item(), loss, TOLERANCE) for i, loss in enumerate(again)]


@functools.cache  # all bands of a seed share it
def _start(mixture: str, task: str, recipe: Recipe, seed: int, start: int) -> dict[str, Tensor]:
    return started(MIXTURES[mixture](**json.loads(task)), recipe, seed, start).state_dict()


BLOCK_TUNING = Experiment("block_tuning", 1, run, verify)
