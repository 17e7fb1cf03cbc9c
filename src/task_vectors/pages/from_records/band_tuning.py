"""What training each band of layers changes, for one family: what holds of each prompt, before and after.

Shapes: S trainings (the model before any is one), K tasks without Null, B groups of prompts, L layers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from task_vectors.measures.statistics import Estimate, interval, mean_over_trainings
from task_vectors.measures.td_and_accuracy import resampled_slopes, slope_of_gains
from task_vectors.records.store import Record

KINDS = {"fixed": "TD at the fixed layer", "anew": "TD at the layer chosen anew", "top": "TD at the top"}
BEFORE = "before"  # the untrained model, among the bands
SHORT = "first, fewer steps"  # the first layers, in about the time of the last ones
MORE_RATES = 2  # than were asked for, where the best lies at the edge


def searched(rates: Sequence[float], trial: Callable[[float], tuple]) -> tuple[dict[float, tuple], float]:
    """trial(rate), (criterion, …), of every rate that was tried, and the rate whose criterion is highest.

    Where that is the lowest or the highest that was tried, up to MORE_RATES further ones are, by the same factor.
    """
    tried, wanted, factor = {}, list(rates), rates[1] / rates[0] if len(rates) > 1 else 1
    while wanted:
        tried |= {rate: trial(rate) for rate in wanted}
        best, wanted = max(tried, key=lambda rate: tried[rate][0]), []
        if len(rates) > 1 and len(tried) < len(rates) + MORE_RATES and best in (min(tried), max(tried)):
            wanted = [float(f"{best * factor if best == max(tried) else best / factor:.3g}")]
    return tried, best


def trial_scores(record: Record) -> tuple[float, float]:
    """Mean log-probability of the right answer, and accuracy, over all tasks but Null, in a record of one test."""
    table = record.table("prompts")
    tasks = table["class"] < table["class"].max()
    return table.loc[tasks, "log_prob"].mean(), table.loc[tasks, "right"].mean()


def prompt_facts(record: Record, test: int) -> dict[str, np.ndarray]:
    """Of each prompt of a test: right, first, log_prob [K, B]; task, within, symbol and lens [K, B, L], as floats.

    task: is it named by the nearest states? within: the same among prompts of one next symbol, nan where there are too
    few. symbol: do the neighbors name the answer's first symbol? lens: does the model's own readout?
    """
    table, votes = record.table("prompts"), record.tensors(f"votes_{test}")
    table = table[table.test == test]
    labels = table["class"].to_numpy()[:, None]
    named = {what: found.numpy() for what, found in votes.items()}  # [N, L]
    named["task"] = named["task"] == labels
    named["within"] = np.where(named["within"] < 0, np.nan, named["within"] == labels)
    tasks = (table["class"] < table["class"].max()).to_numpy()  # Null is the last
    facts = {what: table[what].to_numpy() for what in ("right", "first", "log_prob")} | named
    K = labels.max()
    return {what: found[tasks].reshape(K, -1, *found.shape[1:]).astype(float) for what, found in facts.items()}


def over_trainings(values: np.ndarray) -> Estimate:
    """Mean of [S, K, B] over seeds, tasks and groups of prompts, with the spread of seeds and of groups."""
    return mean_over_trainings(values.mean(1))


@dataclass(frozen=True)
class BandRuns:
    """The records of one family: of the untrained model under BEFORE, and of every band, one a seed.

    td_layer: where Task Decodability is read, chosen before any training. The tests of all records are those of the
    page: the first one counts, the second one chooses a layer anew.
    """

    records: Mapping[str, Sequence[Record]]
    td_layer: int

    @cached_property
    def facts(self) -> dict[str, list[dict[str, np.ndarray]]]:
        """By band, for each test, what prompt_facts gives, in every seed."""
        found = {}
        for band, records in self.records.items():
            tests = [
                [prompt_facts(record, i) for record in records] for i in range(len(records[0].parameters["tests"]))
            ]
            found[band] = [{what: np.stack([one[what] for one in seeds]) for what in seeds[0]} for seeds in tests]
        return found

    def of(self, band: str, what: str = "right", layer: int | None = None, test: int = 0) -> np.ndarray:
        """What holds of each prompt: [S, K, B], of what is read after every layer [S, K, B, L] or at one of them."""
        found = self.facts[band][test][what]
        return found if layer is None else found[..., layer]

    def difference(self, one: str, other: str = BEFORE, what: str = "right", test: int = 0) -> Estimate:
        """One band less the other. what: right or first, or of TD one of KINDS, which is read from the first test."""
        if what in KINDS:
            return over_trainings(self.named(one, what) - self.named(other, what))
        return over_trainings(self.of(one, what, test=test) - self.of(other, what, test=test))

    def layers_anew(self, band: str) -> list[int]:
        """Where TD peaks in each seed on the prompts of the second test; at least one layer is above it."""
        return self.of(band, "task", test=1).mean((1, 2))[:, :-1].argmax(-1).tolist()

    def named(self, band: str, kind: str) -> np.ndarray:
        """Is the task named, [S, K, B], at one of KINDS of layers?"""
        if kind == "anew":
            layers = self.layers_anew(band)
            return np.stack([self.of(band, "task", layer)[s] for s, layer in enumerate(layers)])
        return self.of(band, "task", {"fixed": self.td_layer, "top": -1}[kind])

    def gains(self, kind: str, bands: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Gains in TD and in accuracy of every prompt: [G, S, K, B] each, of G bands."""
        td = np.stack([self.named(band, kind) - self.named(BEFORE, kind) for band in bands])
        return td, np.stack([self.of(band) - self.of(BEFORE) for band in bands])

    def slope(self, kind: str, bands: Sequence[str]) -> Estimate:
        """Of gains in accuracy over gains in TD (measures/td_and_accuracy)."""
        td, accuracy = self.gains(kind, bands)
        return interval(slope_of_gains(td.mean(-1), accuracy.mean(-1)), resampled_slopes(td, accuracy))

    def losses(self, band: str) -> np.ndarray:
        """The training loss of every step: [S, steps]."""
        return np.stack([record.tensors("losses")["losses"].numpy() for record in self.records[band]])

    def seconds(self, band: str) -> np.ndarray:
        """What each training took: [S]."""
        return np.array([record.table("training").seconds.item() for record in self.records[band]])


