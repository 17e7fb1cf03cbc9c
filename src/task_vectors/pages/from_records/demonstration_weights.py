"""The records of what demonstrations weigh in a language model, as the arrays, tables and figures of a page.

A profile has a value for each place of a demonstration, here of each task over its mean: [tasks, N].
"""

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from task_vectors.measures.profiles import fitted, miss, shape
from task_vectors.measures.statistics import mean_over_units
from task_vectors.pages.figures import curves as curve_chart
from task_vectors.records.store import Record

Records = Mapping[str, Record]  # by task
Curves = Mapping[str, np.ndarray]  # by name: [N]
PLACE_TITLE = "Demonstration (the last one stands before the query)"


def chosen_layers(records: Records) -> dict[str, int]:
    """The layer where vectors of each task work best on held-out prompts."""
    return {task: int(record.table("layer")["right"].item()) for task, record in records.items()}


def movements(records: Records, layers: Mapping[str, int]) -> pd.DataFrame:
    """How far each task's vector moves when a demonstration is replaced, over the mean: a profile."""
    rows = {}
    for task, record in records.items():
        shifts = record.table("shifts")
        rows[task] = shape(shifts[shifts.layer == layers[task]].groupby("demo")["shift"].mean())
    return _profile(rows)


def held_out_fits(records: Records) -> pd.DataFrame:
    """R² of combinations on held-out prompts, over the folds: columns task, layer, token, states, r2."""
    fits = pd.concat([record.table("fits").assign(task=task) for task, record in records.items()])
    return fits.groupby(["task", "layer", "token", "states"], as_index=False).r2.mean()


def tokens_of_others(r2: pd.DataFrame) -> dict[str, str]:
    """For each task the token with the best mean R² on all *other* tasks, from R² [tasks, tokens].

    Where there are no others it is the arrow.
    """
    if len(r2) == 1:
        return {r2.index[0]: "arrow"}
    return {task: r2.drop(index=task).mean().idxmax() for task in r2.index}


def fitted_weights(records: Records, layers: Mapping[str, int], tokens: Mapping[str, str]) -> pd.DataFrame:
    """Weights of the demonstrations in each task's vector, of states at its token: [tasks, N]."""
    rows = {}
    for task, record in records.items():
        table = record.table("weights")
        kept = table[(table.layer == layers[task]) & (table.token == tokens[task])]
        rows[task] = kept.set_index("demo").weight.sort_index().to_numpy()
    return _profile(rows)


def weight_sizes(weights: pd.DataFrame) -> pd.DataFrame:
    """Sizes of weights [tasks, N] over their mean: a profile."""
    return _profile({task: shape(row.abs()) for task, row in weights.iterrows()})


def judged(profiles: pd.DataFrame, curves: Curves) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each curve's relative error at its best scale, and its rank correlation (if it is not flat): [tasks, curves]."""
    rows = profiles.to_numpy()
    errors = {name: [miss(curve, row) for row in rows] for name, curve in curves.items()}
    ranks = {name: [spearmanr(curve, row).statistic for row in rows] for name, curve in curves.items() if np.ptp(curve)}
    return pd.DataFrame(errors, index=profiles.index), pd.DataFrame(ranks, index=profiles.index)


def comparison(errors: pd.DataFrame, ranks: pd.DataFrame, against: Sequence[str]) -> pd.DataFrame:
    """What `judged` gave, over tasks: how far each curve is off, how much less than those of `against`, the order."""
    columns = {"Relative error": [str(mean_over_units(errors[name])) for name in errors]}
    for rival in against:
        less = {name: str(mean_over_units(errors[rival] - errors[name])) for name in errors}
        columns[f"Less than the {rival} by"] = [less[name] if name != rival else "" for name in errors]
    columns["Rank correlation"] = [str(mean_over_units(ranks[name])) if name in ranks else "" for name in errors]
    return pd.DataFrame(columns, index=pd.Index(errors.columns, name="Curve"))


def against_curves(profiles: pd.DataFrame, curves: Curves, title: str, description: str) -> alt.LayerChart:
    """Means of the profiles with intervals over tasks, and each curve at its best scale."""
    mean, places = profiles.mean().to_numpy(), profiles.columns
    points = pd.DataFrame([{"demo": place, **mean_over_units(profiles[place])._asdict()} for place in places])
    lines = pd.DataFrame(
        [
            {"demo": place, "curve": name, "value": value}
            for name, curve in curves.items()
            for place, value in zip(places, fitted(curve, mean), strict=True)
        ]
    )
    named = {"x_title": PLACE_TITLE, "y_title": title, "description": description, "width": 480}
    x = alt.X("demo:Q", axis=alt.Axis(values=list(places), format="d"))
    drawn = curve_chart(lines, "demo", "value", "curve", order=list(curves), **named)
    bars = alt.Chart(points).mark_rule().encode(x=x, y="low:Q", y2="high:Q")
    dots = alt.Chart(points).mark_point(color="currentColor")
    dots = dots.encode(x=x, y="mean:Q", tooltip=["demo", alt.Tooltip("mean:Q", format=".2f")])
    return alt.layer(drawn, bars, dots).properties(width=480, height=260, description=description)


def _profile(rows: Mapping[str, np.ndarray]) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.set_axis(range(1, table.shape[1] + 1), axis=1)
