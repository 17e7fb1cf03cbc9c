"""What chapter 11 asks its records (experiment bijections): accuracies by task and kind, and what a task vector loses
from one way to both ways, beyond what ICL loses and beyond what mixing two unrelated tasks costs."""

from collections.abc import Sequence

import pandas as pd

from task_vectors.experiments.bijections import CYCLE_FORMS, HALF_FORMS, read_evaluation
from task_vectors.lm.task_vector import begins_with_word
from task_vectors.measures.statistics import Estimate, clustered_mean
from task_vectors.records.store import Record

METHODS = {"icl": "ICL", "vector": "task vector"}
KINDS = ("one way", "union", "bijection")
KIND_OF = {"X → Y": "one way", "Y → X": "one way", "union": "union", "X ↔ Y": "bijection"}
KIND_OF |= dict(zip(HALF_FORMS, ("same way in halves", "both ways in halves"), strict=True))
KIND_OF |= dict(zip(CYCLE_FORMS, ("cycle", *["step of a cycle"] * 3), strict=True))
EXCEPTIONS = ("copy", "antonym")  # identity and a kind of negation, which are their own inverses
ENOUGH = 10  # prompts that ICL solves, for an accuracy on them
GATE = 0.6  # ICL accuracy in each direction from which a bijection counts as solved
PASS = {"icl": 0.8, "vector": 0.7}  # accuracies from which a single vector counts as doing a task that ICL does
# What was written: the first of these that fits.
WRITTEN = (
    "right",
    "right word, line goes on",
    "the query again",
    "a demonstration's answer",
    "right word, other form",
    "other",
)


def read_answers(records: Sequence[Record]) -> pd.DataFrame:
    """A row for each test prompt, with the columns of Evaluation.answers and some more.

    base, form: what the record was asked; kind: that of KIND_OF, or "exception". demonstrations: a set of them, over
    seeds. layer_right, layer_word: where the vector was put in. icl_kind, vector_kind: what was written, of WRITTEN.
    """
    tables = []
    for record in records:
        evaluation, base, form = read_evaluation(record), record.parameters["task"], record.parameters["form"]
        kind = "exception" if base in EXCEPTIONS else KIND_OF[form]
        chosen = {f"layer_{rule}": layer for rule, layer in evaluation.layers.items()}
        tables.append(evaluation.answers.assign(base=base, form=form, kind=kind, **chosen))
    answers = pd.concat(tables, ignore_index=True)
    answers["demonstrations"] = answers.seed.astype(str) + "/" + answers.prefix.astype(str)
    for method in METHODS:
        told = zip(answers[method], answers["query"], answers.answer, answers.demo_answers, strict=True)
        answers[f"{method}_kind"] = [written(*row) for row in told]
    return answers


def written(text: str, query: str, answer: str, demo_answers: Sequence[str]) -> str:
    """What was written in answer to a query: the first kind of WRITTEN that fits.

    The right word in another form has at least three quarters of the answer's letters, from the first on.
    """
    if text == answer:
        return "right"
    if begins_with_word(text, answer):
        return "right word, line goes on"
    if begins_with_word(text, query):
        return "the query again"
    if any(begins_with_word(text, y) for y in demo_answers):
        return "a demonstration's answer"
    return "right word, other form" if common_letters(text, answer) >= 0.75 * len(answer) else "other"


def common_letters(a: str, b: str) -> int:
    """Letters that two words share from the first on, in either case."""
    a, b = a.casefold(), b.casefold()
    return next((i for i, (p, q) in enumerate(zip(a, b, strict=False)) if p != q), min(len(a), len(b)))


def accuracy(rows: pd.DataFrame, method: str, rule: str = "right") -> Estimate:
    """Share of right answers; its interval resamples sets of demonstrations and pairs."""
    return clustered_mean(rows[f"{method}_{rule}"], rows.demonstrations, rows.group)


def accuracies(answers: pd.DataFrame, rule: str = "right", *, solved: bool = False) -> pd.DataFrame:
    """Accuracy of each task (index) by (method, kind).

    solved: only on prompts that ICL answers right by the same rule; nan where there are fewer than ENOUGH.
    """
    asked = answers[answers.kind.isin(KINDS)]
    bases = asked.base.unique()
    if solved:
        asked = asked[asked[f"icl_{rule}"]]
    table = {}
    for method in METHODS:
        for kind in KINDS:
            groups = asked[asked.kind == kind].groupby("base")[f"{method}_{rule}"]
            table[method, kind] = groups.mean().where((groups.size() >= ENOUGH) | (not solved))
    return pd.DataFrame(table).reindex(bases)


def drop(table: pd.DataFrame, method: str, kind: str) -> pd.Series:
    """Accuracy one way less accuracy in `kind`, for each task of `accuracies`."""
    return table[method, "one way"] - table[method, kind]


def excess(table: pd.DataFrame, kind: str) -> pd.Series:
    """By how much the vector's drop exceeds that of ICL."""
    return drop(table, "vector", kind) - drop(table, "icl", kind)


def effects(answers: pd.DataFrame, rule: str = "right") -> dict[str, pd.Series]:
    """What the chapter's findings are means of, by task.

    excess: the vector's excess drop on bijections. solved: its drop on prompts that ICL solves. beyond, beyond_solved:
    both less the same on unions, which Proposition 4 does not speak of.
    """
    everything, solved = accuracies(answers, rule), accuracies(answers, rule, solved=True)
    lost = {kind: drop(solved, "vector", kind) for kind in ("union", "bijection")}
    return {
        "excess": excess(everything, "bijection"),
        "solved": lost["bijection"],
        "beyond": excess(everything, "bijection") - excess(everything, "union"),
        "beyond_solved": lost["bijection"] - lost["union"],
    }


def by_direction(answers: pd.DataFrame) -> pd.DataFrame:
    """ICL accuracy of each task's X ↔ Y, in each direction, and whether both reach the GATE."""
    both = answers[answers.kind == "bijection"]
    table = both.pivot_table(index="base", columns="part", values="icl_right", sort=False)
    table = table.rename(columns={0: "X → Y", 1: "Y → X"})[["X → Y", "Y → X"]].rename_axis(columns=None)
    return table.assign(passes=(table >= GATE).all(axis=1))


def copied(answers: pd.DataFrame) -> pd.DataFrame:
    """Share of prompts in answer to which a method writes the query again: (task, form) by (method, part).

    Copying is what Proposition 4 permits a single vector on a bijection, so it is no plain error there.
    """
    again = pd.DataFrame({method: answers[f"{method}_kind"] == "the query again" for method in METHODS})
    shares = again.groupby([answers[name] for name in ("base", "form", "part")], sort=False).mean()
    return shares.unstack("part", sort=False).sort_index(axis=1)


def below_gate(answers: pd.DataFrame, effect: pd.Series) -> str:
    """Why nothing can be asked of an effect on prompts that ICL solves: its tasks are not solved both ways; or "".

    Where one direction is solved and the other is not, what ICL solves of a bijection is a one-way task.
    """
    passes = by_direction(answers).passes[effect.dropna().index]
    if passes.all():
        return ""
    return f"ICL reaches {GATE:.2f} in both directions in {passes.sum()} of {len(passes)} tasks"
