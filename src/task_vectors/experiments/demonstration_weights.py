"""How much each demonstration weighs in the task vector of a language model, measured in two ways.

Replaced: how far the vector moves when one demonstration is exchanged for another pair (Dong et al. 2026, Fig. 3c).
Combined: the conjecture itself. If the vector is a linear combination of the demonstrations, one set of weights must
give it from their states, also in prompts that the weights were not fitted to.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from task_vectors.lm.forward import states_at
from task_vectors.lm.interventions import capture
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.pinned_weights import checked_model
from task_vectors.lm.task_vector import choose_layers
from task_vectors.lm.tokens import tokenize
from task_vectors.prompts.few_shot import TERMINATOR, Pair, Prompts, few_shot_prompts, render, split
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.catalog import get_task, task_files
from task_vectors.tasks.task import Task

TOKENS = ("input", "arrow", "answer", "line end")  # of a demonstration: its last token of x, of the arrow, of y
FOLDS = 4
SELECTION_PROMPTS = 12
CHECK_PROMPTS = 2
BATCH = 32  # texts


def run(
    *,
    model: str,
    weights: str,
    dtype: str,
    task: str,
    n_demos: int,
    n_prompts: int,
    n_fits: int,
    seed: int,
    template: str,
) -> dict[str, object]:
    """Replace demonstrations of n_prompts prompts, and fit combinations on n_fits prompts, of one task.

    Tables: "layer" (the best one for the vector on held-out prompts), "shifts" (layer, prompt, demo, shift: |change| of
    the vector over its length), "fits" (layer, token, states, fold, r2: on prompts that were left out), "weights"
    (layer, token, demo, weight).
    """
    lm, sampled = checked_model(model, weights, dtype), get_task(task)
    held_out = few_shot_prompts(
        sampled, n_demos, SELECTION_PROMPTS, seed, template, queries_per_prefix=4, pool="selection"
    )
    layers, _ = choose_layers(lm, held_out)
    shifts = replacement_shifts(lm, sampled, few_shot_prompts(sampled, n_demos, n_prompts, seed, template), seed)
    fits, betas = combination_fits(lm, few_shot_prompts(sampled, n_demos, n_fits, seed + 1, template), seed)
    return {"layer": pd.DataFrame([layers]), "shifts": _shift_table(shifts), "fits": fits, "weights": betas}


def verify(record: Record) -> list[Comparison]:
    """The first prompts' shifts, over all layers and demonstrations."""
    facts = record.parameters
    lm, task = checked_model(facts["model"], facts["weights"], facts["dtype"]), get_task(facts["task"])
    prompts = few_shot_prompts(task, facts["n_demos"], facts["n_prompts"], facts["seed"], facts["template"])
    again = replacement_shifts(lm, task, prompts, facts["seed"], limit=CHECK_PROMPTS)
    before = record.table("shifts").query("prompt < @CHECK_PROMPTS")["shift"]
    return [Comparison(f"mean shift of {CHECK_PROMPTS} prompts", before.mean(), again.mean().item(), 1e-3)]


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The table of the task's pairs."""
    return task_files(parameters["task"])


@torch.no_grad()
def replacement_shifts(lm: LanguageModel, task: Task, prompts: Prompts, seed: int, limit: int | None = None) -> Tensor:
    """|v with demonstration i replaced - v| / |v| for the vector v after each layer: [B, N, L].

    The other pair comes from the demonstrations' pool and is not in the prompt. `limit`: only the first prompts.
    """
    n = len(prompts.demos[0])
    pool = [task.pairs[i] for i in split(task, n, seed)["demonstrations"]]
    rng = np.random.default_rng(seed)
    texts = []
    for text, demos, (query, _) in zip(prompts.vector_texts, prompts.demos, prompts.vector_pairs, strict=True):
        texts.append(text)
        free = [pair for pair in pool if pair not in demos]
        for i in range(n):
            other = free[rng.integers(len(free))]
            texts.append(render(prompts.template, (*demos[:i], other, *demos[i + 1 :]), query))
    states = capture(lm, texts[: limit and limit * (n + 1)], shared=1, rows=BATCH)  # [B (N + 1), L, d]
    states = states.unflatten(0, (-1, n + 1))  # [B, N + 1, L, d]
    vectors = states[:, :1]
    return (states[:, 1:] - vectors).norm(dim=-1) / vectors.norm(dim=-1)  # [B, N, L]


