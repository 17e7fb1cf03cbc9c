"""What is recorded of a language model on bijections: ICL against its task vector, on a task in some form."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from task_vectors.lm.interventions import SweepScores
from task_vectors.lm.pinned_weights import answer_tolerance, checked_model, log_prob_tolerance
from task_vectors.lm.task_vector import RULES, Evaluation, answer_room, choose_layers, evaluate, test_answers
from task_vectors.prompts.few_shot import Prompts, few_shot_prompts
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.tasks.catalog import get_task, task_files
from task_vectors.tasks.permutations import cycle, cycle_steps, halves
from task_vectors.tasks.task import Task, bijection, union

FORMS = ("X → Y", "Y → X", "X ↔ Y", "union")
# Unions of two halves of a task's pairs: twice the same way, and both ways, so that no word is both asked and answered.
HALF_FORMS = ("X → Y + X → Y", "X → Y + Y → X")
# A permutation of order 3, and its steps one by one, on the same words.
CYCLE_FORMS = ("X → Y → Z → X", "X → Y of three", "Y → Z of three", "Z → X of three")
# In a union a task meets the inverse of an unrelated one, so that each one-way task takes part in exactly one union.
# Partners are alike in whether the largest model, from the full prompt, follows them both ways: a union can be asked
# about only where it follows both.
PARTNERS = {
    "to_upper": "singular_to_plural",
    "english_to_french": "present_to_gerund",
    "english_to_italian": "present_to_past",
    "english_to_spanish": "present_to_past_perfect",
    "country_to_capital": "element_to_symbol",
    "state_to_code": "verb_to_agent",
    "country_to_nationality": "adjective_to_adverb",
    "number_to_digits": "adjective_to_comparative",
    "male_to_female": "number_to_ordinal",
    "number_to_roman": "adjective_to_superlative",
}
PARTNERS |= {b: a for a, b in PARTNERS.items()}
# The task X → Z that makes a cycle with X → Y.
THIRDS = {
    "number_to_digits": "number_to_roman",
    "number_to_ordinal": "number_to_digits",
    "adjective_to_comparative": "adjective_to_superlative",
    "country_to_capital": "country_to_nationality",
    "english_to_french": "english_to_spanish",
    "present_to_gerund": "present_to_past",
}
QUERIES_PER_PREFIX = 4
CHECK_PROMPTS = QUERIES_PER_PREFIX  # one set of demonstrations
SEPARATOR = "\t"  # between the answers of a prompt's demonstrations, in the table's file


def in_form(name: str, form: str) -> Task:
    """The task called `name` as it is, the other way, both ways at once, in union with its partner's inverse, in two
    halves, or with its third in a cycle or one of its steps.

    Raises:
        ValueError: there is no such form, or the task has none.
    """
    task = get_task(name)
    if form == "X → Y":
        return task
    if form == "Y → X":
        return task.inverse()
    if form == "X ↔ Y":
        return bijection(task)
    if form in HALF_FORMS:
        one, other = halves(task)
        return union(one, other if form == "X → Y + X → Y" else other.inverse())
    others = other_tables(form)
    if not others:
        raise ValueError(f"unknown form {form!r}: choose one of {', '.join((*FORMS, *HALF_FORMS, *CYCLE_FORMS))}")
    if name not in others:
        what = "partner for a union" if form == "union" else "third for a cycle"
        raise ValueError(f"{name} has no {what}: choose one of {', '.join(others)}")
    other = get_task(others[name])
    if form == "union":
        return union(task, other.inverse())
    return (cycle(task, other), *cycle_steps(task, other))[CYCLE_FORMS.index(form)]


def other_tables(form: str) -> dict[str, str]:
    """For each task that has this form, the second task that the form needs; empty where it needs none."""
    return PARTNERS if form == "union" else THIRDS if form in CYCLE_FORMS else {}


def run(
    *,
    model: str,
    weights: str,
    dtype: str,
    task: str,
    form: str,
    n_demos: int,
    seeds: Sequence[int],
    n_prompts: int,
    n_selection: int,
    template: str,
) -> dict[str, object]:
    """ICL and the task vector on a task in one form: `evaluate`, with the weights that `weights_id` names.

    Tables: "answers" (as in Evaluation; demo_answers joined by SEPARATOR) and "layers" (rule, layer). Tensors:
    "selection", the scores of the sweep on the selection prompts, [B, L] each.
    """
    asked = in_form(task, form)
    found = evaluate(
        checked_model(model, weights, dtype),
        asked,
        n_demos,
        seeds,
        n_prompts=n_prompts,
        n_selection=n_selection,
        queries_per_prefix=QUERIES_PER_PREFIX,
        template=template,
    )
    layers = pd.DataFrame({"rule": list(found.layers), "layer": list(found.layers.values())})
    joined = found.answers.assign(demo_answers=found.answers["demo_answers"].map(_join))
    return {"answers": joined, "layers": layers, "selection": found.selection._asdict()}


def read_evaluation(record: Record) -> Evaluation:
    """The Evaluation as it was computed."""
    answers, layers = record.table("answers"), record.table("layers")
    split = answers["demo_answers"].map(lambda text: tuple(text.split(SEPARATOR)) if text else ())
    return Evaluation(
        answers.assign(demo_answers=split),
        SweepScores(**record.tensors("selection")),
        dict(zip(layers["rule"], layers["layer"].tolist(), strict=True)),
    )


def verify(record: Record) -> list[Comparison]:
    """The answers to the first prompts of the first seed at the recorded layers, and a part of the sweep."""
    facts, recorded = record.parameters, read_evaluation(record)
    lm = checked_model(facts["model"], facts["weights"], facts["dtype"])
    task, n_demos = in_form(facts["task"], facts["form"]), facts["n_demos"]
    settings = {"template": facts["template"], "queries_per_prefix": QUERIES_PER_PREFIX}
    samples = [few_shot_prompts(task, n_demos, facts["n_prompts"], seed, **settings) for seed in facts["seeds"]]
    room = answer_room(lm, samples)
    [again] = test_answers(lm, [_beginning(samples[0])], recorded.layers, room)
    before = recorded.answers.iloc[:CHECK_PROMPTS]
    compared, few = [], answer_tolerance(facts["dtype"])
    for method in ("icl", "vector"):
        same = (again[method] == before[method]).sum()
        compared.append(Comparison(f"{method}: texts that are the same", len(before), same, few))
        for rule in RULES:
            column = f"{method}_{rule}"
            same = (again[column] == before[column]).sum()
            compared.append(Comparison(f"{column}: verdicts that are the same", len(before), same, few))
    held_out = few_shot_prompts(task, n_demos, facts["n_selection"], facts["seeds"][0], pool="selection", **settings)
    _, scores = choose_layers(lm, _beginning(held_out))
    log_probs = [part.log_prob[:CHECK_PROMPTS].mean().item() for part in (recorded.selection, scores)]
    what = "log-probability of selection answers, mean over layers"
    return [*compared, Comparison(what, *log_probs, log_prob_tolerance(facts["dtype"]))]


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The tables of the task's pairs, and of the second task's in a union or a cycle."""
    task = parameters["task"]
    return task_files(task, other_tables(parameters["form"]).get(task, task))


def _beginning(prompts: Prompts) -> Prompts:
    """The prompts of the first set of demonstrations."""
    per_prompt = ("texts", "queries", "answers", "demos", "prefix", "groups", "parts")
    per_prefix = ("vector_texts", "vector_pairs", "vector_parts")
    first = {name: getattr(prompts, name)[:CHECK_PROMPTS] for name in per_prompt}
    return replace(prompts, **first, **{name: getattr(prompts, name)[:1] for name in per_prefix})


def _join(answers: tuple[str, ...]) -> str:
    if any(SEPARATOR in answer for answer in answers):
        raise ValueError(f"an answer of the demonstrations holds {SEPARATOR!r}, which separates them: {answers}")
    return SEPARATOR.join(answers)


BOTH_WAYS = Experiment("bijections", 1, run, verify, rests_on)
