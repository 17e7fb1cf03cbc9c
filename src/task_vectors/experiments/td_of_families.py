"""How well a language model's states tell the task, and how well it does it (Han et al. 2025, section 4).

All tasks of a family are asked about the same inputs. Prompts that share them are one group, whose states are never
each other's neighbors: what the states have in common must come from the task.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from task_vectors.kernels.knn_vote import knn_vote
from task_vectors.lm.pinned_weights import checked_model
from task_vectors.lm.scoring import Scores, score_tokens
from task_vectors.lm.tokens import Tokens, tokens_up_to_answer
from task_vectors.measures.decodability import K, pairwise_decodability
from task_vectors.prompts.families import FamilyPrompts, family_prompts
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.families.catalog import family_file, get_family

CHECK_GROUPS = 2


def run(
    *,
    model: str,
    weights: str,
    dtype: str,
    family: str,
    options: dict,
    source: str,
    n_demos: int,
    n_prompts: int,
    seed: int,
    pool: str,
    condition: str,
    revision: str = "",
) -> dict[str, object]:
    """Score n_prompts prompts of each task and let their states vote. `source`: sha256 of the user's treebank, or "".

    Table "prompts" (class, group, right, log_prob), in the order of the tensors' N. Tensors: "votes", the class that
    the nearest neighbors name, [N, L] int8, by "euclidean", "cosine" and "no_null" (Euclidean, without the Null class:
    -1 for its own prompts); "pairs", TD in pools of two tasks, [L, K, K]; "components", the first two principal ones
    of the states, [N, L, 2], and the share of the variance that each has, [L, 2].
    """
    lm = checked_model(model, weights, dtype, revision)
    prompts = family_prompts(get_family(family, options), n_demos, n_prompts, seed, pool=pool, condition=condition)
    found = score_tokens(lm, tokens_up_to_answer(lm, prompts))
    table = pd.DataFrame({"class": prompts.labels, "group": prompts.groups, **_scores(found)})
    layers = found.states.unbind(1)
    pairs = [pairwise_decodability(states, prompts.labels, K, groups=prompts.groups) for states in layers]
    components, shares = zip(*map(_components, layers), strict=True)
    return {
        "prompts": table,
        "votes": votes(found.states, prompts),
        "pairs": {"td": torch.stack(pairs)},
        "components": {"components": torch.stack(components, 1), "shares": torch.stack(shares)},
    }


def votes(states: Tensor, prompts: FamilyPrompts) -> dict[str, Tensor]:
    """The class that each state's neighbors name, by how they are found: [N, L] int8 for states [N, L, d]."""
    labels, groups = prompts.labels, prompts.groups
    found = {metric: knn_vote(states, labels, K, metric=metric, groups=groups) for metric in ("euclidean", "cosine")}
    tasks = labels < labels.max()  # Null is the last
    found["no_null"] = torch.full_like(found["euclidean"], -1)
    found["no_null"][tasks] = knn_vote(states[tasks], labels[tasks], K, groups=groups[tasks])
    return {name: vote.to(torch.int8) for name, vote in found.items()}


def verify(record: Record) -> list[Comparison]:
    """The scores of all tasks' prompts in the first groups."""
    facts = record.parameters
    family = get_family(facts["family"], facts["options"])
    sizes = (facts[name] for name in ("n_demos", "n_prompts", "seed"))
    prompts = family_prompts(family, *sizes, pool=facts["pool"], condition=facts["condition"])
    first = (prompts.groups < CHECK_GROUPS).nonzero()[:, 0].tolist()
    lm = checked_model(facts["model"], facts["weights"], facts["dtype"], facts.get("revision", ""))
    again = score_tokens(lm, Tokens(*([part[i] for i in first] for part in tokens_up_to_answer(lm, prompts))))
    before = record.table("prompts").query("group < @CHECK_GROUPS")
    return [
        Comparison("prompts answered right", before["right"].sum(), again.right.sum().item(), 0),
        Comparison("log-probability of the answers", before["log_prob"].mean(), again.log_prob.mean().item(), 1e-3),
    ]


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The module of the family."""
    return [family_file(parameters["family"])]


def _scores(found: Scores) -> dict[str, Tensor]:
    return {"right": found.right, "log_prob": found.log_prob}


def _components(states: Tensor) -> tuple[Tensor, Tensor]:
    """The two principal components of states [N, d], scaled to variance 1 together, [N, 2]; their shares, [2]."""
    centered = states.float() - states.float().mean(0)
    left, sizes, _ = torch.linalg.svd(centered, full_matrices=False)
    found = left[:, :2] * sizes[:2]  # [N, 2]
    return found / found.std().clamp(min=1e-12), sizes[:2].square() / sizes.square().sum()


PREDICTION = Experiment("prediction", 2, run, verify, rests_on)
