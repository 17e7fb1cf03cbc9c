"""One experiment of the field: ICL against its task vector, with everything chosen on prompts that are not scored.

For each set of demonstrations, a task vector is read at the last arrow of a prompt that ends in a query of its own, and
put into zero-shot prompts of the test queries (Hendel et al. 2023). The layer is the best one on selection queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from task_vectors.lm.forward import check_cache
from task_vectors.lm.interventions import SweepScores, capture, continue_greedily, layer_sweep
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.tokens import answer_lines, prompt_tokens
from task_vectors.prompts.few_shot import DEFAULT_TEMPLATE, Prompts, few_shot_prompts
from task_vectors.tasks.task import Task

# How an answer is judged, and the score of a sweep by which the layer is chosen for it: "right" wants exactly the
# answer and the end of the line; "word" that the line begins with the answer as a word, the papers' next-word match.
RULES = {"right": "exact", "word": "first_token"}


@dataclass(frozen=True)
class Evaluation:
    """Results of one task at one number of demonstrations."""

    answers: pd.DataFrame  #: a row per test prompt: what was asked, and what ICL and the vector answered
    selection: SweepScores  #: [B, L] on the selection prompts
    layers: dict[str, int]  #: chosen there for each rule


def evaluate(
    lm: LanguageModel,
    task: Task,
    n_demos: int,
    seeds: Sequence[int],
    *,
    n_prompts: int = 24,
    n_selection: int = 12,
    queries_per_prefix: int = 4,
    template: str = DEFAULT_TEMPLATE,
) -> Evaluation:
    """Score ICL and task vector on the same test queries, for each seed (Hendel et al. 2023).

    The layers are chosen once, on prompts whose queries are in no seed's test prompts: one for each rule by which an
    answer is judged, "right" (exactly the answer and the end of the line) and "word" (the line begins with it).

    Args:
        task: what is asked.
        n_demos: demonstrations in each prompt.
        seeds: each draws prompts of its own.
        n_prompts: test prompts of each seed.
        n_selection: prompts on which the layers are chosen.
        queries_per_prefix: prompts that share one set of demonstrations, and so one vector.
        template: as of `few_shot_prompts`.

    Returns:
        Evaluation. Its answers have the columns icl and vector (what was written), icl_right, icl_word, vector_right
        and vector_word, and what was asked.

    Raises:
        ValueError: as `few_shot_prompts`, for too few pairs; as `score`, for an answer that cannot be scored.
    """
    check_cache(lm)
    settings = {"template": template, "queries_per_prefix": queries_per_prefix}
    held_out = few_shot_prompts(task, n_demos, n_selection, seeds[0], pool="selection", **settings)
    prompts = [few_shot_prompts(task, n_demos, n_prompts, seed, **settings) for seed in seeds]
    room = answer_room(lm, prompts)
    texts = [text for sample in (held_out, *prompts) for text in (*sample.texts, *sample.vector_texts)]
    prompt_tokens(lm, texts, room - 1)  # refused here, before anything runs
    layers, scores = choose_layers(lm, held_out)
    tables = test_answers(lm, prompts, layers, room)
    keys = {"task": task.name, "category": task.category, "n_demos": n_demos}
    answers = pd.concat(
        [table.assign(seed=seed, **keys) for seed, table in zip(seeds, tables, strict=True)], ignore_index=True
    )
    return Evaluation(answers, scores, layers)


def test_answers(
    lm: LanguageModel, samples: Sequence[Prompts], layers: dict[str, int], room: int
) -> list[pd.DataFrame]:
    """What ICL and the task vector write for each prompt of each sample in at most `room` tokens; samples run together.

    Columns: prefix, group and part of the query, vector_part (the part of the query that the vector was read at),
    query, answer, demo_answers; icl and vector, the texts (vector at the layer for exact answers); and icl_right,
    icl_word, vector_right, vector_word, the verdicts by each rule, the vector at that rule's layer.
    """
    zero_shot = [text for prompts in samples for text in prompts.zero_shot_texts]
    icl, vectors = _icl_and_vectors(lm, samples, room)
    by_layer = {
        layer: continue_greedily(
            lm, zero_shot, vectors=vectors[:, layer], layer=layer, max_tokens=room, shared=len(zero_shot)
        ).texts
        for layer in set(layers.values())
    }
    tables, start = [], 0
    for prompts in samples:
        span = slice(start, start + len(prompts.texts))
        tables.append(_table(prompts, icl[span], {rule: by_layer[layer][span] for rule, layer in layers.items()}))
        start = span.stop
    return tables


def answer_room(lm: LanguageModel, samples: Sequence[Prompts]) -> int:
    """Tokens of the samples' longest answer and the end of its line; a longer text is wrong already."""
    zero_shot = [text for prompts in samples for text in prompts.zero_shot_texts]
    completions = [text for prompts in samples for text in prompts.completions]
    return 1 + max(map(len, answer_lines(lm, zero_shot, completions).answers))


def _table(prompts: Prompts, icl: list[str], by_vector: dict[str, list[str]]) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "prefix": prompts.prefix,
            "group": prompts.groups,
            "part": prompts.parts,
            "vector_part": [prompts.vector_parts[j] for j in prompts.prefix],
            "query": prompts.queries,
            "answer": prompts.answers,
            "demo_answers": [tuple(y for _, y in demos) for demos in prompts.demos],
            "icl": icl,
            "vector": by_vector["right"],
        }
    )
    judges = {"right": str.__eq__, "word": begins_with_word}
    for method, texts in (("icl", dict.fromkeys(RULES, icl)), ("vector", by_vector)):
        for rule, judge in judges.items():
            table[f"{method}_{rule}"] = [judge(*pair) for pair in zip(texts[rule], prompts.answers, strict=True)]
    return table


def begins_with_word(text: str, word: str) -> bool:
    """Is `word` the beginning of `text`, and not just of a longer word?"""
    return text.startswith(word) and not text[len(word) : len(word) + 1].isalnum()


def choose_layers(lm: LanguageModel, prompts: Prompts) -> tuple[dict[str, int], SweepScores]:
    """For each rule the layer where the prompts' own vectors do best; ties go to the higher mean log-probability."""
    answer_lines(lm, prompts.zero_shot_texts, prompts.completions)  # refused here, before anything runs
    vectors = capture(lm, list(prompts.vector_texts))[list(prompts.prefix)]  # [B, L, d]
    scores = layer_sweep(lm, prompts.zero_shot_texts, vectors, prompts.completions)
    tie_breaker = scores.log_prob.mean(0).tolist()
    layers = {}
    for rule, score in RULES.items():
        share = getattr(scores, score).float().mean(0).tolist()
        layers[rule] = max(range(lm.n_layers), key=lambda layer, share=share: (share[layer], tie_breaker[layer]))
    return layers, scores


def _icl_and_vectors(lm: LanguageModel, samples: Sequence[Prompts], room: int) -> tuple[list[str], Tensor]:
    """ICL answers [B] and, for each prompt, the vector of its prefix [B, L, d]: one run per prefix serves both."""
    shared = len(samples[0].texts) // len(samples[0].vector_texts)
    rows = []
    for prompts in samples:
        for prefix, source in enumerate(prompts.vector_texts):
            rows += [source, *prompts.texts[prefix * shared : (prefix + 1) * shared]]
    run = continue_greedily(lm, rows, shared=shared + 1, max_tokens=room)
    answers = [text for i, text in enumerate(run.texts) if i % (shared + 1)]
    return answers, run.states[:: shared + 1].repeat_interleave(shared, 0)
