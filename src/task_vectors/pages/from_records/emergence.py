"""What chapters 2 and 3 make of the records of emergence: tables over seeds, layers of other seeds, change points.

A series or table of one kind of model is indexed by seed; of several, by variant and seed.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from task_vectors.experiments.emergence import PER_CLASS, TEST_SEED
from task_vectors.measures.statistics import mean_over_units
from task_vectors.records.store import Record
from task_vectors.regression.coupling import change_points, coupling, lags
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.predictors import bayes, ridge
from task_vectors.regression.readings import balanced, by_class


def gathered(runs: Sequence[Record] | Mapping[str, Sequence[Record]], name: str) -> pd.DataFrame:
    """A table of all records with the column "seed", their place in the list, and "variant", their list's name."""
    if isinstance(runs, Mapping):
        return pd.concat([gathered(mine, name).assign(variant=v) for v, mine in runs.items()], ignore_index=True)
    return pd.concat([run.table(name).assign(seed=seed) for seed, run in enumerate(runs)], ignore_index=True)


def at_the_end(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last step, of each variant's own."""
    last = table.groupby("variant").step.transform("max") if "variant" in table else table.step.max()
    return table[table.step == last]


def layers_of_others(values: pd.Series) -> pd.Series:
    """For each seed, the layer that is best on average over the other seeds; its own best, where there is one seed.

    values: indexed [seed, layer] or [variant, seed, layer].
    """
    if values.index.nlevels == 3:
        parts = {variant: layers_of_others(mine.droplevel(0)) for variant, mine in values.groupby(level=0)}
        return pd.concat(parts, names=values.index.names[:1])
    wide = values.unstack("layer")
    return pd.Series(
        {seed: int((wide.drop(index=seed) if len(wide) > 1 else wide).mean().idxmax()) for seed in wide.index}
    ).rename_axis("seed")


def at_layers(table: pd.DataFrame, layers: pd.Series) -> pd.DataFrame:
    """The rows of each seed's own layer; layers as layers_of_others gives them."""
    keys = pd.MultiIndex.from_frame(table[list(layers.index.names)]) if layers.index.nlevels > 1 else table["seed"]
    return table[table.layer.to_numpy() == layers.reindex(keys).to_numpy()]


def probed(decodability: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """How often each rule names the class, by reading and rule, one seed a row (reading, rule, seed, layer, share).

    Of one step's tables. The layer is chosen for each reading and rule, by layers_of_others.
    """
    votes = decodability.groupby(["reading", "metric", "seed", "layer"], as_index=False).td.mean()
    votes["rule"] = "neighbors, " + votes.metric.replace({"euclidean": "Euclidean"})
    rules = probes.assign(rule=probes.probe + " probe").rename(columns={"accuracy": "share"})
    both = pd.concat([votes.rename(columns={"td": "share"}), rules])[["reading", "rule", "seed", "layer", "share"]]
    chosen = [
        at_layers(mine, layers_of_others(mine.set_index(["seed", "layer"]).share))
        for _, mine in both.groupby(["reading", "rule"], sort=False)
    ]
    return pd.concat(chosen, ignore_index=True)


def patch_effects(patches: pd.DataFrame) -> pd.DataFrame:
    """Changes of the error by patches, with "basis" (own or another), at each seed's layer.

    The layer is where, on the other seeds' last step, another class's part does most more harm than the own one's.
    """
    patches = patches.assign(basis=np.where(patches.source == patches.target, "own", "another"))
    names = [name for name in ("variant", "seed") if name in patches]
    last = patches.step == patches.groupby(names).step.transform("max")
    parts = patches[(patches.kind == "part") & last].groupby([*names, "layer", "basis"]).change.mean().unstack()
    return at_layers(patches, layers_of_others(parts["another"] - parts["own"]))


def coupled(td: pd.Series, log_error: pd.Series) -> pd.DataFrame:
    """Of each seed, where the TD and the error of its classes change, and regression.coupling's measures.

    td, log_error: indexed [seed, step, class]. Columns "td_at" and "error_at": a step for each class that has one.
    """
    rows = {}
    for seed, mine in td.groupby(level="seed"):
        both = mine.droplevel("seed").unstack(), log_error[seed].unstack()
        td_at, error_at = (change_points(series).dropna().to_numpy() for series in both)
        rows[seed] = {"td_at": td_at, "error_at": error_at} | coupling(lags(*both))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")


def jump_table(changed: pd.DataFrame, error: pd.Series, level: float) -> pd.DataFrame:
    """Where TD and the error jump, seed by seed, beside how far the error is by then.

    changed: of `coupled`. error: [seed, step], mean over classes; level: a learner's error. Columns "td_at" and
    "error_at"; "ratio", the error in units of `level` at the median step at which TD jumps; and "passes", the first
    snapshot whose error is below `level`, or nan.
    """
    rows = []
    for seed, row in changed.iterrows():
        steps, logs = error[seed].index.to_numpy(), np.log(error[seed].to_numpy())
        ratio = np.exp(np.interp(np.median(row.td_at), steps, logs)) / level if len(row.td_at) else np.nan
        below = steps[logs < np.log(level)]
        passes = below[0] if len(below) else np.nan
        rows.append({"seed": seed, "td_at": row.td_at, "error_at": row.error_at, "ratio": ratio, "passes": passes})
    return pd.DataFrame(rows).set_index("seed")


def with_intervals(values: pd.Series, levels: str | list[str]) -> pd.Series:
    """For each value of these levels of the index, the mean over the rest, the units, with its interval, in words."""
    return values.groupby(level=levels).agg(lambda units: str(mean_over_units(units)))


def median_step(jumps: pd.Series) -> float:
    """The median over seeds and classes of where a series changes, from a column of `coupled`."""
    return float(np.nanmedian(np.concatenate(list(jumps))))


@functools.cache
def bounds_of(mixture: SparseMixture, n_demos: int) -> dict[str, Tensor]:
    """Squared errors of ridge regression and of the Bayes predictor on the records' own sequences, by class: [K, n]."""
    test = balanced(mixture, PER_CLASS, n_demos + 1, TEST_SEED)
    found = {"ridge": ridge(mixture, test), "Bayes": bayes(mixture, test).predictions}
    return {name: by_class((predictions - test.y).square(), test.classes) for name, predictions in found.items()}


def bar_of(learners: pd.DataFrame) -> pd.Series:
    """The lower error of ridge regression and of LASSO, neither of which knows bases, by number of demonstrations.

    learners: the table (learner, demos, error) of `best_learners`. A model below it knows more than that few inputs
    count.
    """
    by_learner = learners.pivot(index="demos", columns="learner", values="error")
    return by_learner[["ridge", "LASSO"]].min(axis=1)


def pair_kinds(mixture: SparseMixture) -> pd.DataFrame:
    """How every two bases of a mixture in groups are related (row, column, kind, member); member: two of one group."""
    supports, size = [set(support) for support in mixture.supports.tolist()], mixture.n_classes // mixture.groups
    rows = []
    for a, b in np.ndindex(mixture.n_classes, mixture.n_classes):
        inputs = "inputs shared" if supports[a] & supports[b] else "no input shared"
        kind = "the same" if a == b else "of two groups" if a // size != b // size else f"of one group, {inputs}"
        rows.append({"row": a, "column": b, "kind": kind, "member": a != b and a // size == b // size})
    return pd.DataFrame(rows)


def film(
    states: Mapping[str, Tensor], maps: Mapping[str, Tensor], layer: int, names: Sequence[str], most: int = 4900
) -> pd.DataFrame:
    """States of every snapshot in two dimensions (kind, frame, step, class, x, y), each of mean 0 and variance 1.

    states: principal components by step, [N, L, C], as emergence records them; maps: t-SNE by step, [N, 2], as
    emergence_map does. Classes come class by class. At most so many rows: every other or third state otherwise.
    """
    parts = []
    for frame, step in enumerate(sorted(states)):
        first = states[step][:, layer - 1, :2].float()
        for kind, points in (("principal components", (first - first.mean(0)) / first.std(0)), ("t-SNE", maps[step])):
            table = pd.DataFrame(points.float().numpy(), columns=["x", "y"])
            labels = np.repeat(names, len(table) // len(names))
            parts.append(table.assign(**{"kind": kind, "frame": frame, "step": int(step), "class": labels}))
    table = pd.concat(parts, ignore_index=True)
    return table.iloc[:: max(1, -(-len(table) // most))]


def listed(values: Iterable) -> str:
    """Some values in words: 4, 5 and 3."""
    *first, final = map(str, values)
    return f"{', '.join(first)} and {final}" if first else final
