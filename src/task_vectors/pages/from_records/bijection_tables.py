"""The tables of chapter 11, and the published values that stand beside them (Dong et al. 2026, Tables 1, 8 and 9)."""

from collections.abc import Mapping, Sequence

import pandas as pd

from task_vectors.experiments.bijections import FORMS
from task_vectors.measures.statistics import Estimate, mean_over_units
from task_vectors.pages.from_records.bijections import (
    KINDS,
    METHODS,
    PASS,
    WRITTEN,
    accuracies,
    accuracy,
    drop,
    effects,
    excess,
)
from task_vectors.pages.names import readable
from task_vectors.paths import project_root
from task_vectors.tasks.catalog import FAMILIES

RULES = {"right": "exact line", "word": "first word"}
EFFECTS = {
    "excess": "On bijections the vector loses more than ICL",
    "solved": "Where ICL is right, bijections cost the vector",
    "beyond": "Its excess on bijections is larger than on unions",
    "beyond_solved": "Where ICL is right, bijections cost more than unions",
}
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


def published(tasks: Sequence[str]) -> pd.DataFrame:
    """Published accuracy of each task (index) by (method, kind), as in `accuracies`; there are no unions."""
    table = pd.read_csv(project_root() / "data/published/dong2026_table1.csv").set_index(["task", "domain_y"])
    rows = table.loc[[PUBLISHED_ROWS[task] for task in tasks]].set_axis(list(tasks))
    columns = {}
    for method, key in (("icl", "icl"), ("vector", "tv")):
        columns[method, "one way"] = (rows[f"{key}_xy"] + rows[f"{key}_yx"]) / 2
        columns[method, "bijection"] = rows[f"{key}_bijection"]
    return pd.DataFrame(columns)


def published_by_length(model: str) -> pd.DataFrame:
    """Published accuracy on bijections by number of demonstrations (index): icl and vector, means over tasks."""
    table = pd.read_csv(project_root() / "data/published/dong2026_bijection.csv")
    table = table[(table.model == model) & (table.task != "Antonym")]  # which is an exception
    return table.rename(columns={"task_vector": "vector"}).groupby("n_demos")[["icl", "vector"]].mean()


def published_exception(task: str) -> pd.Series:
    """The row of copy or antonym in Table 1."""
    table = pd.read_csv(project_root() / "data/published/dong2026_table1.csv").set_index("task")
    return table.loc[task.capitalize()]


def by_form(answers: pd.DataFrame) -> pd.DataFrame:
    """Shares of exact answers of each task by method and form, and the number of demonstrations n."""
    asked = answers[answers.kind.isin(KINDS)]
    forms = asked.groupby(["base", "form"], sort=False)
    shares = {label: forms[f"{method}_right"].mean().unstack()[list(FORMS)] for method, label in METHODS.items()}
    table = pd.concat(shares, axis=1).loc[asked.base.unique()].map("{:.2f}".format)
    table.insert(0, ("", "n"), asked.groupby("base").n_demos.min())
    return table.rename(index=readable).rename_axis(index=None, columns=[None, None])


