"""What changes with a model's size: one-way tasks (experiment first_look), bijections, and bitwise arithmetic
(experiment prediction), by model."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from task_vectors.measures.prompt_surface import surface_features, surface_votes
from task_vectors.measures.statistics import Estimate, mean_over_groups, mean_over_units
from task_vectors.measures.td_and_accuracy import relation, resampled
from task_vectors.pages.findings import Rule, verdict
from task_vectors.pages.from_records.bijection_tables import published as published_bijections
from task_vectors.pages.from_records.bijection_tables import published_excess
from task_vectors.pages.from_records.bijections import GATE, TWO_WAYS, by_family, by_part, over_families, solved
from task_vectors.pages.from_records.families import outcomes
from task_vectors.pages.from_records.first_look import layers
from task_vectors.pages.from_records.td_of_families import at_layer, published_by_task, published_r2, with_intervals
from task_vectors.pages.names import readable
from task_vectors.paths import project_root
from task_vectors.prompts.families import family_prompts
from task_vectors.records.store import Record
from task_vectors.tasks.catalog import FAMILIES, INVERSES, get_task, list_tasks
from task_vectors.tasks.families.catalog import get_family

TEMPLATE = "Example:{x} → {y}"
LOOK = {"n_demos": 10, "shots": [0, 1, 3, 10], "n_prompts": 24, "n_selection": 12, "seed": 0, "template": TEMPLATE}
BOTH = {"seeds": [0, 1, 2], "n_prompts": 32, "n_selection": 24, "template": TEMPLATE}

CATEGORIES = ("knowledge", "algorithmic", "translation", "linguistic", "bijection")  # the paper's 33 tasks
OF_PAPER = tuple(name for category in CATEGORIES for name in list_tasks(category))
ONE_WAY = tuple(name for category in CATEGORIES[:-1] for name in list_tasks(category))
# The families of one-way tasks that have no inverse in the catalog; elsewhere a task and its inverse are of one.
OTHER_FAMILIES = {"list_first": "lists", "list_last": "lists", "next_letter": FAMILIES["to_upper"]}
FAMILY = {name: (FAMILIES | OTHER_FAMILIES).get(INVERSES.get(name, name), name) for name in ONE_WAY}

FLOOR = 0.2  # accuracy that a vector must reach for its layer to say where it works
OPERATORS = 4  # of the six that a model must do for TD of bitwise arithmetic to be about doing them
# How answers are counted in the figure of categories; ICL hardly ever writes the right word and goes on.
WAYS = {"icl_right": "ICL", "vector_right": "task vector, exact line", "vector_word": "task vector, first word"}
PRINTED_WAYS = {"icl": "icl_right", "vector": "vector_word"}
COMPARED = {
    "icl_right": "ICL, one-way tasks",
    "share": "share of ICL in one vector",
    "share_word": "the same, first word",
    "depth": "depth of the layer",
}
BOTH_WAYS = "both ways"
PUBLISHED = "7B+"  # the sizes of the models whose published values stand in the overview
PUBLISHED_BITWISE = "Llama-3.1-8B (published)"
# What the overview asks, and what its cells say: how many tasks ICL does, or what was found where they are enough.
ONE_WAY_DONE, GAIN = "One-way tasks|that ICL does", "a vector raises|accuracy by"
SHARE, SHARE_WORD = "it carries, of|ICL's accuracy", "the same,|by first words"
BOTH_DONE, EXCESS = "Bijections done|both ways", "vector loses more|than ICL, by"
BITWISE_DONE, MAPPING, SURFACE = "Bitwise operators|done", "TD above that of|permuted, by", "TD above the|surface, by"
QUESTIONS = (ONE_WAY_DONE, GAIN, SHARE, SHARE_WORD, " ", BOTH_DONE, EXCESS, "  ", BITWISE_DONE, MAPPING, SURFACE)
DONE, NOT_ASKED, PRINTED = "done by ICL", "not to be asked", "published"


def size(model: str) -> str:
    """The end of a model's name, which tells its size: "1.5B"."""
    return model.rsplit("-", 1)[-1].upper()


