"""Does the model use the state that tells the task? Mean states of other prompts put in its place (Han et al. 2025).

Positive: the mean state of prompts of the task that were solved. Negative: that of Null's prompts, whose answers are
random. The means and the prompts that are patched share no input. Controls of the positive mean's length: a random
direction, and another task's mean.
"""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from task_vectors.lm.interventions import layer_sweep
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.pinned_weights import checked_model
from task_vectors.lm.scoring import score, score_tokens
from task_vectors.lm.tokens import tokens_up_to_answer, up_to_answer
from task_vectors.prompts.families import FamilyPrompts, family_prompts
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.families.catalog import family_file, get_family

KINDS = ("positive", "unselected", "negative", "random", "wrong task")
ENOUGH = 20  # solved prompts for a positive mean
NONE = -1  # in place of right or wrong, where there is no mean to put in
CHECK_PROMPTS = 2


def run(
    *,
    model: str,
    weights: str,
    dtype: str,
    family: str,
    options: dict,
    source: str,
    n_demos: int,
    n_sources: int,
    n_prompts: int,
    seed: int,
) -> dict[str, object]:
    """Means over n_sources prompts a task, put into n_prompts other prompts of each task after every layer.

    Table "sources" (task, solved). Tensors, for the K - 1 tasks without Null and B prompts of each: "before", right
    [K - 1, B] without a patch; "patched", right [K - 1, B, L] by kind, NONE where a task has no such mean; "means",
    [K - 1, L', d] by kind at the layers of check_layers.
    """
    lm, tasks = checked_model(model, weights, dtype), get_family(family, options)
    sources = family_prompts(tasks, n_demos, n_sources, seed, pool="train")
    read = score_tokens(lm, tokens_up_to_answer(lm, sources))
    solved = read.right.view(len(tasks.tasks), n_sources)
    means = mean_states(read.states.view(*solved.shape, *read.states.shape[1:]).float(), solved, seed)
    prompts = up_to_answer(lm, without_null(family_prompts(tasks, n_demos, n_prompts, seed)))
    before = score(lm, list(prompts.texts), list(prompts.completions)).right.view(-1, n_prompts)
    patched = {kind: patch(lm, prompts, vectors) for kind, vectors in means.items()}
    layers = check_layers(lm.n_layers)
    return {
        "sources": pd.DataFrame({"task": tasks.tasks, "solved": solved.sum(1)}),
        "before": {"right": before},
        "patched": patched,
        "means": {kind: vectors[:, layers].contiguous() for kind, vectors in means.items()},
    }


def without_null(prompts: FamilyPrompts) -> FamilyPrompts:
    """The prompts of all tasks but the last."""
    kept = int((prompts.labels < prompts.labels.max()).sum())
    return FamilyPrompts(*(getattr(prompts, field.name)[:kept] for field in fields(prompts)))


def patch(lm: LanguageModel, prompts: FamilyPrompts, means: Tensor) -> Tensor:
    """Is each prompt right with its task's mean [K - 1, L, d] put in after each layer? [K - 1, B, L] int8."""
    K = len(means)
    found = torch.full((len(prompts.texts), lm.n_layers), NONE, dtype=torch.int8)  # [(K - 1) B, L]
    rows = (~means.isnan().any(-1).any(-1))[prompts.labels].nonzero()[:, 0]
    if len(rows):
        texts, answers = ([part[i] for i in rows] for part in (prompts.texts, prompts.completions))
        found[rows] = layer_sweep(lm, texts, means[prompts.labels[rows]], answers).exact.to(torch.int8)
    return found.view(K, -1, lm.n_layers)


def verify(record: Record) -> list[Comparison]:
    """The first task's first prompts, with two of the recorded means put in at the layers that are kept."""
    facts, means = record.parameters, record.tensors("means")
    lm = checked_model(facts["model"], facts["weights"], facts["dtype"])
    tasks = get_family(facts["family"], facts["options"])
    prompts = up_to_answer(lm, family_prompts(tasks, facts["n_demos"], facts["n_prompts"], facts["seed"]))
    texts, answers = list(prompts.texts[:CHECK_PROMPTS]), list(prompts.completions[:CHECK_PROMPTS])
    layers, before = check_layers(lm.n_layers), record.tensors("before")["right"][0, :CHECK_PROMPTS].sum().item()
    compared = [Comparison("right before", before, score(lm, texts, answers).right.sum().item(), 0)]
    for kind in ("unselected", "negative"):
        vectors = torch.zeros(CHECK_PROMPTS, lm.n_layers, lm.d_model)
        vectors[:, layers] = means[kind][0]
        again = layer_sweep(lm, texts, vectors, answers).exact[:, layers].sum().item()
        recorded = record.tensors("patched")[kind][0, :CHECK_PROMPTS][:, layers].sum().item()
        compared.append(Comparison(f"right with the {kind} mean", recorded, again, 0))
    return compared


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The module of the family."""
    return [family_file(parameters["family"])]


def check_layers(n_layers: int) -> list[int]:
    """The layers at which a record keeps its means."""
    return sorted({n_layers // 4, n_layers // 2, 3 * n_layers // 4})


def mean_states(states: Tensor, solved: Tensor, seed: int) -> dict[str, Tensor]:
    """Means [K - 1, L, d] by kind, of states [K, B, L, d], Null last, for solved [K, B]; nan where there is none.

    "unselected" has as many prompts as "positive" (ENOUGH where that is not estimable), drawn from all of the task's.
    "random" and "wrong task" (the next one's unselected mean) have the length of the unselected mean at each layer.
    """
    rng, K = np.random.default_rng(seed), len(states) - 1
    enough = solved[:K].sum(1) >= ENOUGH
    positive = torch.full_like(states[:K, 0], torch.nan)  # [K - 1, L, d]
    for task in enough.nonzero()[:, 0].tolist():
        positive[task] = states[task][solved[task]].mean(0)
    sizes = torch.where(enough, solved[:K].sum(1), min(ENOUGH, solved.shape[1])).tolist()
    chosen = [rng.choice(solved.shape[1], size, replace=False) for size in sizes]
    means = [s[torch.from_numpy(i)].mean(0) for s, i in zip(states[:K], chosen, strict=True)]
    unselected = torch.stack(means)  # [K - 1, L, d]
    lengths = unselected.norm(dim=-1, keepdim=True)  # [K - 1, L, 1]
    direction = torch.from_numpy(rng.normal(size=unselected.shape)).float()
    other = unselected.roll(-1, 0)
    return {
        "positive": positive,
        "unselected": unselected,
        "negative": states[K].mean(0).expand_as(unselected).contiguous(),
        "random": direction / direction.norm(dim=-1, keepdim=True) * lengths,
        "wrong task": other / other.norm(dim=-1, keepdim=True) * lengths,
    }


INTERVENTION = Experiment("intervention", 1, run, verify, rests_on)
