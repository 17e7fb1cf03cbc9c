"""Ways of training the small GPT on the default mixture, at equal operations: which comes nearest to LASSO?

A way is the default recipe but for what its row says. Its operations are those of `budget` steps of the default recipe,
counted as in regression_training.py, with those of Muon's iterations: seconds of a busy machine would favor whoever
finds it idle. The rate is warmed up, held, and taken to zero over the last part of the budget. One seed, one thread.

ten_to_twenty, twenty, all: mean square error after so many demonstrations, on the sequences that models are tested on,
beside LASSO's, ridge's and Bayes' on the same; steps, sequences: in all; cpu seconds: what the training did take.

Run `python benchmarks/ways_of_regression.py [--budget 3000] [WAY ...]`; it adds to results/ways_of_regression.csv row
by row, four minutes each.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from measure import append
from torch import nn
from tqdm import tqdm

from task_vectors.experiments.best_learners import BEST_LEARNERS
from task_vectors.experiments.emergence import PER_CLASS, TEST_SEED
from task_vectors.records.store import recorded
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.readings import balanced
from task_vectors.regression.tokens import token_shape
from task_vectors.regression.training import MAX_NORM, WARM_UP, Recipe, build, position_weights, predict

MIXTURE = SparseMixture()
TASK = {"dim": 16, "rank": 4, "n_classes": 4, "groups": 1, "noise": 0.1, "frequencies": None}
SEED = 0


@dataclass(frozen=True)
class Way:
    """How to train, where it is not the default's way."""

    what: str
    recipe: Recipe = field(default_factory=Recipe)
    muon: bool = False  # on the matrices of the blocks, AdamW on the rest; else AdamW
    batches: tuple[int, ...] = ()  # one after the other, for the same share of the budget each; else the recipe's
    shortest: int = 0  # demonstrations at first, then ever more over the first half; 0: all from the first step
    even: bool = False  # every query's error weighs the same
    cool_down: float = 0.4  # part of the budget
    compiled: bool = False  # by torch.compile


def ways() -> dict[str, Way]:
    ours = Recipe()
    small = replace(ours, batch=32)
    return {
        "ours": Way("AdamW, batches of 128, rate 0.0015"),
        "batches of 32": Way("batches of 32", small),
        "ever larger": Way("batches of 32, 64, 128 and 256", batches=(32, 64, 128, 256)),
        "higher rate": Way("rate 0.003", replace(ours, rate=3e-3)),
        "lower rate": Way("rate 0.0007", replace(ours, rate=7e-4)),
        "muon": Way("Muon", muon=True),
        "muon, lower rate": Way("Muon, rate 0.0007", replace(ours, rate=7e-4), muon=True),
        "muon, higher rate": Way("Muon, rate 0.004", replace(ours, rate=4e-3), muon=True),
        "muon, batches of 64": Way("Muon, batches of 64", replace(ours, batch=64), muon=True),
        "muon, ever larger": Way("Muon, batches of 64, 128 and 256", muon=True, batches=(64, 128, 256)),
        "muon, four layers": Way("Muon, four layers", replace(ours, n_layers=4), muon=True),
        "muon, wide": Way("Muon, four layers of width 96", replace(ours, n_layers=4, width=96), muon=True),
        "muon, four heads": Way("Muon, four heads a layer", replace(ours, n_heads=4), muon=True),
        "four layers": Way("four layers", replace(ours, n_layers=4)),
        "three wide layers": Way("three layers of width 96", replace(ours, n_layers=3, width=96)),
        "even": Way("every query's error weighs the same", even=True),
        "curriculum": Way("5 demonstrations at first, 20 from half of the budget on", shortest=5),
        "muon, curriculum": Way("Muon, 5 demonstrations at first, 20 from half on", muon=True, shortest=5),
        "muon, long cool-down": Way("Muon, the rate falls over 0.8 of the budget", muon=True, cool_down=0.8),
        "compiled": Way("by torch.compile", compiled=True),
    }


def optimizers(way: Way, model: nn.Module) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon where the way has it: at the same rate, since an update is of AdamW's usual size."""
    matrices = [p for name, p in model.named_parameters() if way.muon and name.startswith("blocks") and p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    found = [torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0, fused=True)]
    if matrices:
        found.append(torch.optim.Muon(matrices, weight_decay=0, adjust_lr_fn="match_rms_adamw"))
    return found


