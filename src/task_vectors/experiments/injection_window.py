"""Why a task vector works after some layers and not after others: four states, and four prompts, put to the same test.

After each layer, a zero-shot prompt's state at the last arrow is replaced by

- "vector": the task vector, read in a prompt with demonstrations that ends in another query;
- "own": the state of the same query after the demonstrations, which lacks nothing;
- "added": its own zero-shot state, plus what the demonstrations change in the other query's state;
- "rescaled": the task vector at the length of the state it replaces;

and the task vector is put into prompts that do not begin with the query's own line: after an end-of-text token
("sink"), since a first token draws attention to itself, and after a SENTENCE.
"""

from collections.abc import Mapping

import pandas as pd
from torch import Tensor
from torch.nn.functional import cosine_similarity

from task_vectors.lm.interventions import SweepScores, capture, layer_sweep
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.pinned_weights import checked_model, log_prob_tolerance
from task_vectors.prompts.few_shot import TERMINATOR, Prompts, few_shot_prompts, render
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.catalog import get_task, task_files

QUERIES_PER_PREFIX = 4
SENTENCE = "The following are examples." + TERMINATOR
WAYS = ("vector", "own", "added", "rescaled", "sink", "sentence")
CHECKED = ("vector", "added")


def run(
    *, model: str, weights: str, dtype: str, task: str, template: str, n_demos: int, n_prompts: int, seed: int
) -> dict[str, object]:
    """Every way of WAYS after every layer, with the weights that `weights_id` names.

    Table: "prompts" (prefix, group). Tensors: for each way the SweepScores, [B, L] each; "states", means over prompts,
    [L] each: the norms of the task vector and of the zero-shot state it replaces, and the cosines of the task vector
    with that state and with the same query's state after the demonstrations.
    """
    lm = checked_model(model, weights, dtype)
    prompts = _prompts(task, n_demos, n_prompts, seed, template)
    states = read_states(lm, prompts, n_prompts)
    vector, zero = states["vector"], states["zero"]  # [B, L, d]
    lengths = {
        "vector": vector.norm(dim=-1).mean(0),
        "zero": zero.norm(dim=-1).mean(0),
        "cosine_zero": cosine_similarity(vector, zero, dim=-1).mean(0),
        "cosine_own": cosine_similarity(vector, states["own"], dim=-1).mean(0),
    }
    table = pd.DataFrame({"prefix": prompts.prefix, "group": prompts.groups})
    return {"prompts": table, "states": lengths} | {way: put_in(lm, prompts, states, way)._asdict() for way in WAYS}


def read_states(lm: LanguageModel, prompts: Prompts, n: int) -> dict[str, Tensor]:
    """States after each layer at the last arrow of the first n prompts, [n, L, d], float32.

    vector and own: after the demonstrations, of the vector's query and of the prompt's; zero and other_zero: without.
    """
    sets = n // QUERIES_PER_PREFIX
    others = [render(prompts.template, (), x) for x, _ in prompts.vector_pairs[:sets]]
    each = list(prompts.prefix[:n])  # its set of demonstrations
    return {
        "vector": capture(lm, list(prompts.vector_texts[:sets])).float()[each],
        "other_zero": capture(lm, others).float()[each],
        "own": capture(lm, list(prompts.texts[:n]), shared=QUERIES_PER_PREFIX).float(),
        "zero": capture(lm, prompts.zero_shot_texts[:n]).float(),
    }


def put_in(lm: LanguageModel, prompts: Prompts, states: Mapping[str, Tensor], way: str) -> SweepScores:
    """The scores of the answers to the prompts that have states, with one of WAYS put in after each layer."""
    vector, zero = states["vector"], states["zero"]  # [n, L, d]
    n = len(zero)
    vectors = {
        "own": states["own"],
        "added": zero + vector - states["other_zero"],
        "rescaled": vector * (zero.norm(dim=-1, keepdim=True) / vector.norm(dim=-1, keepdim=True)),
    }
    before = {"sink": lm.tokenizer.eos_token, "sentence": SENTENCE}.get(way, "")
    texts = [before + text for text in prompts.zero_shot_texts[:n]]
    return layer_sweep(lm, texts, vectors.get(way, vector), prompts.completions[:n])


def verify(record: Record) -> list[Comparison]:
    """The task vector, replaced and added, on the prompts of the first set of demonstrations."""
    facts = record.parameters
    lm = checked_model(facts["model"], facts["weights"], facts["dtype"])
    prompts = _prompts(*(facts[name] for name in ("task", "n_demos", "n_prompts", "seed", "template")))
    states = read_states(lm, prompts, QUERIES_PER_PREFIX)
    compared = []
    for way in CHECKED:
        before, again = record.tensors(way)["log_prob"][:QUERIES_PER_PREFIX], put_in(lm, prompts, states, way).log_prob
        both = before.mean().item(), again.mean().item()
        what = f"{way}: log-probability of the answers, mean over layers"
        compared.append(Comparison(what, *both, log_prob_tolerance(facts["dtype"])))
        peaks = before.mean(0).argmax().item(), again.mean(0).argmax().item()
        compared.append(Comparison(f"{way}: the layer of the largest", *peaks, 0))
    return compared


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The table of the task's pairs."""
    return task_files(parameters["task"])


def _prompts(task: str, n_demos: int, n_prompts: int, seed: int, template: str) -> Prompts:
    settings = {"template": template, "queries_per_prefix": QUERIES_PER_PREFIX}
    return few_shot_prompts(get_task(task), n_demos, n_prompts, seed, **settings)


INJECTION_WINDOW = Experiment("injection_window", 1, run, verify, rests_on)
