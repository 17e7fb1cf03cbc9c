"""What the page on speed makes of benchmarks/results: the latest run of each file, its tables, ratios and charts."""

import math
from collections.abc import Sequence
from pathlib import Path

import altair as alt
import pandas as pd

from task_vectors.measures.statistics import Estimate


def latest_run(path: Path) -> pd.DataFrame:
    """The last run in a benchmark's file, a row a measurement; `where` tells sizes and threads."""
    runs = pd.read_csv(path)
    run = runs[runs.date == runs.date.iloc[-1]].drop_duplicates(["case", "name", "threads"], keep="last")
    threads = run.threads.map(lambda count: "1 thread" if count == 1 else f"{count} threads")
    return run.assign(where=run["case"] + ", " + threads)


def latest_of_each(path: Path) -> pd.DataFrame:
    """Of each case and name the last measurement in the file, whose runs may each be of one case; as in latest_run."""
    rows = pd.read_csv(path).drop_duplicates(["case", "name", "threads"], keep="last")
    return rows.assign(where=rows["case"])


def measured(run: pd.DataFrame, name: str, case: str) -> Estimate:
    """The median over rounds with its interval, on as many threads as there were; KeyError if there is none.

    No interval (nan) with fewer than six rounds, or where a run is older than the column.
    """
    rows = run[(run["case"] == case) & (run.name == name)]
    if rows.empty:
        raise KeyError(f"no {name!r} of {case!r} among {sorted(set(run.name))}")
    row = rows.loc[rows.threads.idxmax()]
    return Estimate(row["median"], row.get("lower", math.nan), row.get("upper", math.nan))


def in_words(row: pd.Series) -> str:
    """Median, and the 20 and 80 % quantiles over rounds, with as many digits as say something."""
    low, middle, high = (f"{x:,.0f}" if x >= 100 else f"{x:.3g}" for x in (row.low, row["median"], row.high))
    return middle if row.low == row.high else f"{middle} ({low} to {high})"


def table(run: pd.DataFrame, units: Sequence[str]) -> pd.DataFrame:
    """A line for each thing that was measured in one of these units, a column for each size and number of threads."""
    rows = run[run.unit.isin(units)]
    shown = rows.assign(text=rows.apply(in_words, axis=1), what=rows.name + " (" + rows.unit + ")")
    wide = shown.pivot(index="what", columns="where", values="text").fillna("")
    return wide.rename_axis(None).rename_axis(None, axis=1).loc[shown.what.unique(), shown["where"].unique()]


OF_MODELS = {  # a column of the table of models: in which precision or on which prompts, what, and how it is written
    "on disk (GB)": ("float32", "disk", ".1f"),
    "converting: peak (GB)": ("float32", "convert: peak memory", ".1f"),
    "… of the weights in float32": ("float32", "convert: peak memory / weights in float32", ".2f"),
    "chapter 11 in bfloat16: peak (GB)": ("bfloat16", "chapter 11: peak memory", ".1f"),
    "float32 / bfloat16 (time)": ("ICL of 256 prompts", "float32 / bfloat16", ".2f"),
    "answers that differ": ("ICL of 256 prompts", "answers that differ", ".1%"),
}