def combination_fits(lm: LanguageModel, prompts: Prompts, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights of the demonstrations' states in the vector, after each layer and for each token that may stand for one.

    All states are centered over the prompts the weights are fitted to, by place: what every prompt has in common proves
    nothing. The query's own state is always among the regressors, so that it explains nothing in a demonstration's
    name. Controls: "shuffled", the demonstrations of another prompt; "random", directions at the same lengths; "none".

    Returns:
        Held-out R² (layer, token, states, fold, r2) and the weights fitted to all prompts (layer, token, demo, weight).
    """
    everything = demonstration_states(lm, prompts)  # [B, 4 N + 2, L, d]
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    others, folds = _one_cycle(len(everything), rng), rng.permutation(len(everything)) % FOLDS
    fits, betas = [], []
    for layer in range(lm.n_layers):
        states = everything[:, :, layer].double()  # [B, 4 N + 2, d]
        query, vector = states[:, -2:-1], states[:, -1]
        for kind, token in enumerate(TOKENS):
            own = states[:, kind : -2 : len(TOKENS)]  # [B, N, d]
            for name, chosen in _with_controls(own, others, noise).items():
                X = torch.cat([chosen, query], 1)  # [B, N + 1, d]
                for fold in range(FOLDS):
                    r2 = _held_out_r2(X, vector, torch.from_numpy(folds != fold))
                    fits.append({"layer": layer, "token": token, "states": name, "fold": fold, "r2": r2})
            found = _least_squares(*_centered(torch.cat([own, query], 1), vector)).tolist()[:-1]
            betas += [{"layer": layer, "token": token, "demo": i, "weight": value} for i, value in enumerate(found)]
    return pd.DataFrame(fits), pd.DataFrame(betas)


def _with_controls(own: Tensor, others: np.ndarray, noise: torch.Generator) -> dict[str, Tensor]:
    centered = own - own.mean(0)  # [B, N, d]
    random = torch.randn(own.shape, generator=noise, dtype=own.dtype)
    random *= (centered.norm(dim=-1) / random.norm(dim=-1))[..., None]
    return {"own": own, "shuffled": own[others], "random": random, "none": own[:, :0]}


@torch.no_grad()
def demonstration_states(lm: LanguageModel, prompts: Prompts) -> Tensor:
    """States [B, 4 N + 2, L, d] at the four TOKENS of each demonstration, at the query's input and at its arrow."""
    texts = list(prompts.vector_texts)
    ends = [
        ends_in_text(prompts.template, demos, query)
        for demos, (query, _) in zip(prompts.demos, prompts.vector_pairs, strict=True)
    ]
    columns = token_columns(lm, texts, ends)  # [B, 4 N + 2]
    spans = [slice(start, start + BATCH) for start in range(0, len(texts), BATCH)]
    return torch.cat([states_at(lm, texts[span], columns[span]) for span in spans])


def ends_in_text(template: str, demos: Sequence[Pair], query: str) -> list[int]:
    """Characters up to the end of the four TOKENS of each demonstration, the query's input and its arrow: [4 N + 2]."""
    before_x, ends, start = len(template.partition("{x}")[0]), [], 0
    for x, y in demos:
        line = template.format(x=x, y=y)
        lengths = before_x + len(x), len(render(template, (), x)), len(line), len(line + TERMINATOR)
        ends += [start + length for length in lengths]
        start += lengths[-1]
    return [*ends, start + before_x + len(query), start + len(render(template, (), query))]


def token_columns(lm: LanguageModel, texts: Sequence[str], ends: Sequence[Sequence[int]]) -> Tensor:
    """The tokens that hold the character before each of `ends`, counted from the end of the text (negative): [B, P].

    ValueError where the tokenizer drops such a character.
    """
    columns = []
    for text, ids, marks in zip(texts, tokenize(lm, list(texts)), ends, strict=True):
        spans = lm.tokenizer(text, return_offsets_mapping=True)["offset_mapping"][: len(ids)]
        held = [[i for i, (start, stop) in enumerate(spans) if start < mark <= stop] for mark in marks]
        if [] in held:
            raise ValueError(f"the tokenizer of {lm.name} drops {text[marks[held.index([])] - 1]!r}: it has no state")
        columns.append([max(tokens) - len(spans) for tokens in held])
    return torch.tensor(columns)


def _held_out_r2(X: Tensor, y: Tensor, train: Tensor) -> float:
    """1 - |y - X β|² / |y|² over the prompts that are not in `train` [B], centered as those that are."""
    centered, target = _centered(X[train], y[train])
    weights = _least_squares(centered, target)
    rest = X[~train] - X[train].mean(0), y[~train] - y[train].mean(0)
    missed = rest[1] - torch.einsum("bpd,p->bd", rest[0], weights)
    return 1 - (missed.square().sum() / rest[1].square().sum()).item()


def _centered(X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return X - X.mean(0), y - y.mean(0)


def _least_squares(X: Tensor, y: Tensor) -> Tensor:
    """Weights [P], the same for all prompts, of regressors [B, P, d] in y [B, d]."""
    return torch.linalg.lstsq(X.transpose(1, 2).flatten(0, 1), y.flatten()[:, None]).solution[:, 0]


def _one_cycle(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random permutation that leaves nothing in its place."""
    order = rng.permutation(n)
    shifted = np.empty(n, dtype=int)
    shifted[order] = np.roll(order, 1)
    return shifted


def _shift_table(shifts: Tensor) -> pd.DataFrame:
    prompt, demo, layer = np.indices(shifts.shape).reshape(3, -1)
    values = shifts.double().flatten().numpy().round(6)
    return pd.DataFrame({"layer": layer, "prompt": prompt, "demo": demo, "shift": values})


WEIGHTS = Experiment("demonstrations", 1, run, verify, rests_on)