def looks(records: Sequence[Record]) -> pd.DataFrame:
    """A row for each model and task: accuracies by method and rule, and what they are compared by.

    zero: accuracy of the query alone. layer: where the vector was put in. Where ICL is right in GATE of the prompts
    (`followed`): gain, the vector's accuracy over `zero`; share, of ICL's accuracy that the vector has; and depth, the
    share of the layers up to `layer`, if the vector is right on FLOOR there. share_word: share, by the looser rule.
    """
    rows = []
    for record in records:
        answers, task, at = record.table("answers"), record.parameters["task"], layers(record)["right"]
        row = {"model": record.parameters["model"], "task": task, "category": get_task(task).category}
        row |= {way: answers[way].mean() for way in (*WAYS, "icl_word")}
        n_layers = record.tensors("selection")["exact"].shape[1]
        rows.append(row | {"zero": answers.zero_right.mean(), "layer": at, "depth": (at + 1) / n_layers})
    table = pd.DataFrame(rows)
    table["followed"] = followed = table.icl_right >= GATE
    table["gain"] = (table.vector_right - table.zero).where(followed)
    table["share"] = (table.vector_right / table.icl_right).where(followed)
    table["share_word"] = (table.vector_word / table.icl_word).where(table.icl_word >= GATE)
    table["depth"] = table.depth.where(followed & (table.vector_right >= FLOOR))
    return table


def of_model(table: pd.DataFrame, model: str, column: str) -> pd.Series:
    """A column of `looks` for one model's one-way tasks, by task; those that have no value are left out."""
    mine = table[(table.model == model) & table.task.isin(ONE_WAY)]
    return mine.set_index("task")[column].dropna()


def change(table: pd.DataFrame, column: str, smaller: str, larger: str) -> pd.Series:
    """What a task has more in the larger model, for those that both have a value of."""
    return (of_model(table, larger, column) - of_model(table, smaller, column)).dropna()


def over_tasks(values: pd.Series) -> Estimate:
    """Mean of values by one-way task, with the family as the unit."""
    return over_families(values, FAMILY)


def too_few(values: pd.Series, families: Mapping[str, str] = FAMILY) -> str:
    """Why nothing can be asked, if there are values of fewer than three families; or ""."""
    count = by_family(values, families).count()
    return "" if count >= 3 else f"below the gate in all families{f' but {count}' if count else ''}"