def of_models(run: pd.DataFrame) -> pd.DataFrame:
    """What each model takes: a row a model, a column each of OF_MODELS; – where one was not measured."""
    parts = run["case"].str.partition(", ")
    values = run.set_index([parts[0], parts[2], run.name])["median"]
    models = sorted(set(parts[0]), key=lambda model: values.get((model, *OF_MODELS["on disk (GB)"][:2]), 0))
    rows = {
        model: {
            label: format(values[model, how, what], form) if (model, how, what) in values.index else "–"
            for label, (how, what, form) in OF_MODELS.items()
        }
        for model in models
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table[table.ne("–").any(axis=1)]


def ratios(run: pd.DataFrame, names: Sequence[str], description: str) -> alt.LayerChart:
    """Ratios with their ranges, on a scale where twice as fast is always the same step."""
    rows = run[run.name.isin(names)]
    scale = alt.Scale(type="log", domainMin=min(1, rows.low.min()), nice=False, padding=12)
    even = alt.Chart(pd.DataFrame({"x": [1]})).mark_rule(strokeDash=[4, 4], strokeWidth=1).encode(x="x:Q")
    chart = alt.layer(even, *_ranges(rows, names, title="Ratio (log scale; 1: equal)", scale=scale))
    return chart.properties(width=420, height=alt.Step(60 // len(names)), description=description)


def times(run: pd.DataFrame, names: Sequence[str], description: str) -> alt.LayerChart:
    """Times in milliseconds with their ranges, on a log scale."""
    scale, axis = alt.Scale(type="log", nice=False, padding=12), alt.Axis(tickCount=4)  # powers of ten
    rows = run[(run.unit == "ms") & run.name.isin(names)]
    chart = alt.layer(*_ranges(rows, names, title="Time (ms, log scale)", scale=scale, axis=axis))
    return chart.properties(width=420, height=alt.Step(28), description=description)


def _ranges(rows: pd.DataFrame, names: Sequence[str], **x) -> tuple[alt.Chart, alt.Chart]:
    """Two layers: 20 to 80 % ranges as lines, medians as points."""
    lines = rows["where"].str.count(", ").max()  # of a label, but for the first
    labels = alt.Axis(labelExpr="split(datum.label, ', ')", labelOffset=-7.5 * lines)
    base = alt.Chart(rows[["where", "name", "median", "low", "high"]]).encode(
        y=alt.Y("where:N", title=None, sort=None, axis=labels),
        yOffset=alt.YOffset("name:N", sort=names),
        color=alt.Color("name:N", title=None, sort=names, legend=alt.Legend(orient="bottom", columns=1, labelLimit=0)),
        tooltip=["where", "name", *(alt.Tooltip(column, format=".3g") for column in ("median", "low", "high"))],
    )
    spans = base.mark_rule(strokeWidth=3, opacity=0.6).encode(x=alt.X("low:Q", **x), x2="high:Q")
    return spans, base.mark_point().encode(x=alt.X("median:Q", **x))


def check_ratios(run: pd.DataFrame) -> None:
    """AssertionError unless medians lie in their ranges, and each ratio is about that of its two parts."""
    assert (run.low <= run["median"]).all()
    assert (run["median"] <= run.high).all()
    medians = run.set_index(["where", "name"])["median"]
    for (where, what), value in medians.items():
        over, _, under = what.partition(" / ")
        if {(where, over), (where, under)} <= set(medians.index):
            quotient = medians[where, over] / medians[where, under]
            assert 0.5 < value / quotient < 2, f"{where}: {what} is {value}, its parts give {quotient}"


def gpu_numbers(run: pd.DataFrame) -> dict[str, object]:
    """What the page says of the run on a GPU, by name."""
    values = run.set_index(["name", "case"])["median"].sort_index()
    found = {
        "card": run.processor.iloc[0].rpartition(", ")[2],
        "date": run.date.iloc[0].split()[0],
        "torch": run.torch.iloc[0],
        "wide_loss": 1 / values["torch / triton"].filter(like="d = 32").item(),
        "least": values["triton / floor"].min(),
        "most": values["triton / floor"].max(),
    }
    for key, (what, case) in GPU_VALUES.items():
        found[key] = values[what].filter(regex=case).item()
    errors = values[["difference of triton", "difference of torch"]].unstack("name")
    of_votes = errors.index.str.startswith("neighbor vote")
    for way in ("triton", "torch"):
        found[f"{way}_error"] = errors.loc[~of_votes, f"difference of {way}"].max()
    return found | {"votes_wrong": errors[of_votes].max(axis=None)}


GPU_VALUES = {  # name: what, and an expression that finds the case
    "single_rate": ("matrix product", " float32"),
    "half_rate": ("matrix product", " bfloat16"),
    "copy_rate": ("copy", " MB"),
    "single_gain": ("torch / triton", "head saliency.* float32"),
    "half_gain": ("torch / triton", "head saliency.* bfloat16"),
    "few_triton": ("triton", " 700 states"),
    "few_torch": ("torch", " 700 states"),
    "many_triton": ("triton", " 3000 states"),
    "many_torch": ("torch", " 3000 states"),
    "trained_triton": ("triton", "d = 4,"),
    "trained_torch": ("torch", "d = 4,"),
}
