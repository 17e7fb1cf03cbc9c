"""Two layers of which the first only writes to arrows, trained with token dropout: Propositions 3 and 5 as learned.

As in the propositions C_1 = 0, and the first layer's D has rows for arrows alone, and one entry that joins the query
with its empty answer. What arrows weigh is free: nothing ties their weights on inputs to those on answers. Inputs and
answers of the demonstrations and all arrows are dropped, each on its own, the same ones in both layers; the query and
the answer's token are kept.
"""

import pandas as pd
import torch
from torch import Tensor

from task_vectors.kernels.linear_attention import linear_attention
from task_vectors.linear_attention.dropout import visible
from task_vectors.linear_attention.heavy_tails import DIMENSION, stretched_inputs
from task_vectors.linear_attention.prompts import get_layout, prompt_states
from task_vectors.linear_attention.theory import project
from task_vectors.records.store import Comparison, Experiment, Record

TRIPLETS = get_layout("triplets")
RATE, WARM_UP = 0.02, 100
TEST_PROMPTS, TEST_SEED = 20_000, 1_000_002


def run(*, n: int, keep: float, causal: bool, n_seeds: int, steps: int, batch: int) -> dict[str, object]:
    """Train seeds 0 … n_seeds - 1 with tokens kept with probability `keep`.

    Tables: "risks" (seed, risk on fresh prompts with dropout) and "weights" (seed, arrow, demo, weight: the common
    weights of inputs and answers, of norm 1).
    """
    free = [_initial(n, seed) for seed in range(n_seeds)]
    free = {name: torch.stack([tensors[name] for tensors in free]).requires_grad_() for name in free[0]}
    optimizer = torch.optim.Adam(free.values(), lr=RATE, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(n)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARM_UP) * (1 - step / steps)
        optimizer.zero_grad()
        _risk(free, n, keep, causal, batch, generator).sum().backward()
        optimizer.step()
    free = {name: tensor.detach() for name, tensor in free.items()}
    risks = _test_risks(free, n, keep, causal)
    weights = _weight_table(_in_use(free["D"], n, causal), n)
    best = {name: tensor[int(risks.argmin())] for name, tensor in free.items()}
    return {"risks": pd.DataFrame({"seed": range(n_seeds), "risk": risks.tolist()}), "weights": weights, "best": best}


def verify(record: Record) -> list[Comparison]:
    """The best model's risk on the test prompts."""
    facts, best = record.parameters, {name: tensor[None] for name, tensor in record.tensors("best").items()}
    again = _test_risks(best, facts["n"], facts["keep"], facts["causal"])
    return [Comparison("risk of the best seed", record.table("risks")["risk"].min(), again.item(), 1e-3)]


def _initial(n: int, seed: int) -> dict[str, Tensor]:
    generator, T = torch.Generator().manual_seed(seed), TRIPLETS.n_tokens(n)
    D = torch.randn(T, T, generator=generator)
    return {"D": D, "scale": torch.tensor(-0.1), "query_row": torch.zeros(T)}


@torch.no_grad()
def _test_risks(free: dict[str, Tensor], n: int, keep: float, causal: bool) -> Tensor:
    return _risk(free, n, keep, causal, TEST_PROMPTS, torch.Generator().manual_seed(TEST_SEED))


def _risk(free: dict[str, Tensor], n: int, keep: float, causal: bool, batch: int, generator: torch.Generator) -> Tensor:
    """Risk of each model [S]; as in `model`, a prompt whose answers are its inputs stands for all tasks."""
    X, importance = stretched_inputs(batch, n + 1, generator)
    kept = (torch.rand(batch, TRIPLETS.n_tokens(n), generator=generator) < keep).to(X)  # [B, T]
    kept[:, [TRIPLETS.inputs(n)[-1], -1]] = 1
    S = len(free["D"])
    Z = prompt_states(X, torch.eye(DIMENSION).expand(batch, -1, -1), TRIPLETS).expand(S, -1, -1, -1)
    options = {"n": n, "keep": kept.expand(S, -1, -1), "causal": causal}
    one, none = torch.ones(S), torch.zeros(S)
    Z = linear_attention(Z, one, one, none, _in_use(free["D"], n, causal), **options)
    last = torch.zeros_like(free["D"])
    last[:, -1] = free["query_row"]
    Z = linear_attention(Z, none, free["scale"], one, last, **options)  # [S, B, T, 2d]
    return ((Z[:, :, -1, DIMENSION:] + X[:, -1]).square().sum(-1) * importance).mean(-1)


def _in_use(D: Tensor, n: int, causal: bool) -> Tensor:
    """D with only what an arrow may read of demonstrations that it sees whole, and the query's own entry."""
    mask, seen = torch.zeros(D.shape[-2:]), torch.from_numpy(visible(n, causal)).T.to(D)  # [T, T], [n + 1, n]
    for places in (TRIPLETS.inputs(n), TRIPLETS.answers(n)):
        mask[TRIPLETS.arrows(n)[:, None], places[:n]] = seen
    mask[-1, TRIPLETS.inputs(n)[-1]] = 1
    return D * mask


def _weight_table(D: Tensor, n: int) -> pd.DataFrame:
    rows = []
    for seed, matrix in enumerate(D):
        weights = project(matrix, TRIPLETS, n).weights[:, :n]  # [n + 1, n]
        weights = weights / weights.norm()
        rows += [
            {"seed": seed, "arrow": arrow, "demo": demo, "weight": weights[arrow, demo].item()}
            for arrow in range(n + 1)
            for demo in range(n)
        ]
    return pd.DataFrame(rows)


TOKEN_DROPOUT = Experiment("token_dropout", 1, run, verify)
