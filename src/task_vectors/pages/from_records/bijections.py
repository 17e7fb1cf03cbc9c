"""What chapter 11 asks its records (experiment bijections): which mixtures of tasks ICL solves, and what one task
vector loses there of what it does for each direction alone, beyond what ICL loses."""

from collections.abc import Mapping, Sequence

import pandas as pd

from task_vectors.experiments.bijections import CYCLE_FORMS, HALF_FORMS, PARTNERS, read_evaluation
from task_vectors.lm.task_vector import begins_with_word
from task_vectors.measures.statistics import Estimate, mean_over_units
from task_vectors.records.store import Record
from task_vectors.tasks.catalog import FAMILIES

METHODS = {"icl": "ICL", "vector": "task vector"}
# How answers are counted; of those left when copies of the query are left out, and the copies themselves.
RULES = {"right": "exact line", "word": "first word", "uncopied": "copies left out", "copied": "copies"}
GATE = 0.6  # ICL accuracy in each part of a mixture from which it counts as solved
# The families whose tasks add an ending to an English word, which may be one thing to a model.
ENDINGS = ("comparison", "adverbs", "agent nouns", "verb forms", "number of nouns")

TWO_WAYS = ("X → Y", "Y → X")
STEPS = CYCLE_FORMS[1:]
# What a prompt of each part asks for, in each form. A union's second part is the inverse of the partner.
DIRECTIONS = {form: (form,) for form in (*TWO_WAYS, *STEPS)}
DIRECTIONS |= dict.fromkeys(("X ↔ Y", "union", HALF_FORMS[1]), TWO_WAYS)
DIRECTIONS |= {HALF_FORMS[0]: (TWO_WAYS[0],) * 2, CYCLE_FORMS[0]: STEPS}
KIND_OF = dict.fromkeys((*TWO_WAYS, *STEPS), "one way")
KIND_OF |= dict(zip(HALF_FORMS, ("same way in halves", "both ways in halves"), strict=True))
KIND_OF |= {"union": "union", "X ↔ Y": "bijection", CYCLE_FORMS[0]: "cycle"}
# The directions of a task that a mixture of each kind asks for, and so what it is compared with.
OF_KIND = {
    "same way in halves": TWO_WAYS[:1],
    "both ways in halves": TWO_WAYS,
    "union": TWO_WAYS,
    "bijection": TWO_WAYS,
    "cycle": STEPS,
}
# What was written: the first of these that fits.
COPY = "the query again"
WRITTEN = (
    "right",
    "right word, line goes on",
    COPY,
    "a demonstration's answer",
    "right word, other form",
    "other",
)


def read_answers(records: Sequence[Record]) -> pd.DataFrame:
    """A row for each test prompt, with the columns of Evaluation.answers and some more.

    base, form: what the record was asked. kind: that of the form. of, direction: the task and the direction of it that
    the prompt asks for. layer_right, layer_word: where the vector was put in. icl_kind, vector_kind: what was written,
    of WRITTEN. icl_copied, vector_copied: is it the query? icl_uncopied, vector_uncopied: right, or nan if copied.
    """
    answers = pd.concat(map(_read, records), ignore_index=True)
    for method in METHODS:
        told = zip(answers[method], answers["query"], answers.answer, answers.demo_answers, strict=True)
        answers[f"{method}_kind"] = [written(*row) for row in told]
        answers[f"{method}_copied"] = copied = answers[f"{method}_kind"] == COPY
        answers[f"{method}_uncopied"] = answers[f"{method}_right"].astype(float).mask(copied)
    return answers


def _read(record: Record) -> pd.DataFrame:
    evaluation, base, form = read_evaluation(record), record.parameters["task"], record.parameters["form"]
    layers = {f"layer_{rule}": layer for rule, layer in evaluation.layers.items()}
    parts = evaluation.answers.part
    return evaluation.answers.assign(
        base=base,
        form=form,
        kind=KIND_OF[form],
        of=parts.map({0: base, 1: PARTNERS[base]}) if form == "union" else base,
        direction=parts.map(dict(enumerate(DIRECTIONS[form]))),
        **layers,
    )


def written(text: str, query: str, answer: str, demo_answers: Sequence[str]) -> str:
    """What was written in answer to a query: the first kind of WRITTEN that fits.

    The right word in another form has at least three quarters of the answer's letters, from the first on.
    """
    if text == answer:
        return "right"
    if begins_with_word(text, answer):
        return "right word, line goes on"
    if begins_with_word(text, query):
        return COPY
    if any(begins_with_word(text, y) for y in demo_answers):
        return "a demonstration's answer"
    return "right word, other form" if common_letters(text, answer) >= 0.75 * len(answer) else "other"


