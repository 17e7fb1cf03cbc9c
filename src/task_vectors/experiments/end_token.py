"""Proposition 6: triplets with an end token, beside triplets under two heads of twice the width."""

import torch
from torch import Tensor

from task_vectors.experiments.linear_transformer import (
    CHECK_PROMPTS,
    CHECK_SEED,
    SELECTION_PROMPTS,
    SELECTION_SEED,
    TEST_PROMPTS,
    TEST_SEED,
    best_risk,
    risk_table,
)
from task_vectors.linear_attention.heads import HeadWeights, head_risk, train_heads
from task_vectors.linear_attention.model import Weights, risk
from task_vectors.linear_attention.prompts import get_layout
from task_vectors.linear_attention.training import Recipe, evaluate, train
from task_vectors.records.store import Comparison, Experiment, Record

KINDS = ("end token", "two heads")


def run(*, kind: str, n_layers: int, n: int, n_seeds: int, steps: int, penalty: float) -> dict[str, object]:
    """Train seeds 0 … n_seeds - 1 of one of KINDS and measure their risks.

    Tables: "risks" and "history", as of the linear transformer. Tensors: "best", the weights of the seed with the least
    selection risk.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; there are: {', '.join(KINDS)}")
    seeds, recipe = list(range(n_seeds)), Recipe(steps, penalty=penalty)
    if kind == "end token":
        weights, history = train("ended", n_layers, n, seeds, recipe)
        tensors, risk_of = weights.tensors(), risk
    else:
        weights, history = train_heads(n_layers, n, seeds, recipe)
        tensors, risk_of = vars(weights), head_risk
    selection, _ = evaluate(weights, SELECTION_PROMPTS, SELECTION_SEED, risk_of)
    risks, errors = evaluate(weights, TEST_PROMPTS, TEST_SEED, risk_of)
    check, _ = evaluate(weights, CHECK_PROMPTS, CHECK_SEED, risk_of)
    best = int(selection.nan_to_num(torch.inf).argmin())
    return {
        "risks": risk_table(seeds, selection, risks, errors, check),
        "history": history,
        "best": {name: tensor[best].clone() for name, tensor in tensors.items()},
    }


def checked(record: Record) -> Tensor:
    """The best weights' risk on the prompts of a check: [1]."""
    tensors = {name: tensor[None] for name, tensor in record.tensors("best").items()}
    if record.parameters["kind"] == "end token":
        return evaluate(Weights(get_layout("ended"), **tensors), CHECK_PROMPTS, CHECK_SEED)[0]
    return evaluate(HeadWeights(**tensors), CHECK_PROMPTS, CHECK_SEED, head_risk)[0]


def verify(record: Record) -> list[Comparison]:
    """The best weights' risk on a few prompts."""
    return [Comparison("risk of the best seed", best_risk(record)["check"], checked(record).item(), 1e-3)]


END_TOKEN = Experiment("end_token", 1, run, verify)
