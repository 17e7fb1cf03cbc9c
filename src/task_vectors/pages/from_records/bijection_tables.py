"""The tables of chapter 11, and the published values that stand beside them (Dong et al. 2026, Table 1)."""

from collections.abc import Sequence
from itertools import product

import pandas as pd

from task_vectors.pages.from_records.bijections import (
    ENDINGS,
    METHODS,
    OF_KIND,
    RULES,
    TWO_WAYS,
    WRITTEN,
    by_direction,
    by_family,
    by_part,
    drop,
    effects,
    excess,
    level,
    of_solved,
    over_families,
    solved,
)
from task_vectors.pages.names import readable
from task_vectors.paths import project_root
from task_vectors.tasks.catalog import FAMILIES

EFFECTS = {
    "excess": "A bijection costs the vector more than ICL",
    "beyond": "Beyond ICL, a bijection costs more than a union",
    "apart": "Beyond ICL, a bijection costs more than both ways in halves",
    "halves": "Two halves of one task cost the vector what they cost ICL",
    "cycles": "Beyond ICL, a cycle of three costs more than a union",
}
VARIED = ("excess", "beyond", "apart")
KINDS = ("one way", "both ways in halves", "union", "bijection")  # from left to right in the figures
READ_AT = ("ICL", "vector read at X → Y", "vector read at Y → X")
PUBLISHED_ROWS = {  # our task → the task and the domain of Y in the paper's Table 1
    "to_upper": ("To Upper", "uppercase letters"),
    "english_to_french": ("Translation", "French"),
    "english_to_italian": ("Translation", "Italian"),
    "english_to_spanish": ("Translation", "Spanish"),
    "present_to_gerund": ("Linguistic", "Gerund"),
    "present_to_past": ("Linguistic", "Past"),
    "present_to_past_perfect": ("Linguistic", "Past Perfect"),
    "singular_to_plural": ("Linguistic", "Plural"),
}


def published() -> pd.DataFrame:
    """Published accuracy of the paper's own tasks (index) by (method, kind): one way (mean of both), and bijection."""
    table = pd.read_csv(project_root() / "data/published/dong2026_table1.csv").set_index(["task", "domain_y"])
    rows = table.loc[list(PUBLISHED_ROWS.values())].set_axis(list(PUBLISHED_ROWS))
    columns = {}
    for method, key in (("icl", "icl"), ("vector", "tv")):
        columns[method, "one way"] = (rows[f"{key}_xy"] + rows[f"{key}_yx"]) / 2
        columns[method, "bijection"] = rows[f"{key}_bijection"]
    return pd.DataFrame(columns)


def published_excess() -> float:
    """By how much the vector's drop exceeds that of ICL in Table 1, the mean of its tasks."""
    table = published()
    lost = {method: table[method, "one way"] - table[method, "bijection"] for method in METHODS}
    return (lost["vector"] - lost["icl"]).mean()


def gate(answers: pd.DataFrame) -> pd.DataFrame:
    """ICL in each direction of each task's X ↔ Y, a row for each: the points of a figure."""
    both = answers[answers.kind == "bijection"]
    shares = by_part(both).set_axis(list(TWO_WAYS), axis=1).rename_axis(columns="direction").droplevel("form")
    rows = shares.stack().rename("accuracy").reset_index()
    return rows.assign(task=rows.base.map(readable), family=rows.base.map(FAMILIES))


