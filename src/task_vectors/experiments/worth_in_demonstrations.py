"""How many demonstrations a task vector is worth to a language model, by what the model says next.

For the same queries, the distribution of the next token with a vector in a zero-shot prompt is compared with that after
k demonstrations. Two k-shot prompts differ from each other, and the more so the smaller k is; so a vector is compared
with the *mean* of the distributions of several k-shot prompts:

    mean of KL(prompt, vector) over prompts = KL(mean of the prompts, vector) + mean of KL(prompt, mean) over prompts

The last term is the prompts' own spread. It says nothing of the vector, and would make large k look near. True k-shot
prompts stand in the vector's place as well: what is found for them is what the measure can tell.

Only the first token of an answer is looked at: it is the one that the vector's state foretells.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from task_vectors.lm.interventions import capture, continue_greedily, layer_sweep, unembed
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.pinned_weights import checked_model, log_prob_tolerance
from task_vectors.lm.task_vector import choose_layers
from task_vectors.lm.tokens import answer_lines
from task_vectors.prompts.few_shot import completion, few_shot_prompts, render, split
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.catalog import get_task, task_files
from task_vectors.tasks.task import Task

QUERIES_PER_PREFIX = 4
MEASURES = ("to_vector", "from_vector", "spread", "agrees")


def run(
    *,
    model: str,
    weights: str,
    dtype: str,
    task: str,
    template: str,
    shots: Sequence[int],
    sources: Sequence[int],
    n_queries: int,
    n_draws: int,
    n_selection: int,
    seed: int,
) -> dict[str, object]:
    """What stands in a query's place ("candidates", C of them) against k-shot prompts, for each k in `shots` (K).

    Candidates: "shot", a true k-shot prompt; "replaced", the state at the arrow replaced by a vector from m
    demonstrations, for each m in `sources`; "added", to the query's own state is added what the m demonstrations change
    in the other query's state. All after one layer, chosen on n_selection other prompts with as many demonstrations as
    the largest of `shots`. A candidate is compared with the k-shot prompts of the other draws of demonstrations.

    Tables: "candidates" (kind, n); "queries" (group); "layer" (layer). Tensors, means over draws: "distances" with
    MEASURES, [Q, C, K] each, in nats: to_vector, KL(mean of prompts, candidate); from_vector, KL(candidate, mean of
    prompts); spread, [Q, C, K], mean KL(prompt, mean of prompts), the same for all candidates; agrees, do both have
    the same likeliest token? "answers": log_prob and top, [Q, C], of the answer's first token. "layers": to_vector and
    from_vector, [Q, L, K], of the first draw's vector from the last of `sources`, replaced after each layer.
    """
    lm, asked = checked_model(model, weights, dtype), get_task(task)
    settings = {"template": template, "queries_per_prefix": QUERIES_PER_PREFIX}
    held_out = few_shot_prompts(asked, max(shots), n_selection, seed, pool="selection", **settings)
    layer = choose_layers(lm, held_out)[0]["word"]
    sets = draw(asked, max(*shots, *sources), n_queries, n_draws, seed)
    found = [one_set(lm, template, each, layer, shots, sources) for each in sets]
    tensors = {
        name: {key: torch.cat([part[name][key] for part in found]) for key in found[0][name]} for name in found[0]
    }
    return {
        "candidates": pd.DataFrame(candidates(shots, sources), columns=["kind", "n"]),
        "queries": pd.DataFrame({"group": [i for each in sets for i in each["groups"]]}),
        "layer": pd.DataFrame({"layer": [layer]}),
        **tensors,
    }


def candidates(shots: Sequence[int], sources: Sequence[int]) -> list[tuple[str, int]]:
    """What stands in a query's place, in the records' order."""
    return [("shot", k) for k in shots] + [(kind, m) for kind in ("replaced", "added") for m in sources]


def draw(task: Task, most: int, n_queries: int, n_draws: int, seed: int) -> list[dict]:
    """Sets of QUERIES_PER_PREFIX queries with n_draws draws of `most` demonstrations each, and a vector's query each.

    Queries, demonstrations and vectors' queries come from the disjoint pools of `split`.
    """
    pools, rng = split(task, most, seed), np.random.default_rng([seed, n_queries, n_draws])
    queries = rng.permutation(pools["test"])
    if len(queries) < n_queries or n_queries % QUERIES_PER_PREFIX:
        raise ValueError(
            f"n_queries={n_queries} must be a multiple of {QUERIES_PER_PREFIX}, and {task.name} has {len(queries)}"
        )
    return [
        {
            "queries": [task.pairs[i] for i in queries[start : start + QUERIES_PER_PREFIX]],
            "groups": [task.groups[i] for i in queries[start : start + QUERIES_PER_PREFIX]],
            "demos": [
                [task.pairs[i] for i in rng.choice(pools["demonstrations"], most, replace=False)]
                for _ in range(n_draws)
            ],
            "others": [task.pairs[i] for i in rng.choice(pools["vector"], n_draws)],
        }
        for start in range(0, n_queries, QUERIES_PER_PREFIX)
    ]


@torch.no_grad()
def one_set(
    lm: LanguageModel, template: str, drawn: dict, layer: int, shots: Sequence[int], sources: Sequence[int]
) -> dict[str, dict[str, Tensor]]:
    """The tensors of `run` for one set of queries."""
    said, vectors = next_token(lm, template, drawn, layer, shots, sources)  # [R, C, Q, V], [R, Q, L, d]
    texts = [render(template, (), x) for x, _ in drawn["queries"]]
    answers = answer_lines(lm, texts, [completion(template, y) for _, y in drawn["queries"]]).answers
    swept = layer_sweep(lm, texts, vectors[0]).float().log_softmax(-1)  # [Q, L, V]
    distances, log_prob, top, by_layer = [], [], [], []
    for i, (first, *_) in enumerate(answers):
        mine = said[:, :, i]  # [R, C, V]
        each = [compare(leave_out(mine[:, : len(shots)], r), mine[r]) for r in range(len(mine))]
        distances.append({name: torch.stack([one[name] for one in each]).mean(0) for name in MEASURES})
        log_prob.append(mine[..., first].mean(0))
        top.append((mine.argmax(-1) == first).float().mean(0))
        by_layer.append(compare(leave_out(mine[:, : len(shots)], 0), swept[i]))
    return {
        "distances": {name: torch.stack([one[name] for one in distances]) for name in MEASURES},
        "answers": {"log_prob": torch.stack(log_prob), "top": torch.stack(top)},
        "layers": {name: torch.stack([one[name] for one in by_layer]) for name in ("to_vector", "from_vector")},
    }


def next_token(
    lm: LanguageModel, template: str, drawn: dict, layer: int, shots: Sequence[int], sources: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the next token for each draw and candidate, [R, C, Q, V]; the last source's vectors."""
    queries = [x for x, _ in drawn["queries"]]
    zero = [render(template, (), x) for x in queries]
    own = capture(lm, zero)[:, layer].float()  # [Q, d]
    said, last = [], []
    for demos, (other, _) in zip(drawn["demos"], drawn["others"], strict=True):
        texts = [render(template, tuple(demos[:k]), x) for k in shots for x in queries]
        states = [capture(lm, texts, shared=len(queries))[:, -1]]  # [K·Q, d]
        read = capture(lm, [render(template, tuple(demos[:m]), other) for m in (0, *sources)]).float()  # [1+M, L, d]
        vectors, without = read[1:, layer], read[0, layer]  # [M, d], [d]
        added = own + (vectors - without)[:, None]  # [M, Q, d]
        for put in (vectors[:, None].expand_as(added), added):
            run = continue_greedily(lm, zero * len(sources), vectors=put.flatten(0, 1), layer=layer, max_tokens=1)
            states.append(run.states[:, -1])
        logits = unembed(lm, torch.cat(states)).float()  # [C·Q, V]
        said.append(logits.log_softmax(-1).unflatten(0, (-1, len(queries))))
        last.append(read[-1].expand(len(queries), -1, -1))  # [Q, L, d]
    return torch.stack(said), torch.stack(last)