def accuracy_by_seed(runs: BandRuns) -> pd.DataFrame:
    """Columns band, accuracy, and seed, of which "mean" is one."""
    rows = []
    for band in runs.records:
        found = runs.of(band).mean((1, 2))
        rows += [{"band": band, "seed": str(s + 1), "accuracy": value} for s, value in enumerate(found)]
        rows.append({"band": band, "seed": "mean", "accuracy": found.mean()})
    return pd.DataFrame(rows)


def by_layer(runs: BandRuns, bands: Sequence[str], whats: Mapping[str, str]) -> pd.DataFrame:
    """Shares of prompts after every layer, of whats (a fact: its title). Columns band, what, layer (from 1), share."""
    rows = [
        {"band": band, "what": title, "layer": layer + 1, "share": share}
        for what, title in whats.items()
        for band in bands
        for layer, share in enumerate(runs.of(band, what).mean((0, 1, 2)))
    ]
    return pd.DataFrame(rows)


def gains_by_task(runs: BandRuns, kind: str, bands: Sequence[str], tasks: Sequence[str]) -> pd.DataFrame:
    """A row for each task of each training: band, seed, task, "gain in TD" and "gain in accuracy"."""
    td, accuracy = (part.mean(-1) for part in runs.gains(kind, bands))  # [G, S, K]
    rows = [
        {"band": bands[g], "seed": s + 1, "task": tasks[k], "gain in TD": gain, "gain in accuracy": accuracy[g, s, k]}
        for (g, s, k), gain in np.ndenumerate(td)
    ]
    return pd.DataFrame(rows)


def loss_curves(runs: BandRuns, bands: Sequence[str], window: int) -> pd.DataFrame:
    """Training loss, mean over seeds and over windows of steps. Columns band, step (the window's last), loss."""
    rows = []
    for band in bands:
        losses = runs.losses(band).mean(0)
        for start in range(0, len(losses) - window + 1, window):
            rows.append({"band": band, "step": start + window, "loss": losses[start : start + window].mean()})
    return pd.DataFrame(rows)


def changes(runs: BandRuns, bands: Sequence[str], tests: Mapping[str, int]) -> pd.DataFrame:
    """Change of accuracy by training each band, in tests (title: place). Columns band, test, change, low, high."""
    rows = []
    for title, test in tests.items():
        for band in bands:
            change, low, high, _ = runs.difference(band, test=test)
            rows.append({"band": band, "test": title, "change": change, "low": low, "high": high})
    return pd.DataFrame(rows)
