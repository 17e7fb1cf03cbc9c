"""Tables of what training each band of layers changes, as the page prints them: from BandRuns, cells are texts."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from task_vectors.lm.finetuning import Tuning, n_trained_parameters
from task_vectors.lm.models import LanguageModel
from task_vectors.pages.from_records.band_tuning import KINDS, SHORT, BandRuns
from task_vectors.pages.from_records.families import LONG_NAMES, TITLES
from task_vectors.paths import project_root

# The paper's conditions, in its Table 1 and in the bars of its Fig. 24.
CONDITIONS = {
    "before": ("pretrained", "pretrained"),
    "last": ("finetune_last_10", "ft_last10"),
    "first": ("finetune_first_10", "ft_first10"),
}
PAIRS = {
    "first − last": ("first", "last"),
    "first, in the time of last − last": (SHORT, "last"),
    "up to TD − after TD": ("up to TD", "after TD"),
    "after TD − last": ("after TD", "last"),
    "first − up to TD": ("first", "up to TD"),
    "all − first": ("all", "first"),
    "all − up to TD": ("all", "up to TD"),
}
NONE = "–"


def bands_table(lm: LanguageModel, tunings: Mapping[str, Tuning]) -> pd.DataFrame:
    """Rows bands: their layers (from 1), the rank of the adapter, and its parameters."""
    rows = {
        band: {
            "layers": f"{how.layers[0] + 1} to {how.layers[-1] + 1}",
            "rank": how.rank,
            "trained parameters": f"{n_trained_parameters(lm, how):,}",
        }
        for band, how in tunings.items()
    }
    return pd.DataFrame(rows).T


def rates_table(trials: Mapping[str, tuple[dict, float]]) -> pd.DataFrame:
    """Rows bands, columns rates: accuracy and (log-probability) where `searched` tried it; the arrow is at the best."""
    rates, rows = sorted({rate for tried, _ in trials.values() for rate in tried}), {}
    for band, (tried, best) in trials.items():
        texts = {rate: "{1:.2f}\u00a0({0:.2f})".format(*found) for rate, found in tried.items()}
        texts[best] += "\u00a0←"
        rows[band] = {f"{rate:g}": texts.get(rate, "") for rate in rates}
    return pd.DataFrame(rows).T


def summary_table(runs: BandRuns, bands: Sequence[str]) -> pd.DataFrame:
    """Rows bands: accuracy, and TD where it is read and at the top, mean over seeds, tasks and prompts."""
    rows = {
        band: {
            "accuracy": runs.of(band).mean(),
            f"TD, layer {runs.td_layer + 1}": runs.named(band, "fixed").mean(),
            "TD, top": runs.named(band, "top").mean(),
        }
        for band in bands
    }
    return pd.DataFrame(rows).T.map("{:.2f}".format)


def task_table(runs: BandRuns, bands: Sequence[str], constants: Mapping[str, float]) -> pd.DataFrame:
    """Accuracy of each task, ± the standard deviation over seeds; constants: of an answer always given, by task."""
    rows = {"constant": {task: f"{value:.2f}" for task, value in constants.items()}}
    for band in bands:
        found = runs.of(band).mean(-1)  # [S, K]
        spread = [f"\u00a0±{value:.2f}" for value in found.std(0, ddof=1)] if len(found) > 1 else [""] * len(constants)
        rows[band] = {
            task: f"{mean:.2f}{own}" for task, mean, own in zip(constants, found.mean(0), spread, strict=True)
        }
    return pd.DataFrame(rows).T


def time_table(runs: BandRuns, bands: Sequence[str]) -> pd.DataFrame:
    """Rows bands: steps, minutes of a training (median over seeds), and seconds of a step."""
    rows = {}
    for band in bands:
        steps, took = runs.losses(band).shape[1], np.median(runs.seconds(band))
        rows[band] = {"steps": str(steps), "minutes": f"{took / 60:.1f}", "s a step": f"{took / steps:.1f}"}
    return pd.DataFrame(rows).T


def precision_table(runs: BandRuns, window: int) -> pd.DataFrame:
    """Rows: the same training in other precisions, of which BandRuns holds one each."""
    rows = {}
    for name in runs.records:
        losses = runs.losses(name)
        rows[name] = {
            "accuracy": f"{runs.of(name).mean():.2f}",
            "TD": f"{runs.named(name, 'fixed').mean():.2f}",
            "loss, last steps": f"{losses[:, -window:].mean():.3f}",
            "s a step": f"{runs.seconds(name).mean() / losses.shape[1]:.1f}",
        }
    return pd.DataFrame(rows).T


def decodability_table(runs: BandRuns, bands: Sequence[str]) -> pd.DataFrame:
    """Columns bands: TD in several readings, beside the next symbol and accuracy."""
    columns = {}
    for band in bands:
        same = runs.of(band, "within", -1)
        columns[band] = {
            f"TD, layer {runs.td_layer + 1}": f"{runs.named(band, 'fixed').mean():.2f}",
            "TD, anew": f"{runs.named(band, 'anew').mean():.2f}",
            "… at the layers": ", ".join(str(layer + 1) for layer in runs.layers_anew(band)),
            "TD, top": f"{runs.named(band, 'top').mean():.2f}",
            # Where most prompts have too few others of their symbol, the rest are no sample of them.
            "TD, top, same symbol": NONE if np.isnan(same).mean() > 0.5 else f"{np.nanmean(same):.2f}",
            "symbol, top (neighbors)": f"{runs.of(band, 'symbol', -1).mean():.2f}",
            "first symbol right": f"{runs.of(band, 'first').mean():.2f}",
            "answer right": f"{runs.of(band).mean():.2f}",
        }
    return pd.DataFrame(columns)


def published_effects(family: str) -> dict[str, float]:
    """Of the paper's Table 1: what accuracy training the first layers has "over the last" ones, what they add to "td",
    and what training the last ones adds to accuracy ("by the last")."""
    table = _table1(family)
    accuracy = table.accuracy_percent / 100
    return {
        "over the last": float(accuracy.finetune_first_10 - accuracy.finetune_last_10),
        "by the last": float(accuracy.finetune_last_10 - accuracy.pretrained),
        "td": float(table.td.finetune_first_10 - table.td.pretrained),
    }


def published_table(runs: BandRuns, family: str, tasks: Sequence[str]) -> pd.DataFrame:
    """TD, accuracy, and the accuracy of each task, the paper's beside ours; ± is the deviation over tasks."""
    table, columns = _table1(family), {}
    bars = pd.read_csv(project_root() / "data/published/han2025_task_accuracy.csv")
    bars = bars[(bars.experiment == "finetuning") & (bars.family == LONG_NAMES[family])]
    bars = bars.set_index(["task", "condition"]).accuracy_percent / 100
    for band, (row, bar) in CONDITIONS.items():
        theirs = table.loc[row]
        columns["Llama 3.1 8B", band] = {
            "TD": f"{theirs.td:.2f} ±{theirs.td_std:.2f}",
            "accuracy": f"{theirs.accuracy_percent / 100:.2f} ±{theirs.accuracy_std / 100:.2f}",
        } | {task: f"{bars[task, bar]:.2f}" for task in tasks}
    for band in CONDITIONS:
        td, right = (values.mean((0, 2)) for values in (runs.named(band, "fixed"), runs.of(band)))  # [K]
        columns["here", band] = {
            "TD": f"{td.mean():.2f} ±{td.std():.2f}",
            "accuracy": f"{right.mean():.2f} ±{right.std():.2f}",
        } | {task: f"{share:.2f}" for task, share in zip(tasks, right, strict=True)}
    return pd.DataFrame(columns)


def _table1(family: str) -> pd.DataFrame:
    table = pd.read_csv(project_root() / "data/published/han2025_table1.csv")
    return table[table.family == LONG_NAMES[family]].set_index("condition")


def pair_table(runs: Mapping[str, BandRuns]) -> pd.DataFrame:
    """Rows PAIRS of bands, a column for each family: accuracy of one less that of the other."""
    return pd.DataFrame(
        {
            TITLES[name]: {title: f"{mine.difference(*pair):+.2f}" for title, pair in PAIRS.items()}
            for name, mine in runs.items()
        }
    )


def difference_table(runs: BandRuns) -> pd.DataFrame:
    """Columns the first and third of PAIRS: TD in its three readings, the first symbol, and the answer."""
    readings = {title: kind for kind, title in KINDS.items()} | {"first symbol right": "first", "answer right": "right"}
    columns = {
        title: {reading: f"{runs.difference(*PAIRS[title], what):+.2f}" for reading, what in readings.items()}
        for title in ("first − last", "up to TD − after TD")
    }
    return pd.DataFrame(columns)
