"""What training one band of layers changes: accuracy, Task Decodability, and what goes over to other prompts.

Han et al. 2025, Table 1, compare the first ten layers with the last ten. Task Decodability (TD) is read after a layer
in between, so that training the last ones cannot change it. Here TD is read after every layer, and beside it, from the
same states, the next symbol of the answer: near the top a state predicts that symbol.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from task_vectors.kernels.knn_vote import knn_vote
from task_vectors.lm.finetuning import (
    Adapter,
    Tuning,
    answer_loss,
    train,
    training_prompts,
    tuned,
    tuning_of,
)
from task_vectors.lm.interventions import unembed
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.pinned_weights import checked_model
from task_vectors.lm.scoring import score_tokens
from task_vectors.lm.tokens import tokens_up_to_answer, whole_lines
from task_vectors.measures.decodability import K
from task_vectors.prompts.families import FamilyPrompts, family_prompts
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.families.catalog import family_file, get_family

EVERY = 25  # steps from one checkpoint to the next
CHECK_PROMPTS = 2  # of each task
ENOUGH = 3 * K  # prompts of one next symbol for a vote among them


def run(
    *,
    model: str,
    weights: str,
    dtype: str,
    family: str,
    options: dict,
    source: str,
    tuning: dict,
    tests: list[dict],
    seed: int,
    scratch: Path,
    keep_adapter: bool = False,
) -> dict[str, object]:
    """Train on a family, then look at the model with its adapter. Goes on from where `scratch` shows that it stopped.

    `tuning` are the fields of Tuning. A test is what `look` takes, and `seed` that of its prompts. `source`: sha256 of
    the user's treebank, or "".

    What `untrained` gives; and table "training" (seconds), tensors "losses", with keep_adapter "adapter" (bfloat16).
    """
    lm, how = checked_model(model, weights, dtype), tuning_of(tuning)
    adapter, losses, seconds = train(lm, get_family(family, options), how, scratch, EVERY)
    with tuned(lm, adapter):
        results = _looks(lm, tests, seed)
    results |= {"training": pd.DataFrame({"seconds": [seconds]}), "losses": {"losses": losses}}
    return results | ({"adapter": _halved(adapter)} if keep_adapter else {})


def untrained(*, model: str, weights: str, dtype: str, source: str, tests: list[dict], seed: int) -> dict[str, object]:
    """Look at the model as it is.

    Table "prompts" (test, class, group, right, first, log_prob), a test as its place in the list; for test i, tensors
    "votes_<i>", as of `look`.
    """
    return _looks(checked_model(model, weights, dtype), tests, seed)


def look(
    lm: LanguageModel,
    *,
    family: str,
    options: dict,
    n_demos: int,
    n_prompts: int,
    pool: str,
    seed: int,
    lens: bool = False,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """n_prompts prompts of each task: the scores of each, and what the neighbors of its states name after each layer.

    Votes, [N, L] each: "task" (int8); "within", the same among prompts with the same next symbol alone (int8, -1 where
    these are fewer than ENOUGH); "symbol", whether it is the answer's own first token that is named; with `lens`,
    "lens", whether the model's own unembedding of the state names it.
    """
    prompts = family_prompts(get_family(family, options), n_demos, n_prompts, seed, pool=pool)
    tokens = tokens_up_to_answer(lm, prompts)
    found = score_tokens(lm, tokens)
    firsts = torch.tensor([answer[0] for answer in tokens.answers])
    log_prob = found.log_prob.double().round(decimals=4)
    scores = {"right": found.right, "first": found.first, "log_prob": log_prob}
    votes = _votes(found.states, prompts, firsts.unique(return_inverse=True)[1])
    if lens:
        read = [unembed(lm, states).argmax(-1).cpu() for states in found.states.unbind(1)]  # L of [N]
        votes["lens"] = torch.stack(read, 1) == firsts[:, None]
    return pd.DataFrame({"class": prompts.labels, "group": prompts.groups, **scores}), votes


def _votes(states: Tensor, prompts: FamilyPrompts, symbols: Tensor) -> dict[str, Tensor]:
    labels, groups = prompts.labels, prompts.groups
    within = torch.full(states.shape[:2], -1, dtype=torch.int8)
    for symbol in symbols.unique():
        same = symbols == symbol
        if same.sum() >= ENOUGH and len(groups[same].unique()) > 1:
            within[same] = knn_vote(states[same], labels[same], K, groups=groups[same]).to(torch.int8)
    return {
        "task": knn_vote(states, labels, K, groups=groups).to(torch.int8),
        "within": within,
        "symbol": knn_vote(states, symbols, K, groups=groups) == symbols[:, None],
    }


def kept_adapter(record: Record) -> Adapter:
    """The adapter of a record that keeps it."""
    weights = {name: tensor.float() for name, tensor in record.tensors("adapter").items()}
    return Adapter(tuning_of(record.parameters["tuning"]), weights)


def verify(record: Record) -> list[Comparison]:
    """The first step's loss; of seed 1 the next one's too, which rests on a gradient; what a kept adapter answers."""
    facts, recorded = record.parameters, record.tensors("losses")["losses"].tolist()
    lm, how = checked_model(facts["model"], facts["weights"], facts["dtype"]), tuning_of(facts["tuning"])
    if how.seed == 1 and how.steps > 1:
        losses = train(lm, get_family(facts["family"], facts["options"]), how, stop=2)[1].tolist()
    else:
        names = ("model", "weights", "dtype", "family")
        prompts = (json.dumps(facts["options"]), how.n_demos, how.batch, how.seed)
        losses = [_first_loss(*(facts[name] for name in names), *prompts)]
    pairs = enumerate(zip(recorded, losses, strict=False))
    near = 1e-3 if facts["dtype"] == "float32" else 2e-2  # processors round half precision at different places
    compared = [Comparison(f"loss of step {step}", *pair, near) for step, pair in pairs]
    if facts.get("keep_adapter"):
        with tuned(lm, kept_adapter(record)):
            compared.append(_first_test(record, lm, 0.05))  # the kept weights are rounded
    return compared


@functools.lru_cache
@torch.no_grad()
def _first_loss(
    model: str, weights: str, dtype: str, family: str, options: str, n_demos: int, batch: int, seed: int
) -> float:
    """Before its first update an adapter changes nothing: all bands and rates of a seed share this loss."""
    lm, how = checked_model(model, weights, dtype), Tuning((0,), n_demos=n_demos, batch=batch, seed=seed)
    batch = whole_lines(lm, *training_prompts(get_family(family, json.loads(options)), how, 0))
    return answer_loss(lm, batch).item()


def verify_untrained(record: Record) -> list[Comparison]:
    """The first prompts of the first test."""
    facts = record.parameters
    return [_first_test(record, checked_model(facts["model"], facts["weights"], facts["dtype"]), 1e-3)]


def _first_test(record: Record, lm: LanguageModel, tolerance: float) -> Comparison:
    test = record.parameters["tests"][0]
    # As many as may vote; the inputs of more prompts begin with those of fewer.
    fewer = test | {"n_prompts": min(test["n_prompts"], CHECK_PROMPTS), "seed": record.parameters["seed"]}
    again = look(lm, **fewer)[0]["log_prob"]
    before = record.table("prompts").query("test == 0 and group < @CHECK_PROMPTS")["log_prob"]
    return Comparison("log-probability of the answers", before.mean(), again.mean(), tolerance)


def _looks(lm: LanguageModel, tests: list[dict], seed: int) -> dict[str, object]:
    tables, votes = zip(*(look(lm, seed=seed, **test) for test in tests), strict=True)
    prompts = pd.concat([table.assign(test=i) for i, table in enumerate(tables)], ignore_index=True)
    return {"prompts": prompts} | {f"votes_{i}": found for i, found in enumerate(votes)}


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The modules of the families that are trained and tested on."""
    trained = [parameters["family"]] if "family" in parameters else []
    return [family_file(name) for name in {*trained, *(test["family"] for test in parameters["tests"])}]


def _halved(adapter: Adapter) -> dict[str, Tensor]:
    return {name: tensor.to(torch.bfloat16) for name, tensor in adapter.weights.items()}


UNTRAINED = Experiment("untrained", 1, untrained, verify_untrained, rests_on)
BAND_TUNING = Experiment("band_tuning", 1, run, verify, rests_on)