def by_form(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in each part of every form that was asked, by method, and whether ICL solves it."""
    parts = {label: by_part(answers, method) for method, label in METHODS.items()}
    table = pd.concat(parts, axis=1).map("{:.2f}".format).replace("nan", "")
    table["", "solved"] = solved(answers).map({True: "✓", False: "–"})
    return table.rename(index=readable, level="base").rename_axis(index=["task", "form"], columns=[None, "part"])


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """What each kind of mixture costs: a row a kind, means over families; table: that of `by_direction`."""
    rows = {}
    for kind in OF_KIND:
        beyond = excess(table, kind)
        rows[kind] = {
            "Drop of ICL": f"{over_families(drop(table, 'icl', kind)).mean:.2f}",
            "Drop of the vector": f"{over_families(drop(table, 'vector', kind)).mean:.2f}",
            "Excess": str(over_families(beyond)),
            "Tasks": beyond.count(),
            "Families": by_family(beyond).count(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").replace("nan", "–")


def slopes(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Accuracy of each task, method and kind in this run and as published: the points of a figure."""
    here = {
        (method, kind): level(table, method, "bijection" if kind == "one way" else kind, alone=kind == "one way")
        for method in METHODS
        for kind in KINDS
    }
    rows = []
    for model, shares in {name: here, "Llama-7B, published": published()}.items():
        for (method, kind), column in shares.items():
            panel = f"{model}: {METHODS[method]}"
            rows += [
                {"panel": panel, "task": readable(task), "group": group(task), "kind": kind, "accuracy": share}
                for task, share in column.items()
            ]
    return pd.DataFrame(rows)


def group(task: str) -> str:
    """The group of families that a task is drawn in."""
    family = FAMILIES[task]
    return "English endings" if family in ENDINGS else "translation" if family == "translation" else "the others"


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's own tasks, one way and both ways, here and as published; empty where ICL does not solve them here."""
    theirs = published()
    columns = {}
    for method, label in METHODS.items():
        for kind in ("one way", "bijection"):
            here = level(table, method, "bijection", alone=kind == "one way")
            columns[label, kind, "here"] = here.reindex(theirs.index)
            columns[label, kind, "published"] = theirs[method, kind]
    shares = pd.DataFrame(columns).rename(index=readable)
    return shares.map("{:.2f}".format).replace("nan", "–")


def variants(answers: pd.DataFrame, passing: pd.Series) -> pd.DataFrame:
    """The findings of VARIED when they are counted in other ways, a row for each way; means over families."""
    found = effects(by_direction(answers, passing))
    merged = {task: "endings" if family in ENDINGS else family for task, family in FAMILIES.items()}
    strong = level(by_direction(answers, passing), "vector", "bijection", alone=True).loc[lambda share: share >= 0.5]
    rows = {"as above": {key: str(over_families(values)) for key, values in found.items()}}
    for rule in ("word", "uncopied"):
        other = effects(by_direction(answers, passing, rule))
        rows[RULES[rule]] = {key: str(over_families(values)) for key, values in other.items()}
    rows["English endings as one family"] = {key: str(over_families(found[key], merged)) for key in VARIED}
    rows["tasks whose vector is right one way in .50"] = {
        key: str(over_families(found[key][found[key].index.isin(strong.index)])) for key in VARIED
    }
    rows["any one family left out"] = {key: _from_to(_without_each(found[key])) for key in VARIED}
    by_seed = [effects(by_direction(asked, passing)) for _, asked in answers.groupby("seed")]
    rows["any one seed alone"] = {key: _from_to([over_families(one[key]).mean for one in by_seed]) for key in VARIED}
    table = pd.DataFrame.from_dict(rows, orient="index")[list(VARIED)].rename(columns=EFFECTS)
    return table.replace("nan", "–")


def _without_each(values: pd.Series) -> list[float]:
    families = by_family(values)
    return [families.drop(family).mean() for family in families.index]


def _from_to(means: Sequence[float]) -> str:
    known = [mean for mean in means if mean == mean]  # one seed alone may have none
    return f"{min(known):.2f} to {max(known):.2f}" if known else "–"


def copies(answers: pd.DataFrame, passing: pd.Series) -> pd.DataFrame:
    """How often each method writes the query again, and how often it is right, among all prompts and the rest.

    A row for each kind and direction; means over families.
    """
    counted = {RULES[rule]: by_direction(answers, passing, rule) for rule in ("right", "copied", "uncopied")}
    rows = {}
    for kind, direction in product(KINDS, TWO_WAYS):
        rows[kind, direction] = {
            (label, name): over_families(_of_direction(table[method, kind], direction)).mean
            for method, label in METHODS.items()
            for name, table in counted.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index").map("{:.2f}".format).replace("nan", "–")


def _of_direction(shares: pd.Series, direction: str) -> pd.Series:
    return shares[shares.index.get_level_values("direction") == direction].droplevel("direction")


def choices(answers: pd.DataFrame, passing: pd.Series) -> pd.DataFrame:
    """Accuracy by the direction that is asked, of ICL and of vectors by the query that they were read at.

    For each task's bijection and its union that ICL solves: the points of a figure.
    """
    asked = of_solved(answers, passing)
    asked = asked[asked.kind.isin(["bijection", "union"])]
    read = asked.vector_part.map(dict(enumerate(READ_AT[1:])))
    every = pd.concat(
        [
            asked.assign(read_at=READ_AT[0], right=asked.icl_right),
            asked.assign(read_at=read, right=asked.vector_right),
        ]
    )
    shares = every.groupby(["kind", "read_at", "base", "direction"], as_index=False).right.mean()
    return shares.assign(task=shares.base.map(readable), group=shares.base.map(group))


def written_shares(answers: pd.DataFrame, passing: pd.Series) -> pd.DataFrame:
    """Share of each kind of line, of WRITTEN, by method and kind of prompt; order: the place of the kind.

    Kinds of prompts that were not asked, or that ICL does not solve, are left out.
    """
    counted = of_solved(answers, passing)
    rows = []
    for method, label in METHODS.items():
        for kind in (kind for kind in KINDS if (counted.kind == kind).any()):
            shares = counted.loc[counted.kind == kind, f"{method}_kind"].value_counts(normalize=True)
            rows += [
                {"method": label, "kind": kind, "written": line, "order": i, "share": shares.get(line, 0.0)}
                for i, line in enumerate(WRITTEN)
            ]
    return pd.DataFrame(rows, columns=["method", "kind", "written", "order", "share"])
