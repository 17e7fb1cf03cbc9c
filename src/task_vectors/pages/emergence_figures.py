"""Figures of chapters 2 and 3 alone: errors and decodability over training, and what is told beside what is used."""

import warnings
from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd
from torch import Tensor

from task_vectors.pages.charts import PALETTE
from task_vectors.pages.figures import curves, heat, points

STEP, TD, CHANGE = "Training step", "Task Decodability", "Change of the error"
BY_DEMOS = {
    "x_title": "Demonstrations",
    "y_title": "Mean squared error",
    "y_scale": alt.Scale(type="log", domain=[0.008, 2], clamp=True),
    "colors": ["currentColor", *PALETTE],
    "form": ".3f",
}
TOLD_AND_USED = {
    "basis": "Two tables of eight overlapping bases. Left: Task Decodability of every pair. Right: change of the error "
    "when one basis's part of the state is put in for another's: small within a group, large between groups.",
    "family": "Two tables of four families each: Task Decodability of every pair, near chance among linear, sparse and "
    "leaky and high with quadratic; and the change of the error when one family's part of the state is put in for "
    "another's, large only where quadratic is put in.",
}
LOG_ERROR = alt.Scale(type="log", domain=[0.01, 3], nice=False, clamp=True)


def block_weights(w: Tensor, names: Sequence[str]) -> alt.TopLevelMixin:
    """Sizes of weights w [B, D] as a heat map, one row a sequence; names: [B]."""
    cells = [
        {"sequence": f"{row + 1}: {name}", "input": i + 1, "size": size}
        for row, (name, sizes) in enumerate(zip(names, w.abs().tolist(), strict=True))
        for i, size in enumerate(sizes)
    ]
    return heat(
        pd.DataFrame(cells),
        "input",
        "sequence",
        "size",
        x_title="Input",
        value_title="Size of its weight",
        width=460,
        height=22 * len(names),
        description=(
            "Sizes of the weights that least squares finds in two sequences of each basis: large in the basis's "
            "own block of inputs, small outside it."
        ),
    )


def errors_by_demos(table: pd.DataFrame, description: str) -> alt.TopLevelMixin:
    """Error over demonstrations, a line a learner (learner, demos, error), the first one in the color of the text."""
    return curves(table, "demos", "error", "learner", description=description, **BY_DEMOS)


def errors_at_step(model: pd.DataFrame, learners: pd.DataFrame, every: int) -> alt.TopLevelMixin:
    """The same with a slider: the model's (step, demos, error) at a step, beside learners (learner, demos, error)."""
    last = int(model.step.max())
    slider = alt.param(
        name="at_step",
        value=last // 2 // every * every,
        bind=alt.binding_range(min=0, max=last, step=every, name="Step "),
    )
    chart = errors_by_demos(
        pd.concat([model.assign(learner="the model"), learners]),
        "Error against the number of demonstrations at a chosen training step, beside ridge, LASSO and the Bayes "
        "predictor.",
    )
    return chart.transform_filter("!isValid(datum.step) || datum.step == at_step").add_params(slider)


def errors_by_basis(
    errors: pd.DataFrame, levels: Mapping[str, float], n_demos: int, description: str
) -> alt.TopLevelMixin:
    """Error of each basis after all demonstrations, with a menu of seeds: of (seed, step, class, demos, error)."""
    table = _by_basis(errors[errors.demos == n_demos]).assign(seed=lambda t: "seed " + t.seed.astype(str))
    seeds = sorted(table.seed.unique())
    menu = alt.param(name="which_seed", value=seeds[0], bind=alt.binding_select(options=seeds, name="Model: "))
    chart = curves(
        table,
        "step",
        "error",
        "basis",
        x_title=STEP,
        y_title=f"Error after {n_demos} demonstrations",
        y_scale=LOG_ERROR,
        levels=levels,
        form=".3f",
        description=description,
    )
    return chart.transform_filter("datum.seed == which_seed").add_params(menu)


def td_over_training(td: pd.DataFrame, levels: Mapping[str, float]) -> alt.TopLevelMixin:
    """Decodability by layer over training, a panel for each reading (reading, layer, step, td)."""
    n_layers = td.layer.nunique()
    return curves(
        td,
        "step",
        "td",
        "layer",
        legend="After layer",
        # From purple by blue and green to yellow, seen on white and on black.
        colors=[f"hsl({280 - 230 * i / max(n_layers - 1, 1):.0f}, 55%, 52%)" for i in range(n_layers)],
        x_title=STEP,
        y_title=TD,
        y_scale=alt.Scale(domain=[0, 1.1]),
        levels=levels,
        column="reading",
        panels=["token", "mean"],
        width=240,
        height=220,
        description=(
            "Task Decodability over training for every layer, from the last token's state and from the mean "
            "state, with the levels of chance, of the mean product and of ridge weights dashed."
        ),
    )


