"""Does it help if the answer stands in the prompt? A bijection's prompts with the mate of their query put among the
demonstrations, which sampling by pair never does."""

from collections.abc import Mapping

import pandas as pd

from task_vectors.experiments.bijections import QUERIES_PER_PREFIX, in_form
from task_vectors.lm.interventions import continue_greedily
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.pinned_weights import checked_model
from task_vectors.lm.task_vector import answer_room
from task_vectors.prompts.few_shot import Prompts, few_shot_prompts, render
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.catalog import task_files

EVERY = 2  # Each prompt has demonstrations of its own here, so it costs more: every second one.
ROOM = 6  # tokens for an answer, and more where the model needs more
CHECK_PROMPTS = 4


def run(
    *, model: str, weights: str, dtype: str, task: str, n_demos: int, n_prompts: int, seed: int, template: str
) -> dict[str, object]:
    """ICL on every second test prompt of the bijection of `task`, its first demonstration exchanged for the mate.

    The prompts are those of the experiment "bijections" with the same parameters. Table "answers": prompt (its number
    there), query, answer, icl (the text) and icl_right.
    """
    sample = _sample(task, n_demos, n_prompts, seed, template)
    asked = _prompts(sample)
    texts = _written(checked_model(model, weights, dtype), sample, asked.text.tolist())
    answers = asked.drop(columns="text").assign(icl=texts)
    return {"answers": answers.assign(icl_right=answers.icl == answers.answer)}


def verify(record: Record) -> list[Comparison]:
    """The texts of the first CHECK_PROMPTS prompts."""
    facts, before = record.parameters, record.table("answers").iloc[:CHECK_PROMPTS]
    lm = checked_model(facts["model"], facts["weights"], facts["dtype"])
    sizes = [facts[name] for name in ("task", "n_demos", "n_prompts", "seed", "template")]
    sample = _sample(*sizes)
    asked = _prompts(sample).iloc[:CHECK_PROMPTS]
    again = _written(lm, sample, asked.text.tolist())
    share = (asked.answer == again).mean()
    return [
        Comparison("texts that are the same", len(before), (before.icl == again).sum(), 0),
        Comparison("share of right answers", before.icl_right.mean(), share, 0),
    ]


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The table of the task's pairs."""
    return task_files(parameters["task"])


def _sample(task: str, n_demos: int, n_prompts: int, seed: int, template: str) -> Prompts:
    settings = {"template": template, "queries_per_prefix": QUERIES_PER_PREFIX}
    return few_shot_prompts(in_form(task, "X ↔ Y"), n_demos, n_prompts, seed, **settings)


def _written(lm: LanguageModel, sample: Prompts, texts: list[str]) -> list[str]:
    return continue_greedily(lm, texts, max_tokens=max(ROOM, answer_room(lm, [sample]))).texts


def _prompts(prompts: Prompts) -> pd.DataFrame:
    """Prompt, query, answer and text of every second prompt, the mate in place of its first demonstration."""
    rows = [
        (i, query, answer, render(prompts.template, ((answer, query), *demos[1:]), query))
        for i, (query, answer, demos) in enumerate(zip(prompts.queries, prompts.answers, prompts.demos, strict=True))
    ]
    return pd.DataFrame(rows[::EVERY], columns=["prompt", "query", "answer", "text"])


MATE_IN_PROMPT = Experiment("mate_in_prompt", 1, run, verify, rests_on)