def leave_out(prompts: Tensor, r: int) -> Tensor:
    """Log-probabilities of all draws but r, [R-1, K, V], of prompts [R, K, V]."""
    return torch.cat([prompts[:r], prompts[r + 1 :]])


def compare(prompts: Tensor, others: Tensor) -> dict[str, Tensor]:
    """MEASURES, [C, K] each, of the mean of prompts [R, K, V] against others [C, V]; log-probabilities, in nats."""
    p = prompts.exp()  # [R, K, V]
    mean = p.mean(0)  # [K, V]
    log_mean = prompts.logsumexp(0) - np.log(len(prompts))  # [K, V]
    inner = (mean * log_mean).sum(-1)  # [K], minus the entropy of the mean
    q = others.exp()  # [C, V]
    spread = (p * prompts).sum(-1).mean(0) - inner  # [K]
    return {
        "to_vector": inner - others @ mean.T,
        "from_vector": (q * others).sum(-1, keepdim=True) - q @ log_mean.T,
        "spread": spread.expand(len(others), -1),
        "agrees": (others.argmax(-1, keepdim=True) == mean.argmax(-1)).float(),
    }


def verify(record: Record) -> list[Comparison]:
    """The first set of queries, at the recorded layer."""
    facts = record.parameters
    lm, asked = checked_model(facts["model"], facts["weights"], facts["dtype"]), get_task(facts["task"])
    shots, sources = facts["shots"], facts["sources"]
    sets = draw(asked, max(*shots, *sources), facts["n_queries"], facts["n_draws"], facts["seed"])
    again = one_set(lm, facts["template"], sets[0], int(record.table("layer").layer[0]), shots, sources)
    few = log_prob_tolerance(facts["dtype"])
    compared = []
    for name, parts in again.items():
        for key in sorted(parts.keys() - {"agrees", "top"}):  # counts of near ties change from processor to processor
            before = record.tensors(name)[key][:QUERIES_PER_PREFIX].mean().item()
            compared.append(Comparison(f"{name}, {key}: mean", before, parts[key].mean().item(), few))
    return compared


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The table of the task's pairs."""
    return task_files(parameters["task"])


WORTH_IN_DEMONSTRATIONS = Experiment("worth_in_demonstrations", 1, run, verify, rests_on)