def states_on_a_map(film: pd.DataFrame) -> alt.TopLevelMixin:
    """States in two dimensions with a slider over snapshots, a panel a kind (kind, frame, class, x, y)."""
    last, edges = int(film.frame.max()), alt.Scale(domain=[-3, 3], clamp=True)
    slider = alt.param(
        name="picture", value=last // 2, bind=alt.binding_range(min=0, max=last, step=1, name="Snapshot ")
    )
    chart = points(
        film,
        "x",
        "y",
        "class",
        x_title="",
        y_title="",
        ticks=False,
        x_scale=edges,
        y_scale=edges,
        size=25,
        column="kind",
        width=240,
        height=240,
        description=(
            "Mean states of seed 0 in two dimensions, by principal components and by t-SNE, at a snapshot of "
            "choice; colors are bases."
        ),
    )
    return chart.transform_filter("datum.frame == picture").add_params(slider)


def shares_by_demos(shares: pd.DataFrame, chance: float) -> alt.TopLevelMixin:
    """How often the class is named, over demonstrations, a line for each "what" (what, demos, share)."""
    look = {"colors": [*PALETTE, "#999999", "currentColor"], "y_scale": alt.Scale(domain=[0, 1])}
    titles = {"x_title": "Demonstrations", "y_title": "Share of sequences named rightly"}
    text = (
        "Share of sequences whose basis is named rightly, against the number of demonstrations: by the exact "
        "posterior, and by TD of each trained model."
    )
    return curves(shares, "demos", "share", "what", levels={"chance": chance}, description=text, **look, **titles)


def beyond_by_layer(table: pd.DataFrame, levels: Mapping[str, float]) -> alt.TopLevelMixin:
    """R² of the posterior beyond ridge's weights by layer, a line a model (seed, layer, r2), beside the floors."""
    table = table.assign(model="seed " + table.seed.astype(str))
    look = {"x_title": "After layer", "y_title": "R² of the posterior", "points": True, "height": 220}
    text = (
        "How well the exact posterior is predicted from the states of each model after ridge's weights are "
        "regressed out, by layer, with the same of functions of those weights that know no bases dashed."
    )
    return curves(table, "layer", "r2", "model", levels=levels, description=text, **look)


def swaps_by_step(swaps: pd.DataFrame) -> alt.TopLevelMixin:
    """Squares of classes, one a step: what it costs to put one in for another (step, source, target, change)."""
    cells = swaps.groupby(["step", "source", "target"], as_index=False).change.mean()
    cells = cells.assign(source=cells.source + 1, target=cells.target + 1)
    titles = {"x_title": "Basis put in", "y_title": "Basis of the sequence", "value_title": CHANGE}
    look = {"numbers": True, "width": 170, "height": 150, "column": "step"}
    return heat(
        cells,
        "target",
        "source",
        "change",
        description=(
            "Change of the error when the part of the state that differs between bases is replaced by each "
            "basis's mean, at an early, a middle and the last snapshot: small on the diagonal."
        ),
        **titles,
        **look,
    )