def train(way: Way, budget: int) -> tuple[nn.Module, dict[str, float]]:
    """A trained model, and what it took."""
    model = build(way.recipe, MIXTURE.dim, SEED)
    forward, found = torch.compile(model) if way.compiled else model, optimizers(way, model)
    started, sequences = time.process_time(), 0
    for step, (done, batch, n_demos) in enumerate(tqdm(list(plan(way, budget)), leave=False, mininterval=10)):
        rate = way.recipe.rate * min(1, (step + 1) / WARM_UP, (1 - done) / way.cool_down)
        take_step(way, forward, found, batch, n_demos, step, rate)
        sequences += batch
    return model, {"steps": step + 1, "sequences": sequences, "cpu seconds": time.process_time() - started}


def plan(way: Way, budget: int) -> Iterator[tuple[float, int, int]]:
    """Of each step: the part of the budget that is spent before it, its batch, and its demonstrations."""
    most, batches, spent = way.recipe.n_demos, way.batches or (way.recipe.batch,), 0
    total = budget * operations(Way(""), Recipe().batch, Recipe().n_demos)
    while (done := spent / total) < 1:
        batch, n_demos = batches[int(done * len(batches))], most
        if way.shortest:
            n_demos = min(most, way.shortest + int(2 * done * (most - way.shortest)))
        yield done, batch, n_demos
        spent += operations(way, batch, n_demos)


def operations(way: Way, batch: int, n_demos: int) -> int:
    """Floating-point operations of one step that are counted."""
    d, n_layers = way.recipe.width, way.recipe.n_layers
    n_tokens, entries = token_shape(way.recipe.layout, n_demos + 1, MIXTURE.dim)
    count = (6 * (12 * n_layers * d**2 + d) + 4 * entries * d) * n_tokens * batch
    if way.muon:  # three products in each of five iterations, of matrices of 3, 1, 4 and 4 times d rows
        count += 5 * n_layers * sum(4 * rows * d**3 + 2 * d**3 for rows in (3, 1, 4, 4))
    return count


def take_step(way, model, found, batch: int, n_demos: int, step: int, rate: float) -> None:
    x, y, _ = MIXTURE.sample(batch, n_demos + 1, torch.Generator().manual_seed(SEED * 1_000_000 + step))
    weights = torch.ones(n_demos + 1) if way.even else position_weights(n_demos + 1)
    loss = ((predict(model, way.recipe.layout, x, y) - y).square().mean(0) * weights).mean()
    for optimizer in found:
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = rate
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    for optimizer in found:
        optimizer.step()


@torch.no_grad()
def judge(model: nn.Module, way: Way) -> dict[str, float]:
    n_demos = way.recipe.n_demos
    test = balanced(MIXTURE, PER_CLASS, n_demos + 1, TEST_SEED)
    errors = (predict(model, way.recipe.layout, test.x, test.y) - test.y).square().mean(0)  # [n]
    half = n_demos // 2
    return {"ten_to_twenty": errors[half:].mean().item(), "twenty": errors[-1].item(), "all": errors.mean().item()}


def rivals() -> dict[str, float]:
    """What LASSO, ridge regression and Bayes have on the same sequences."""
    table = recorded(BEST_LEARNERS, task=TASK, n_demos=Recipe().n_demos).table("errors")
    found = {}
    for learner in ("LASSO", "ridge", "Bayes"):
        errors = table[table.learner == learner].set_index("demos").error
        found |= {f"{learner} ten_to_twenty": errors[10:].mean(), f"{learner} twenty": errors[20]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--budget", type=int, default=3000, help="steps of the default recipe")
    parser.add_argument("ways", nargs="*", help="all, where none is named")
    given = parser.parse_args()
    torch.set_num_threads(1)
    tried = ways()
    for name in given.ways or tried:
        way = tried[name]
        model, took = train(way, given.budget)
        found = judge(model, way) | rivals()
        row = {"way": name, "what": way.what, "budget": given.budget, **took, **found, "threads": 1}
        append("ways_of_regression", [row])


if __name__ == "__main__":
    main()
