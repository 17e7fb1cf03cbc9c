"""What chapter 6 makes of pretraining's records: encoding and decoding of each map, seed by seed."""

import numpy as np
import pandas as pd

from task_vectors.measures.td_and_accuracy import relation
from task_vectors.pages.from_records.families import outcomes, td_by_layer
from task_vectors.records.store import Record
from task_vectors.regression.coupling import change_points, coupling, lags


def seen_maps(decodability: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """TD of each seen map beside its accuracy at new inputs: seed, step, map, td, accuracy.

    Both tables are those of the records with a column "seed"; decodability that of one layer for each seed.
    """
    new = accuracy[(accuracy.maps == "seen") & (accuracy.answer == "new")]
    both = decodability[decodability.maps == "seen"].merge(new, on=["maps", "map", "step", "seed"])
    return both[["seed", "step", "map", "td", "accuracy"]]


def related(both: pd.DataFrame) -> pd.DataFrame:
    """How TD and accuracy of seen maps (see seen_maps) go together, one seed a row.

    Columns: "rank" over maps and checkpoints; "within", the mean rank correlation over maps at the checkpoints at which
    a map is known and not all are, and how many "checkpoints" these are; "td_at" and "accuracy_at", where each map
    changes, as text; and regression.coupling's of the two.
    """
    rows = {}
    for seed, mine in both.groupby("seed"):
        td, accuracy = (mine.pivot(index="step", columns="map", values=name) for name in ("td", "accuracy"))
        found = relation(td.to_numpy(), accuracy.to_numpy())
        # Before the first map is known and after the last is, ranks are noise.
        between = ((accuracy.max(axis=1) > 0.5) & (accuracy.min(axis=1) < 0.9)).to_numpy()
        row = {"rank": found.rank, "within": found._replace(within_demos=found.within_demos[between]).mean_rank}
        row |= {"checkpoints": int(between.sum()), "td_at": _listed(td), "accuracy_at": _listed(accuracy)}
        rows[seed] = row | coupling(lags(td, accuracy))
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")


def unseen_maps(decodability: pd.DataFrame, accuracy: pd.DataFrame) -> pd.DataFrame:
    """Of unseen maps, means over maps and seeds: step, what (accuracy by kind of input, Task Decodability), value."""
    inputs = {"copied": "accuracy, input stood before", "new": "accuracy, new input"}
    shares = accuracy[accuracy.maps == "unseen"].assign(what=accuracy.answer.map(inputs), value=accuracy.accuracy)
    td = decodability[decodability.maps == "unseen"].assign(what="Task Decodability", value=decodability.td)
    return pd.concat([shares, td]).groupby(["what", "step"], as_index=False).value.mean()


def at_checkpoint(selection: Record, test: Record) -> dict[str, float]:
    """TD and accuracy, means over tasks without Null, of a record of td_of_families; another chooses the layer."""
    layer = int(td_by_layer(selection).argmax())
    return {"layer": layer + 1, "TD": td_by_layer(test)[layer], "accuracy": outcomes(test).right[:-1].mean()}


def _listed(series: pd.DataFrame) -> str:
    return ", ".join("–" if np.isnan(step) else f"{step:.0f}" for step in change_points(series))