def error_above_td(
    error: Mapping[str, pd.Series],
    td: Mapping[str, pd.Series],
    jumps: Mapping[str, tuple[float, float]],
    levels: tuple[Mapping[str, float], Mapping[str, float]],
) -> alt.TopLevelMixin:
    """Two rows of panels over training, a column for each kind of tokens: error above, decodability below.

    error, td: by kind, [step, class]. jumps: by kind, where each of the two has its dashed vertical line. levels: of
    each of the two.
    """
    rows = []
    for place, (series, title, scale) in enumerate(
        ((error, "Mean squared error", LOG_ERROR), (td, TD, alt.Scale(domain=[0, 1.05])))
    ):
        parts = [
            _by_basis(values.rename("value").reset_index()).assign(tokens=kind, jump=jumps[kind][place])
            for kind, values in series.items()
        ]
        chart = curves(
            pd.concat(parts),
            "step",
            "value",
            "basis",
            x_title=STEP,
            y_title=title,
            y_scale=scale,
            levels=levels[place],
            marks="jump",
            column="tokens",
            panels=list(series),
            width=240,
            height=170,
            description=title,
        )
        rows.append(chart.resolve_scale(x="independent"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Automatically deduplicated")  # one click picks a basis in both rows
        both = alt.vconcat(*rows)
    return both.properties(
        description=(
            "Error and Task Decodability of each basis over training, for interleaved tokens on the left and "
            "product tokens on the right. On the left both change at nearly the same steps; on the right "
            "decodability rises almost at once and the error falls later."
        )
    )


def changes_by_layer(changes: pd.DataFrame, places: Sequence[str]) -> alt.TopLevelMixin:
    """The error's mean change by layer, with the own and another basis put in, a panel a place."""
    return curves(
        changes.groupby(["place", "basis", "layer"], as_index=False).change.mean(),
        "layer",
        "change",
        "basis",
        legend="Basis put in",
        order=["own", "another"],
        points=True,
        x_title="After layer",
        y_title=CHANGE,
        column="place",
        panels=places,
        form="+.3f",
        width=240,
        height=180,
        description=(
            "Change of the error by layer when the part of the state that tells the bases apart is exchanged, at "
            "the query on the left and at all output tokens on the right, for the sequence's own basis and for "
            "another one."
        ),
    )


def told_and_used(pairs: pd.DataFrame, swaps: pd.DataFrame, labels: Sequence[str], what: str) -> alt.TopLevelMixin:
    """Two squares of classes: TD of every two (row, column, td), and the error's change (source, target, change).

    labels: of the classes. what: one of them in a word, "basis" or "family".
    """
    side, names, What = 130 + 18 * len(labels), dict(enumerate(labels)), what.capitalize()
    told = pairs.groupby(["row", "column"], as_index=False).td.mean().replace({"row": names, "column": names})
    used = swaps.groupby(["source", "target"], as_index=False).change.mean().replace({"source": names, "target": names})
    look = {"columns": labels, "rows": labels, "numbers": True, "width": side, "height": side}
    words = {"x_title": f"and this {what}", "y_title": f"Pool of this {what}", "value_title": "TD of the pair"}
    left = heat(told, "column", "row", "td", domain=(0.5, 1), description="TD", **words, **look)
    words = {"x_title": f"{What} put in", "y_title": f"{What} of the sequence", "value_title": CHANGE}
    right = heat(used, "target", "source", "change", description=CHANGE, **words, **look)
    return alt.hconcat(left, right).resolve_scale(color="independent").properties(description=TOLD_AND_USED[what])


def error_against_td(models: pd.DataFrame, levels: Mapping[str, float], n_demos: int) -> alt.TopLevelMixin:
    """One point a model (model, td, error), beside learners' levels."""
    return points(
        models,
        "td",
        "error",
        "model",
        legend_columns=2,
        x_title=TD,
        y_title=f"Error after {n_demos} demonstrations",
        x_scale=alt.Scale(domain=[0.2, 1.05], nice=False),
        y_scale=alt.Scale(type="log", domain=[0.01, 1], clamp=True),
        levels=levels,
        size=110,
        description=(
            "Error against Task Decodability, one point a model of the same four bases, with the errors of ridge "
            "regression, of the bar and of the Bayes predictor as dashed lines. The LSTMs have the highest "
            "decodability and errors above ridge regression; the model of interleaved tokens has lower decodability "
            "and the lowest error."
        ),
    )


def damage_by_head(
    damages: Mapping[str, Tensor], names: Mapping[str, Sequence[str]], n_heads: int
) -> alt.TopLevelMixin:
    """Change of each class's error with one head out, a panel a model; damages: [L * H, K], names: of its classes."""
    cells = [
        {"model": model, "head": f"{i // n_heads + 1}.{i % n_heads + 1}", "class": label, "change": change}
        for model, damage in damages.items()
        for i, changes in enumerate(damage.tolist())
        for label, change in zip(names[model], changes, strict=True)
    ]
    titles = {"x_title": "Class", "y_title": "Head (layer.number)", "value_title": CHANGE}
    look = {
        "numbers": True,
        "form": "+.2f",
        "domain": (0, 0.5),
        "width": 240,
        "column": "model",
        "panels": list(damages),
    }
    classes = [label for model in damages for label in names[model]]
    height = 22 * max(map(len, damages.values()))
    chart = heat(
        pd.DataFrame(cells),
        "class",
        "head",
        "change",
        columns=classes,
        height=height,
        description=(
            "Change of the error of each class when one attention head is taken out, for the mixture of four "
            "bases and for the mixture of families; one row a head."
        ),
        **titles,
        **look,
    )
    return chart.resolve_scale(x="independent")


def _by_basis(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(basis="basis " + (table["class"] + 1).astype(str))