def with_intervals(samples: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Every accuracy with its interval, by both rules; samples: the answers at each number of demonstrations."""
    rows = []
    for answers in samples:
        for (base, form), asked in answers.groupby(["base", "form"], sort=False):
            keys = {"task": readable(base), "form": form, "n": asked.n_demos.iloc[0], "prompts": len(asked)}
            found = {
                f"{label}, {how}": str(accuracy(asked, method, rule))
                for method, label in METHODS.items()
                for rule, how in RULES.items()
            }
            rows.append(keys | found)
    return pd.DataFrame(rows).set_index(["task", "form", "n", "prompts"])


def one_way(answers: pd.DataFrame) -> pd.DataFrame:
    """Each one-way task and exception: accuracy by both rules, whether it passes by each, its vector's wrong lines."""
    rows = []
    for _, asked in answers[answers.kind.isin(["one way", "exception"])].groupby(["base", "form"], sort=False):
        row = {"Task": asked.task.iloc[0].replace("_", " ")}
        passes = {}
        for rule, how in RULES.items():
            scores = {method: asked[f"{method}_{rule}"].mean() for method in METHODS}
            row |= {f"{METHODS[method]}, {how}": score for method, score in scores.items()}
            passes[f"passes, {how}"] = all(scores[method] >= least for method, least in PASS.items())
        wrong = asked.loc[~asked.vector_right, "vector_kind"].value_counts(normalize=True)
        lines = ", ".join(f"{kind} {share:.0%}" for kind, share in wrong.head(2).items())
        rows.append(row | passes | {"the vector's wrong lines": lines})
    return pd.DataFrame(rows).set_index("Task")


def slopes(answers: pd.DataFrame, models: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracies of each model, as in `accuracies`, a row for each task, method and kind: the points of a figure.

    answers: those of the first model, which has intervals.
    """
    rows = []
    for number, (model, table) in enumerate(models.items()):
        for base in table.index:
            for method, kind in table.columns:
                asked = answers[(answers.base == base) & (answers.kind == kind)]
                low, high = accuracy(asked, method)[1:3] if number == 0 else (float("nan"), float("nan"))
                where = {"panel": f"{model}: {METHODS[method]}", "task": readable(base), "group": FAMILIES[base]}
                rows.append(
                    where | {"kind": kind, "accuracy": table.loc[base, (method, kind)], "low": low, "high": high}
                )
    return pd.DataFrame(rows)


def side_by_side(models: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracies of each model by task, with their means over tasks."""
    columns = {
        (f"{label}, {model}", kind): table[method, kind]
        for method, label in METHODS.items()
        for model, table in models.items()
        for kind in KINDS
        if (method, kind) in table
    }
    table = pd.DataFrame(columns).rename(index=readable)
    table.loc["mean"] = table.mean()
    return table.round(2)


def effect_table(answers: pd.DataFrame) -> pd.DataFrame:
    """The four effects by both rules, and the number of tasks that count."""
    by_rule = {rule: effects(answers, rule) for rule in RULES}
    rows = [
        {
            "What the vector loses": name,
            **{f"By {how}": str(mean_over_units(by_rule[rule][key])) for rule, how in RULES.items()},
            "Tasks": by_rule["right"][key].count(),
        }
        for key, name in EFFECTS.items()
    ]
    return pd.DataFrame(rows).set_index("What the vector loses")


def mixing(answers: pd.DataFrame) -> pd.DataFrame:
    """Drops on unions and on bijections, each as a mean over tasks."""
    everything, solved = accuracies(answers), accuracies(answers, solved=True)
    columns = {
        "Drop of ICL": lambda kind: drop(everything, "icl", kind),
        "Drop of the vector": lambda kind: drop(everything, "vector", kind),
        "Excess": lambda kind: excess(everything, kind),
        "Drop of the vector where ICL is right": lambda kind: drop(solved, "vector", kind),
    }
    rows = {
        kind: {name: str(mean_over_units(values(kind))) for name, values in columns.items()}
        for kind in ("union", "bijection")
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("Kind")


def exceptions(answers: pd.DataFrame) -> pd.DataFrame:
    """Copy and antonym beside their published values."""
    rows = []
    for base, asked in answers[answers.kind == "exception"].groupby("base", sort=False):
        theirs = published_exception(base)
        rows.append(
            {
                "Task": base,
                "ICL": str(accuracy(asked, "icl")),
                "Task vector": str(accuracy(asked, "vector")),
                "Vector, first word": str(accuracy(asked, "vector", "word")),
                "Published ICL": f"{theirs.icl_bijection:.2f}",
                "Published vector": f"{theirs.tv_bijection:.2f}",
            }
        )
    return pd.DataFrame(rows).set_index("Task")


def lengths(samples: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Accuracies at each number of demonstrations n, a row for each task, method and kind."""
    rows = []
    for n, answers in samples.items():
        table = accuracies(answers)
        rows += [
            {
                "n": n,
                "task": readable(base),
                "kind": kind,
                "method": method,
                "accuracy": table.loc[base, (method, kind)],
            }
            for base in table.index
            for method, kind in table.columns
        ]
    return pd.DataFrame(rows)


def changes(samples: Mapping[int, pd.DataFrame]) -> dict[tuple[str, str], Estimate]:
    """What the second number of demonstrations changes, by method and kind; means over tasks."""
    few, many = (accuracies(answers) for answers in samples.values())
    return {column: mean_over_units(many[column] - few[column]) for column in few}


def change_table(samples: Mapping[int, pd.DataFrame], model: str) -> pd.DataFrame:
    """Accuracy at each number of demonstrations and the change; on bijections beside that of a published model."""
    theirs, rows = published_by_length(model), []
    for (method, kind), change in changes(samples).items():
        here = {f"n\u00a0=\u00a0{n}": f"{accuracies(a)[method, kind].mean():.2f}" for n, a in samples.items()}
        there = " → ".join(f"{value:.2f}" for value in theirs[method]) if kind == "bijection" else ""
        length = " → ".join(map(str, theirs.index))
        row = {"Method": METHODS[method], "Kind": kind, **here, "Change": str(change)}
        rows.append(row | {f"{model}, published ({length})": there})
    return pd.DataFrame(rows).set_index(["Method", "Kind"])


def written_shares(answers: pd.DataFrame) -> pd.DataFrame:
    """Share of each kind of line, of WRITTEN, by method and kind; order: the place of the kind."""
    rows = []
    for method, label in METHODS.items():
        for kind in KINDS:
            shares = answers.loc[answers.kind == kind, f"{method}_kind"].value_counts(normalize=True)
            rows += [
                {"method": label, "kind": kind, "written": line, "order": i, "share": shares.get(line, 0.0)}
                for i, line in enumerate(WRITTEN)
            ]
    return pd.DataFrame(rows)


def sides(answers: pd.DataFrame) -> pd.DataFrame:
    """Accuracy where the vector was read at a query of the same part as the one that is asked, and of the other."""
    rows = []
    for kind in ("bijection", "union"):
        asked = answers[answers.kind == kind]
        same = asked.part == asked.vector_part
        for label, part in (("the same part as the query", asked[same]), ("the other part", asked[~same])):
            found = {"Task vector": str(accuracy(part, "vector")), "ICL": str(accuracy(part, "icl"))}
            rows.append({"Kind": kind, "Vector read at": label, "prompts": len(part), **found})
    return pd.DataFrame(rows).set_index(["Kind", "Vector read at"])