def common_letters(a: str, b: str) -> int:
    """Letters that two words share from the first on, in either case."""
    a, b = a.casefold(), b.casefold()
    return next((i for i, (p, q) in enumerate(zip(a, b, strict=False)) if p != q), min(len(a), len(b)))


def by_part(answers: pd.DataFrame, method: str = "icl") -> pd.DataFrame:
    """Share of exact answers in each part (column) of each task and form (row); nan where a form has no such part."""
    shares = answers.groupby(["base", "form", "part"], sort=False)[f"{method}_right"].mean()
    return shares.unstack("part", sort=False).sort_index(axis=1)


def solved(answers: pd.DataFrame) -> pd.Series:
    """Is ICL right in a share of GATE at least in every part of this form of a task? A bool by (task, form)."""
    shares = by_part(answers)
    return (shares.ge(GATE) | shares.isna()).all(axis=1)


def of_solved(answers: pd.DataFrame, passing: pd.Series) -> pd.DataFrame:
    """The prompts that ask for one direction alone, and those of mixtures that are `passing` (as `solved` gives it)."""
    forms = pd.MultiIndex.from_frame(answers[["base", "form"]])
    return answers[(answers.kind == "one way") | passing.reindex(forms).to_numpy()]


def by_direction(answers: pd.DataFrame, passing: pd.Series, rule: str = "right") -> pd.DataFrame:
    """Accuracy by one of RULES of each direction, alone and in each kind of mixture that ICL solves.

    Rows (task, direction); columns (method, kind), where "one way" is the direction asked alone. nan where it was not
    asked, or the mixture is not `passing`.
    """
    counted = of_solved(answers, passing)
    asked = counted.groupby(["of", "direction", "kind"], sort=False)
    table = {}
    for method in METHODS:
        shares = asked[f"{method}_{rule}"].mean().unstack("kind")
        for kind in ("one way", *OF_KIND):
            table[method, kind] = shares[kind] if kind in shares else pd.Series(float("nan"), shares.index)
    return pd.DataFrame(table).rename_axis(["task", "direction"])


def level(table: pd.DataFrame, method: str, kind: str, alone: bool = False) -> pd.Series:
    """Accuracy by task in a kind of mixture, or of the same directions `alone`: the mean over the directions.

    table: that of `by_direction`. A task that lacks one of the directions, in the mixture or alone, is left out.
    """
    both = table[[(method, "one way"), (method, kind)]].dropna()
    shares = both[method, "one way" if alone else kind].unstack("direction")
    return shares.reindex(columns=list(OF_KIND[kind])).mean(axis=1, skipna=False).dropna()


def drop(table: pd.DataFrame, method: str, kind: str) -> pd.Series:
    """What each task loses from its directions alone to a kind of mixture."""
    return level(table, method, kind, alone=True) - level(table, method, kind)


def excess(table: pd.DataFrame, kind: str) -> pd.Series:
    """By how much the vector's drop exceeds that of ICL."""
    return drop(table, "vector", kind) - drop(table, "icl", kind)


def effects(table: pd.DataFrame) -> dict[str, pd.Series]:
    """What the chapter's findings are means of, by task; the tasks that have both sides of a difference.

    excess: on bijections. beyond, apart: this less the excess on unions, and on both ways in halves. halves: the excess
    on the same way in halves. cycles: that on cycles of three less that on unions.
    """
    by_kind = {kind: excess(table, kind) for kind in OF_KIND}
    return {
        "excess": by_kind["bijection"],
        "beyond": (by_kind["bijection"] - by_kind["union"]).dropna(),
        "apart": (by_kind["bijection"] - by_kind["both ways in halves"]).dropna(),
        "halves": by_kind["same way in halves"],
        "cycles": (by_kind["cycle"] - by_kind["union"]).dropna(),
    }


def by_family(values: pd.Series, families: Mapping[str, str] = FAMILIES) -> pd.Series:
    """The mean of each family over its tasks."""
    return values.groupby(families).mean()


def over_families(values: pd.Series, families: Mapping[str, str] = FAMILIES) -> Estimate:
    """Mean of what is given by task, with the family as the unit."""
    return mean_over_units(by_family(values, families))


def too_few(values: pd.Series) -> str:
    """Why nothing can be asked of an effect: ICL solves what it compares in fewer than three families; or ""."""
    families = by_family(values).count()
    return "" if families >= 3 else f"below the gate in all families{f' but {families}' if families else ''}"


def follows(answers: pd.DataFrame, kind: str) -> pd.Series:
    """By how much more a task's vector is right where it was read at a query of the part that is asked, not the other.

    In a kind of mixture with two parts; the mean over the parts.
    """
    asked = answers[answers.kind == kind]
    same = (asked.part == asked.vector_part).rename("same")
    shares = asked.groupby(["base", "part", same]).vector_right.mean().unstack("same").reindex(columns=[False, True])
    return (shares[True] - shares[False]).groupby("base").mean()
