"""Ways of training the small GPT on four bases, at equal operations: which comes nearest to LASSO?

A way is the size's recipe but for what its row says. Its operations are those of `budget` steps of that recipe,
counted as in regression_training.py, with those of Muon's iterations: seconds of a busy machine would favor whoever
finds it idle. The rate is warmed up, held, and taken to zero over the last part of the budget. One seed, one thread.

half, last, all: mean square error over the second half of the demonstrations, after the last and over all, on the
sequences that models are tested on, beside LASSO's, ridge's and Bayes' on the same; steps, sequences: in all; cpu
seconds: what the training did take, which alone tells what torch.compile and bfloat16 save.

Run `python benchmarks/ways_of_regression.py [--size small] [--budget 3000] [WAY …]`; it adds to
results/ways_of_regression.csv row by row, four minutes each.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch
from measure import append
from torch import nn
from tqdm import tqdm

from task_vectors.experiments.best_learners import BEST_LEARNERS
from task_vectors.experiments.emergence import PER_CLASS, TEST_SEED
from task_vectors.records.store import recorded
from task_vectors.regression.mixtures import Sequences, SparseMixture
from task_vectors.regression.readings import balanced
from task_vectors.regression.tokens import token_shape
from task_vectors.regression.training import MAX_NORM, WARM_UP, Recipe, build, position_weights, predict

SIZES = {  # the default problem, and one on which a way takes a twentieth of the time
    "default": (SparseMixture(), Recipe()),
    "small": (SparseMixture(8, 2, 4), Recipe(n_demos=10, n_layers=3, width=32, batch=64)),
}
SEED = 0


@dataclass(frozen=True)
class Way:
    """How to train, where it is not the default's way."""

    what: str
    recipe: Recipe
    muon: bool = False  # on the matrices of the blocks, AdamW on the rest; else AdamW
    batches: tuple[int, ...] = ()  # one after the other, for the same share of the budget each; else the recipe's
    shortest: int = 0  # demonstrations at first, then ever more over the first half; 0: all from the first step
    even: bool = False  # every query's error weighs the same
    cool_down: float = 0.4  # part of the budget
    compiled: bool = False  # by torch.compile