def compared(table: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """What the larger of two models has more, a row for each pair; and for the findings of sizes, counted otherwise."""
    rows = {}
    for smaller, larger in pairs:
        found = {label: change(table, name, smaller, larger) for name, label in COMPARED.items()}
        texts = {label: str(over_tasks(values)) for label, values in found.items()}
        rows[f"{size(smaller)} → {size(larger)}"] = texts | {"tasks that both do": len(found[COMPARED["share"]])}
    return pd.DataFrame.from_dict(rows, orient="index")


def depths(table: pd.DataFrame) -> pd.DataFrame:
    """Points of a figure: of each place (tasks, depth), and the mean over families, which has low and high."""
    rows = []
    for model in dict.fromkeys(table.model):
        values, place = of_model(table, model, "depth"), size(model)
        rows += [{"place": place, "depth": depth, "tasks": count} for depth, count in values.value_counts().items()]
        found = over_tasks(values)
        rows.append({"place": place, "depth": found.mean, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def by_category(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in WAYS by category and model, mean, low and high over tasks; and as published, which has no interval.

    place: the size, or the model's name if published.
    """
    rows = []
    for (category, model), mine in table.groupby(["category", "model"], sort=False):
        for way, label in WAYS.items():
            found = mean_over_units(mine[way])
            row = {"category": category, "place": size(model), "way": label, "model": model, "tasks": len(mine)}
            rows.append(row | {"mean": found.mean, "low": max(found.low, 0), "high": min(found.high, 1)})
    for (model, category), shares in published_methods().iterrows():
        row = {"category": category, "place": model, "model": "published"}
        rows += [row | {"way": WAYS[way], "mean": shares[method]} for method, way in PRINTED_WAYS.items()]
    return pd.DataFrame(rows)


def published_methods() -> pd.DataFrame:
    """Published accuracy by model and category: icl, at four demonstrations; vector, and alone, without it, at none."""
    table = pd.read_csv(project_root() / "data/published/dong2026_methods.csv")
    table = table.assign(category=table.category.str.lower(), share=table.accuracy / 100)
    table = table[table.category.isin(CATEGORIES)]
    asked = {"icl": "method == 'Baseline' and shots == 4", "vector": "method == 'TaskV' and shots == 0"}
    asked["alone"] = "method == 'Baseline' and shots == 0"
    keys = ["model", "category"]
    return pd.DataFrame({name: table.query(rows).groupby(keys).share.mean() for name, rows in asked.items()})


def published_gain() -> float:
    """By how much a vector raises the published accuracy of one-way tasks without demonstrations."""
    table = published_methods().drop("bijection", level="category")
    return float((table.vector - table.alone).mean())


def every_task(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of ICL and of the vector, and its layer, of each task (row) by model: the tasks in their categories."""
    shown = pd.DataFrame(
        {
            "ICL": table.icl_right.map("{:.2f}".format),
            "vector": table.vector_right.map("{:.2f}".format),
            "first word": table.vector_word.map("{:.2f}".format),
            "layer": table.layer,
        }
    )
    shown = shown.set_index([table.category, table.task.map(readable), table.model.map(size)])
    wide = shown.unstack("model", sort=False).swaplevel(axis=1)
    order = [(size(model), name) for model in dict.fromkeys(table.model) for name in shown.columns]
    return wide[order].rename_axis(index=["category", "task"], columns=["", ""])


def short(value: float) -> str:
    """Two digits in as little room as there is on a phone."""
    return f"{value:.2f}".replace("0.", ".", 1)


def done(model: str, question: str, count: int, of: int) -> dict[str, object]:
    """A cell of the overview: how many of the tasks of a question ICL does."""
    row = {"place": size(model), "question": question, "text": str(count), "outcome": DONE}
    return row | {"share": count / of, "about": f"{count} of {of} tasks"}


def judged(model: str, question: str, found: Estimate, rule: Rule, undecided: str) -> dict[str, object]:
    """A cell of the overview: what came out, by the book's rule; undecided: why it cannot be asked, or ""."""
    word, reason = verdict(found, rule, undecided=undecided)
    row = {"place": size(model), "question": question, "text": short(found.mean), "outcome": word, "share": 1.0}
    return row | ({"text": "–", "outcome": NOT_ASKED, "about": reason} if undecided else {"about": f"{found}: {word}"})


def published_cells() -> list[dict[str, object]]:
    """The overview's cells of the papers' models: mean accuracies of ICL, and the effects that are published."""
    methods = published_methods().drop("bijection", level="category")
    points = published_by_task().query("family == 'bitwise arithmetic' and demonstrations == 4")
    values = {
        ONE_WAY_DONE: (methods.icl.mean(), "ICL, mean accuracy at 4 demonstrations, Llama-13B and Pythia-12B"),
        GAIN: (published_gain(), "Llama-13B and Pythia-12B"),
        SHARE_WORD: ((methods.vector / methods.icl).mean(), "Llama-13B and Pythia-12B"),
        BOTH_DONE: (published_bijections()["icl", "bijection"].mean(), "ICL, mean accuracy, Llama-7B"),
        EXCESS: (published_excess(), "Llama-7B"),
        BITWISE_DONE: (points.accuracy.mean(), "ICL, mean accuracy at 4 demonstrations, Llama 3.1 8B"),
    }
    row = {"place": PUBLISHED, "outcome": PRINTED, "share": 1.0}
    return [
        row | {"question": question, "text": short(value), "about": about}
        for question, (value, about) in values.items()
    ]


def both_ways(answers: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """ICL on each X ↔ Y, a row for each model and task: accuracy by direction and in the worse one, and the outcome.

    answers: as `read_answers` has them, by model.
    """
    rows = []
    for model, every in answers.items():
        mine = every[every.kind == "bijection"]
        found = by_part(mine).set_axis(list(TWO_WAYS), axis=1).droplevel("form")
        outcome = solved(mine).droplevel("form").map({True: BOTH_WAYS, False: "not both ways"})
        found = found.assign(model=model, place=size(model), worse=found.min(axis=1), outcome=outcome)
        rows.append(found.rename_axis("base").reset_index())
    table = pd.concat(rows, ignore_index=True)
    return table.assign(task=table.base.map(readable))


def operators(record: Record) -> pd.DataFrame:
    """Accuracy of each operator, and that of its most frequent answer always given, on a record of the test prompts.

    beats: is the interval of their difference, over prompts, above 0?
    """
    facts = record.parameters
    family = get_family(facts["family"], facts["options"])
    prompts = family_prompts(family, facts["n_demos"], facts["n_prompts"], facts["seed"])
    right = outcomes(record).right
    answers = np.array(prompts.completions).reshape(right.shape)  # [K, B]
    rows = []
    for operator, mine, told in zip(family.tasks[:-1], right, answers, strict=False):  # the last one is Null
        constant = told == pd.Series(told).mode()[0]
        more = mean_over_groups(mine.astype(float) - constant)
        row = {"model": facts["model"], "operator": operator, "demonstrations": facts["n_demos"]}
        rows.append(row | {"accuracy": mine.mean(), "constant": constant.mean(), "beats": more.low > 0})
    return pd.DataFrame(rows)


def operator_points(table: pd.DataFrame) -> pd.DataFrame:
    """Points of a figure: place, operator, what (a number of demonstrations, or the constant answer), accuracy.

    With those of the published model, at the same numbers of demonstrations.
    """
    shown = table.assign(place=table.model.map(size))
    constant = shown.drop_duplicates(["model", "operator"])
    constant = constant.assign(what="constant answer", accuracy=constant.constant)
    theirs = published_by_task().rename(columns={"task": "operator", "model": "place"})
    theirs = theirs[theirs.operator.isin(table.operator) & theirs.demonstrations.isin(table.demonstrations)]
    counted = pd.concat([shown, theirs])
    counted = counted.assign(what=counted.demonstrations.map("{} demonstrations".format))
    return pd.concat([counted, constant])[["place", "operator", "what", "accuracy"]]


def decodability(plain: Record, permuted: Record, layer: int) -> dict[str, np.ndarray]:
    """Is each prompt's operator named, [6, B]: by the states after a layer, by those of prompts whose answers changed
    places, and by the surface (counts of ones), in the better of its two ways."""
    facts = plain.parameters
    family = get_family(facts["family"], facts["options"])
    prompts = family_prompts(family, facts["n_demos"], facts["n_prompts"], facts["seed"])
    votes = surface_votes(surface_features(facts["family"], prompts), prompts.labels, prompts.groups)
    states, mixed = (outcomes(record).named[:-1, :, layer].astype(float) for record in (plain, permuted))
    told = [(vote == prompts.labels).double().numpy().reshape(-1, facts["n_prompts"])[:-1] for vote in votes.values()]
    return {"states": states, "permuted": mixed, "surface": max(told, key=np.mean)}


def fits(runs: Mapping[str, Sequence[Record]], layers: Mapping[str, int]) -> pd.DataFrame:
    """R² of a line through TD and accuracy over operators and numbers of demonstrations, by place; and as published.

    runs: a record for each number of demonstrations, by model. low, high: over other operators and prompts.
    """
    rows = []
    for model, records in runs.items():
        named, right = at_layer(records, layers[model])
        found = relation(named.mean(-1), right.mean(-1))
        estimate = with_intervals(found, resampled(named, right, "both"))["R²"]
        rows.append({"place": size(model), "r2": estimate.mean, "low": estimate.low, "high": estimate.high})
    theirs = published_r2().query("family == 'bitwise arithmetic'").rename(columns={"model": "place"})
    return pd.concat([pd.DataFrame(rows), theirs[["place", "r2"]]], ignore_index=True)
