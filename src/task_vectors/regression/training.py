"""Training a small model on a mixture of regressions, resumable at every snapshot and equal to the bit if resumed.

The sequences of a step are drawn from a seed of that step alone. Each snapshot of the parameters stays, to be studied
afterwards.
"""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from task_vectors.checkpoints import TrainingDiverged, claimed, read_tensors, resume, save_checkpoint, write_tensors
from task_vectors.regression.gpt import GPT
from task_vectors.regression.lstm import LSTM
from task_vectors.regression.mixtures import Mixture
from task_vectors.regression.tokens import at_queries, token_shape, tokens
from task_vectors.schedules import schedule

WARM_UP = 200  # steps
COOL_DOWN = 0.4  # of the steps, the last ones
MAX_NORM = 1.0  # of the gradient
ARCHITECTURES = ("gpt", "lstm")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained: AdamW, the rate warmed up, held, and taken linearly to zero.

    n_demos: demonstrations before the last query; the output of every query is learned, the first one's included.
    precision: of the products in a training step on a CPU; weights, their update and snapshots are in float32. A CPU
    with instructions for bfloat16 takes two thirds of the time, and the gradient is off by a few hundredths of what it
    differs by from batch to batch.
    """

    architecture: str = "gpt"
    layout: str = "product"
    n_demos: int = 20
    n_layers: int = 6
    width: int = 64
    n_heads: int = 2
    steps: int = 18_000
    batch: int = 128  # sequences, fresh in every step
    rate: float = 1.5e-3
    precision: str = "float32"

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; there are: {', '.join(PRECISIONS)}")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {self.architecture!r}; there are: {', '.join(ARCHITECTURES)}")
        if self.width % self.n_heads:
            raise ValueError(f"width must be a multiple of n_heads; got {self.width} and {self.n_heads}")

    def facts(self) -> dict[str, object]:
        """All fields, as records name them: without the precision where it is the default, as before there was one."""
        facts = asdict(self)
        if self.precision == Recipe.precision:
            del facts["precision"]
        return facts


def build(recipe: Recipe, dim: int, seed: int) -> nn.Module:
    """A model with its first weights, the same for the same seed."""
    n_tokens, entries = token_shape(recipe.layout, recipe.n_demos + 1, dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe.architecture == "lstm":
            return LSTM(entries, recipe.n_layers, recipe.width)
        return GPT(entries, n_tokens, recipe.n_layers, recipe.width, recipe.n_heads)


def predict(model: nn.Module, layout: str, x: Tensor, y: Tensor) -> Tensor:
    """The model's prediction of each output from those before it: [B, n]."""
    return at_queries(layout, model(tokens(layout, x, y)))


def train(
    mixture: Mixture,
    recipe: Recipe,
    seed: int,
    folder: Path | None = None,
    every: int = 500,
    stop: int | None = None,
) -> tuple[Tensor, float]:
    """Train, and give the loss of each step, [steps], and the seconds that it took, of all attempts together.

    With a folder, the parameters before the first step, after every `every` steps and after the last are kept there,
    for snapshot(). Where it holds the beginning of this run, training goes on from there. `stop` ends the run
    early, at the same schedule: the first steps alone, for a check. On a GPU, where there is one.

    Raises TrainingDiverged where the loss is not finite; the snapshots before it stay. Raises ValueError for a folder
    of another run, and CheckpointError where another process trains there.
    """
    with claimed(folder) if folder else nullcontext():
        return _train(mixture, recipe, seed, folder, every, recipe.steps if stop is None else stop)


def _train(
    mixture: Mixture, recipe: Recipe, seed: int, folder: Path | None, every: int, stop: int
) -> tuple[Tensor, float]:
    run = json.dumps({"seed": seed, "mixture": repr(mixture), "recipe": recipe.facts()})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build(recipe, mixture.dim, seed).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0, fused=True)
    parameters = dict(model.named_parameters())
    losses, seconds = resume(folder, run, parameters, optimizer) if folder else ([], 0.0)
    weights = position_weights(recipe.n_demos + 1).to(device)
    if device == "cuda":
        _record_launches(model, recipe, mixture.dim)
    started = time.monotonic() - seconds

    def keep() -> None:
        # The snapshot first: a checkpoint tells that all snapshots before it are there.
        weights = {name: parameter.detach() for name, parameter in parameters.items()}
        write_tensors(folder / f"{len(losses):07d}.safetensors", weights)
        save_checkpoint(folder, run, parameters, optimizer, losses, time.monotonic() - started)

    for step in tqdm(range(len(losses), stop), initial=len(losses), total=stop, desc=f"seed {seed}", mininterval=5):
        if step == 0 and folder:
            keep()
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * schedule(step, recipe.steps, WARM_UP, COOL_DOWN)
        losses.append(training_step(model, optimizer, mixture, recipe, weights, seed, step))
        if not math.isfinite(losses[-1]):
            raise TrainingDiverged(
                f"the loss of step {step} is {losses[-1]} (seed {seed}, rate {recipe.rate}): use a lower rate"
            )
        if folder and ((step + 1) % every == 0 or step + 1 == stop):
            keep()
    return torch.tensor(losses), time.monotonic() - started


def snapshot_steps(folder: Path) -> list[int]:
    """The steps of which `folder` holds a snapshot, ascending."""
    return sorted(int(file.stem) for file in folder.glob("[0-9]*.safetensors"))


def snapshot(folder: Path, recipe: Recipe, dim: int, step: int) -> nn.Module:
    """The model as it was after so many steps."""
    model = build(recipe, dim, 0)
    model.load_state_dict(read_tensors(folder / f"{step:07d}.safetensors"))
    return model.requires_grad_(False)


def position_weights(n: int) -> Tensor:
    """What the loss of each query weighs, [n], 1 on average: late ones more, where the class can be known.

    Every query's error starts at the same size, but an early one's can never fall far, and would drown the late ones'.
    """
    weights = 1 / (1 - torch.arange(n) / 12).clamp(min=0.15)
    return weights / weights.mean()


def training_step(model, optimizer, mixture: Mixture, recipe: Recipe, weights: Tensor, seed: int, step: int) -> float:
    generator = torch.Generator().manual_seed(seed * 1_000_000 + step)
    x, y, _ = mixture.sample(recipe.batch, recipe.n_demos + 1, generator)
    x, y = x.to(weights.device), y.to(weights.device)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        predicted = predict(model, recipe.layout, x, y)  # [B, n]
    loss = ((predicted.float() - y).square().mean(0) * weights).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer.step()
    return loss.item()


def _record_launches(model: nn.Module, recipe: Recipe, dim: int) -> None:
    """From now on a forward and a backward are one launch each: so small a model's many would take most of the time."""
    n = recipe.n_demos + 1
    sample = tokens(recipe.layout, torch.zeros(recipe.batch, n, dim), torch.zeros(recipe.batch, n)).cuda()
    torch.cuda.make_graphed_callables(model, (sample,))
