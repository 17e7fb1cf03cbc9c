"""What the first chapter looks at, of one task in one wording: ICL by number of demonstrations, a task vector at work,
and what the vector says when it is read through the model's own unembedding."""

from collections.abc import Mapping, Sequence

import pandas as pd

from task_vectors.lm.interventions import capture, continue_greedily, unembed
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.pinned_weights import answer_tolerance, checked_model, log_prob_tolerance
from task_vectors.lm.task_vector import answer_room, choose_layers, evaluate, test_answers
from task_vectors.lm.tokens import answer_tokens, prompt_tokens
from task_vectors.prompts.few_shot import Prompts, completion, few_shot_prompts, render
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.catalog import get_task, task_files
from task_vectors.tasks.task import Task

QUERIES_PER_PREFIX = 4
BEST = 20  # tokens that the lens shows


def run(
    *,
    model: str,
    weights: str,
    dtype: str,
    task: str,
    template: str,
    n_demos: int,
    shots: Sequence[int],
    n_prompts: int,
    n_selection: int,
    seed: int,
) -> dict[str, object]:
    """ICL and task vector on n_prompts test prompts, with the weights that `weights_id` names.

    Tables: "shots", a row for each prompt at each number of demonstrations (n_demos, prefix, group, right); "answers"
    as in Evaluation, with zero_right, whether the query alone is answered; "layers" (rule, layer); "lens" (layer,
    token, answer), the ids of the BEST tokens after each layer and whether an answer of the task begins with them.
    Tensors: "selection", the scores of the sweep on the n_selection prompts that choose the layers, [B, L] each.
    """
    lm, asked = checked_model(model, weights, dtype), get_task(task)
    settings = {"template": template, "queries_per_prefix": QUERIES_PER_PREFIX}
    test, *by_shots = (few_shot_prompts(asked, n, n_prompts, seed, **settings) for n in (n_demos, *shots))
    room = answer_room(lm, [test, *by_shots])
    for prompts in by_shots:
        prompt_tokens(lm, list(prompts.texts), room - 1)  # refused here, before anything runs
    found = evaluate(lm, asked, n_demos, [seed], n_prompts=n_prompts, n_selection=n_selection, **settings)
    alone = continue_greedily(lm, test.zero_shot_texts, shared=n_prompts, max_tokens=room).texts
    return {
        "shots": pd.concat([_icl(lm, p, room).assign(n_demos=n) for n, p in zip(shots, by_shots, strict=True)]),
        "answers": found.answers.drop(columns="demo_answers").assign(zero_right=_right(alone, test)),
        "layers": pd.DataFrame({"rule": list(found.layers), "layer": list(found.layers.values())}),
        "lens": lens(lm, asked, test),
        "selection": found.selection._asdict(),
    }


def lens(lm: LanguageModel, task: Task, prompts: Prompts) -> pd.DataFrame:
    """The BEST tokens of the prompts' mean vector after each layer, best first; columns as in `run`."""
    mean = capture(lm, list(prompts.vector_texts)).mean(0)  # [L, d], over sets of demonstrations
    best = unembed(lm, mean).topk(BEST).indices.tolist()  # [L, BEST]
    queries = [render(prompts.template, (), x) for x, _ in task.pairs]
    answers = answer_tokens(lm, queries, [completion(prompts.template, y) for _, y in task.pairs])
    first = {ids[0] for ids in answers}
    return pd.DataFrame(
        {"layer": layer, "token": token, "answer": token in first} for layer, row in enumerate(best) for token in row
    )


def verify(record: Record) -> list[Comparison]:
    """All but ICL at other numbers of demonstrations: the sweep, the answers at the recorded layers, the lens."""
    facts = record.parameters
    lm, asked = checked_model(facts["model"], facts["weights"], facts["dtype"]), get_task(facts["task"])
    settings = {"template": facts["template"], "queries_per_prefix": QUERIES_PER_PREFIX}
    test, held_out = (
        few_shot_prompts(asked, facts["n_demos"], facts[size], facts["seed"], pool=pool, **settings)
        for size, pool in (("n_prompts", "test"), ("n_selection", "selection"))
    )
    layers = record.table("layers").set_index("rule").layer.to_dict()
    before, [again] = record.table("answers"), test_answers(lm, [test], layers, answer_room(lm, [test]))
    few = answer_tolerance(facts["dtype"])
    compared = [
        Comparison(f"{method}: texts that are the same", len(before), (again[method] == before[method]).sum(), few)
        for method in ("icl", "vector")
    ]
    _, sweep = choose_layers(lm, held_out)
    log_probs = [part.mean().item() for part in (record.tensors("selection")["log_prob"], sweep.log_prob)]
    tokens = record.table("lens")
    same = (tokens.token == lens(lm, asked, test).token).sum()
    return [
        *compared,
        Comparison(
            "log-probability of selection answers, mean over layers", *log_probs, log_prob_tolerance(facts["dtype"])
        ),
        # Tokens that are nearly as likely change places from processor to processor.
        Comparison("tokens of the lens that are the same", len(tokens), same, 0.1),
    ]


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The table of the task's pairs."""
    return task_files(parameters["task"])


def _icl(lm: LanguageModel, prompts: Prompts, room: int) -> pd.DataFrame:
    texts = continue_greedily(lm, list(prompts.texts), shared=QUERIES_PER_PREFIX, max_tokens=room).texts
    return pd.DataFrame({"prefix": prompts.prefix, "group": prompts.groups, "right": _right(texts, prompts)})


def _right(texts: list[str], prompts: Prompts) -> list[bool]:
    return [text == answer for text, answer in zip(texts, prompts.answers, strict=True)]


FIRST_LOOK = Experiment("first_look", 1, run, verify, rests_on)
