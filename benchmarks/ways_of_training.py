"""Ways of training the linear transformer on one problem: what each finds, and how a plain sample flatters it.

Triplets, three layers, ten demonstrations, eight seeds that see 600 000 prompts each, one thread. A way is ours but for
what its row says. cpu seconds: of training all seeds; finite, median: over seeds; best, error: the risk on fresh
stretched prompts of the seed that other prompts chose; plain, plain_error: the same model's on plain prompts;
explained: the share of its ||D_1||^2 in Theorem 2's set; own_sample: its risk on the one sample that it was fitted to.

The paper's way is that of its script (Dong et al. 2026) but for an l1 penalty of 1e-8, which only entries without
effect can feel, and a clipping at norm 1000. Its 20 000 steps are not taken here. Run
`python benchmarks/ways_of_training.py`; it takes twenty minutes and adds to results/ways_of_training.csv row by row.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from measure import append
from torch import Tensor
from tqdm import tqdm

from task_vectors.experiments.linear_transformer import SELECTION_SEED, TEST_SEED
from task_vectors.kernels.linear_attention import linear_attention
from task_vectors.linear_attention import training
from task_vectors.linear_attention.heavy_tails import DIMENSION, stretched_inputs
from task_vectors.linear_attention.model import Weights, initial_weights, residuals, risk
from task_vectors.linear_attention.prompts import get_layout, prompt_states, sample_inputs, sample_tasks
from task_vectors.linear_attention.theory import project

LAYERS, N, SEEDS = 3, 10, range(8)
STEPS, BATCH = 1200, 500
SAMPLE = 5000  # prompts
SELECTION_PROMPTS, TEST_PROMPTS, PLAIN_PROMPTS = 50_000, 100_000, 200_000


@dataclass(frozen=True)
class Way:
    """How training.train trains, unless a switch says otherwise."""

    what: str
    recipe: training.Recipe
    plain: bool = False  # prompts are not stretched
    tasks: bool = False  # are drawn, one a prompt, not integrated out
    signs: bool = False  # are drawn for the demonstrations in D of every layer, new ones for every prompt
    either: bool = False  # sign of a, b, c at the start
    log: bool = False  # of the risk is the loss
    clip: bool = True
    halvings: int | None = None  # of AdamW's rate, the first at once; None: Adam


def ways() -> dict[str, Way]:
    ours = training.Recipe(STEPS, BATCH, penalty=3e-3)
    large = replace(ours, steps=STEPS // 4, batch=4 * BATCH)
    script = replace(ours, steps=STEPS // 2, batch=2 * BATCH, penalty=0.0)
    what = "AdamW, its rate halved 8 times; plain prompts by 1000, drawn tasks and signs, either start"
    paper = Way(what, script, plain=True, tasks=True, signs=True, either=True, clip=False, halvings=8)
    return {
        "ours": Way("stretched prompts by 500, Adam, clipping, a penalty, a start that descends", ours),
        "plain prompts": Way("no prompt is stretched", ours, plain=True),
        "drawn tasks": Way("a task is drawn for every prompt", ours, tasks=True),
        "drawn signs": Way("signs in D are drawn for every prompt and layer", ours, signs=True),
        "either start": Way("a, b and c start with either sign", ours, either=True),
        "no penalty": Way("no penalty on the weights", replace(ours, penalty=0.0)),
        "lower rate": Way("a third of the rate", replace(ours, rate=ours.rate / 3)),
        "higher rate": Way("three times the rate", replace(ours, rate=ours.rate * 3)),
        "larger batches": Way("prompts by 2000, a quarter of the steps", large),
        "log-risk": Way("the log of the risk is the loss", ours, log=True),
        "no clipping": Way("gradients of any norm", ours, clip=False),
        "twice the steps": Way("twice the steps and prompts", replace(ours, steps=2 * STEPS)),
        "paper": paper,
        "paper, constant rate": replace(paper, what="the paper's way at its first rate throughout", halvings=0),
    }


def train(way: Way, stop: int | None = None) -> Weights:
    """The first steps of a way, or all."""
    recipe, start = way.recipe, initial_weights(get_layout("triplets"), LAYERS, N, SEEDS, way.recipe.initial_std)
    if way.either:  # as they were drawn, before they got their signs
        drawn = [torch.randn(LAYERS, 3, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
        start = replace(start, scales=recipe.initial_std * torch.stack(drawn))
    weights = start.map(lambda tensor: tensor.clone().requires_grad_())
    tensors = list(weights.tensors().values())
    if way.halvings is None:
        optimizer = torch.optim.Adam(tensors, betas=(0.9, 0.99))
    else:
        optimizer = torch.optim.AdamW(tensors, betas=(0.9, 0.9), weight_decay=0.05)
    generator = torch.Generator().manual_seed(LAYERS * 1000 + N)
    for step in tqdm(range(recipe.steps if stop is None else stop), leave=False):
        for group in optimizer.param_groups:
            group["lr"] = rate(way, step)
        risks = batch_risk(way, weights, generator)  # [S]
        penalty = training._penalty(recipe, step) * training._square_norms(tensors)
        optimizer.zero_grad()
        (risks.log() + penalty if way.log else risks + risks.detach() * penalty).sum().backward()
        if way.clip:
            training._clip(tensors)
        optimizer.step()
    return weights.map(Tensor.detach)


def rate(way: Way, step: int) -> float:
    done = step / way.recipe.steps
    if way.halvings is None:
        return way.recipe.rate * (N + 5) * min(1, (step + 1) / training.WARM_UP) * (1 - done)
    return 0.01 / 2 ** min(way.halvings, 1 + int(way.halvings * done))


def batch_risk(way: Way, weights: Weights, generator: torch.Generator) -> Tensor:
    B = way.recipe.batch
    if way.plain:
        X, importance = sample_inputs(B, N, DIMENSION, generator), torch.ones(B)
    else:
        X, importance = stretched_inputs(B, N + 1, generator)
    r = signed_residuals(weights, X, generator) if way.signs else residuals(weights, X)  # [S, B, d]
    if way.tasks:
        r = (sample_tasks(B, DIMENSION, generator) @ r[..., None])[..., 0] / math.sqrt(DIMENSION)
    return (r.square().sum(-1) * importance).mean(-1)


def signed_residuals(weights: Weights, X: Tensor, generator: torch.Generator) -> Tensor:
    """model.residuals with rows and columns of each D times signs: one for x_i and y_i, +1 for arrows."""
    layout, (S, T), (B, N, d) = weights.layout, weights.query_row.shape, X.shape
    last = torch.cat([weights.query_row.new_zeros(S, T - 1, T), weights.query_row[:, None]], 1)
    Z = prompt_states(X, torch.eye(d).expand(B, d, d), layout).expand(S, B, T, 2 * d)
    for scales, D in zip(weights.scales.unbind(1), [*weights.D.unbind(1), last], strict=True):
        signs = torch.ones(B, T)
        signs[:, layout.inputs(N - 1)] = torch.randint(2, (B, N), generator=generator) * 2.0 - 1
        signs[:, layout.answers(N - 1)] = signs[:, layout.inputs(N - 1)]
        Z = linear_attention(Z, *scales.unbind(-1), D, n=N - 1, signs=signs.expand(S, B, T))
    return Z[:, :, -1, d:] + X[:, -1]


def fit(steps: int, sample: tuple[Tensor, Tensor], n_prompts: int) -> Weights:
    """The first steps of ours, then L-BFGS on one sample, each model alone, up to so many prompts in all."""
    start = train(ways()["ours"], steps)
    evaluations = (n_prompts - steps * BATCH) // SAMPLE
    models = [start.map(lambda tensor, i=i: tensor[i : i + 1]) for i in range(len(SEEDS))]
    fitted = [minimize(model, sample, evaluations).tensors().values() for model in models]
    return Weights(start.layout, *(torch.cat(tensors).float() for tensors in zip(*fitted, strict=True)))


def minimize(start: Weights, sample: tuple[Tensor, Tensor], evaluations: int) -> Weights:
    """The log of the sample's risk, in the sample's dtype."""
    weights = start.map(lambda tensor: tensor.to(sample[0], copy=True).requires_grad_())
    # Near the saddle at zero, small gradients and changes are no reason to stop.
    options = {"tolerance_grad": 0, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS(weights.tensors().values(), max_iter=evaluations, max_eval=evaluations, **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = risk(weights, *sample).log().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.map(Tensor.detach)


@torch.no_grad()
def judge(weights: Weights, sample: tuple[Tensor, Tensor] | None) -> dict[str, float]:
    selection, _ = training.evaluate(weights, SELECTION_PROMPTS, SELECTION_SEED)
    risks, errors = training.evaluate(weights, TEST_PROMPTS, TEST_SEED)
    best, finite = int(selection.nan_to_num(torch.inf).argmin()), risks.isfinite()
    chosen = weights.map(lambda tensor: tensor[best : best + 1])
    X = sample_inputs(PLAIN_PROMPTS, N, DIMENSION, torch.Generator().manual_seed(TEST_SEED))
    plain = torch.cat([residuals(chosen, part)[0].square().sum(-1) for part in X.split(training.EVALUATION_BATCH)])
    return {
        "finite": int(finite.sum()),
        "best": risks[best].item(),
        "error": errors[best].item(),
        "median": float(np.median(risks.where(finite, torch.inf))),
        "plain": plain.mean().item(),
        "plain_error": plain.std().item() / math.sqrt(len(plain)),
        "explained": project(chosen.D[0, 0], chosen.layout, N).share if finite[best] else math.nan,
        "own_sample": risk(chosen, *sample).item() if sample else math.nan,
    }


def keep(name: str, what: str, call: Callable[[], Weights], sample: tuple[Tensor, Tensor] | None = None) -> float:
    """Train, judge, and add the row; seconds of training."""
    start = time.process_time()
    weights = call()
    seconds = time.process_time() - start
    row = {"way": name, "what": what, "cpu seconds": seconds, **judge(weights, sample)}
    append("ways_of_training", [row | {"threads": torch.get_num_threads()}])
    return seconds


def main() -> None:
    torch.set_num_threads(1)
    tried = ways()
    seconds = {name: keep(name, way.what, partial(train, way)) for name, way in tried.items()}
    sample = stretched_inputs(SAMPLE, N + 1, torch.Generator().manual_seed(0))
    precise = tuple(tensor.double() for tensor in sample)  # in float32 it does not leave the saddle
    what, n_prompts = f"L-BFGS on one sample of {SAMPLE} stretched prompts", STEPS * BATCH
    keep("L-BFGS", f"{what}, in float64", partial(fit, 0, precise, n_prompts), sample)
    begun = f"a quarter of our steps, then {what}"
    keep("Adam, L-BFGS", begun, partial(fit, STEPS // 4, sample, n_prompts), sample)
    keep("Adam, L-BFGS, longer", f"{begun}, four times", partial(fit, STEPS // 4, sample, 4 * n_prompts), sample)
    paper = tried["paper"]
    same = round(paper.recipe.steps * seconds["ours"] / seconds["paper"])
    way = replace(paper, recipe=replace(paper.recipe, steps=same))
    keep("paper, our seconds", f"the paper's way, {same} steps", partial(train, way))


if __name__ == "__main__":
    main()