def ways(ours: Recipe) -> dict[str, Way]:
    """What is tried; "half" and the like are of the given recipe's batch, rate, depth and width."""
    B, rate, L, d = ours.batch, ours.rate, ours.n_layers, ours.width
    steps = (B // 4, B // 2, B, 2 * B)
    return {
        "ours": Way("AdamW", ours),
        "small batches": Way("a quarter of the batch", replace(ours, batch=B // 4)),
        "ever larger": Way("batches of a quarter, a half, one and two", ours, batches=steps),
        "higher rate": Way("twice the rate", replace(ours, rate=2 * rate)),
        "lower rate": Way("half the rate", replace(ours, rate=rate / 2)),
        "muon": Way("Muon", ours, muon=True),
        "muon, lower rate": Way("Muon, half the rate", replace(ours, rate=rate / 2), muon=True),
        "muon, higher rate": Way("Muon, twice the rate", replace(ours, rate=2 * rate), muon=True),
        "muon, half batches": Way("Muon, half the batch", replace(ours, batch=B // 2), muon=True),
        "muon, ever larger": Way("Muon, batches of a half, one and two", ours, muon=True, batches=steps[1:]),
        "fewer layers": Way("two thirds of the layers", replace(ours, n_layers=2 * L // 3)),
        "muon, fewer layers": Way("Muon, two thirds of the layers", replace(ours, n_layers=2 * L // 3), muon=True),
        "wide": Way(
            "two thirds of the layers, half as wide again", replace(ours, n_layers=2 * L // 3, width=3 * d // 2)
        ),
        "muon, four heads": Way("Muon, four heads a layer", replace(ours, n_heads=4), muon=True),
        "even": Way("every query's error weighs the same", ours, even=True),
        "curriculum": Way("few demonstrations at first, all from half of the budget on", ours, shortest=5),
        "muon, curriculum": Way("Muon, few demonstrations at first, all from half on", ours, muon=True, shortest=5),
        "long cool-down": Way("the rate falls over 0.8 of the budget", ours, cool_down=0.8),
        "muon, long cool-down": Way("Muon, the rate falls over 0.8 of the budget", ours, muon=True, cool_down=0.8),
        "compiled": Way("by torch.compile", ours, compiled=True),
        "bfloat16": Way("products in bfloat16", replace(ours, precision="bfloat16")),
        "muon, bfloat16": Way("Muon, products in bfloat16", replace(ours, precision="bfloat16"), muon=True),
    }


def optimizers(way: Way, model: nn.Module) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon where the way has it: at the same rate, since an update is of AdamW's usual size."""
    matrices = [p for name, p in model.named_parameters() if way.muon and name.startswith("blocks") and p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    found = [torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0, fused=True)]
    if matrices:
        found.append(torch.optim.Muon(matrices, weight_decay=0, adjust_lr_fn="match_rms_adamw"))
    return found


def train(way: Way, mixture: SparseMixture, total: int) -> tuple[nn.Module, dict[str, float]]:
    """A model that was trained for so many operations, and what it took."""
    model = build(way.recipe, mixture.dim, SEED)
    forward, found = torch.compile(model) if way.compiled else model, optimizers(way, model)
    started, sequences = time.process_time(), 0
    for step, (done, batch, n_demos) in enumerate(
        tqdm(list(plan(way, mixture.dim, total)), leave=False, mininterval=10)
    ):
        rate = way.recipe.rate * min(1, (step + 1) / WARM_UP, (1 - done) / way.cool_down)
        sequences += batch
        take_step(way, forward, found, mixture.sample(batch, n_demos + 1, generator_of(step)), rate)
    return model, {"steps": step + 1, "sequences": sequences, "cpu seconds": time.process_time() - started}


def generator_of(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(SEED * 1_000_000 + step)


def plan(way: Way, dim: int, total: int) -> Iterator[tuple[float, int, int]]:
    """Of each step: the part of all operations that is spent before it, its batch, and its demonstrations."""
    most, batches, spent = way.recipe.n_demos, way.batches or (way.recipe.batch,), 0
    while (done := spent / total) < 1:
        batch, n_demos = batches[int(done * len(batches))], most
        if way.shortest:
            n_demos = min(most, way.shortest + int(2 * done * (most - way.shortest)))
        yield done, batch, n_demos
        spent += operations(way, dim, batch, n_demos)


def operations(way: Way, dim: int, batch: int, n_demos: int) -> int:
    """Floating-point operations of one step that are counted."""
    d, n_layers = way.recipe.width, way.recipe.n_layers
    n_tokens, entries = token_shape(way.recipe.layout, n_demos + 1, dim)
    count = (6 * (12 * n_layers * d**2 + d) + 4 * entries * d) * n_tokens * batch
    if way.muon:  # three products in each of five iterations, of matrices of 3, 1, 4 and 4 times d rows
        count += 5 * n_layers * sum(4 * rows * d**3 + 2 * d**3 for rows in (3, 1, 4, 4))
    return count


def take_step(way: Way, model, optimizers: list[torch.optim.Optimizer], sequences: Sequences, rate: float) -> None:
    x, y, _ = sequences
    weights = torch.ones(y.shape[1]) if way.even else position_weights(y.shape[1])
    with torch.autocast("cpu", torch.bfloat16, enabled=way.recipe.precision == "bfloat16"):
        predicted = predict(model, way.recipe.layout, x, y)  # [B, n]
    loss = ((predicted.float() - y).square().mean(0) * weights).mean()
    for optimizer in optimizers:
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = rate
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    for optimizer in optimizers:
        optimizer.step()


@torch.no_grad()
def judge(model: nn.Module, recipe: Recipe, mixture: SparseMixture) -> dict[str, float]:
    test = balanced(mixture, PER_CLASS, recipe.n_demos + 1, TEST_SEED)
    errors = (predict(model, recipe.layout, test.x, test.y) - test.y).square().mean(0)  # [n]
    half = recipe.n_demos // 2
    return {"half": errors[half:].mean().item(), "last": errors[-1].item(), "all": errors.mean().item()}


def rivals(recipe: Recipe, mixture: SparseMixture) -> dict[str, float]:
    """What LASSO, ridge regression and Bayes have on the same sequences."""
    table = recorded(BEST_LEARNERS, task=asdict(mixture), n_demos=recipe.n_demos).table("errors")
    found = {}
    for learner in ("LASSO", "ridge", "Bayes"):
        errors = table[table.learner == learner].set_index("demos").error
        found |= {f"{learner} half": errors[recipe.n_demos // 2 :].mean(), f"{learner} last": errors[recipe.n_demos]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=list(SIZES), default="default")
    parser.add_argument("--budget", type=int, default=3000, help="steps of that size's recipe")
    parser.add_argument("ways", nargs="*", help="all, where none is named")
    given = parser.parse_args()
    torch.set_num_threads(1)
    mixture, recipe = SIZES[given.size]
    tried = ways(recipe)
    total = given.budget * operations(tried["ours"], mixture.dim, recipe.batch, recipe.n_demos)
    for name in given.ways or tried:
        model, took = train(tried[name], mixture, total)
        found = judge(model, tried[name].recipe, mixture) | rivals(recipe, mixture)
        row = {"size": given.size, "way": name, "what": tried[name].what, "budget": given.budget, **took, **found}
        append("ways_of_regression", [row | {"threads": 1}])


if __name__ == "__main__":
    main()
