"""What is recorded of trained models on new sequences: what their states tell, and where they keep it.

Every experiment reads the last model of a record of `emergence`: `model` are that record's parameters.
"""

import pandas as pd
import torch
from torch import Tensor, nn

from task_vectors.experiments.emergence import EMERGENCE, MIXTURES, REDRAWS, long_table, trained
from task_vectors.measures.decodability import pairwise_decodability, task_decodability
from task_vectors.records.store import Comparison, Experiment, Record, recorded
from task_vectors.regression.mixtures import Mixture, Sequences
from task_vectors.regression.patching import swapped
from task_vectors.regression.readings import balanced, class_states, shortened

PREFIX_SEED, CHOICE_SEED, DRAW_SEED, DONOR_SEED = 920_003, 910_000, 910_001, 915_000
PER_CLASS = 100  # sequences whose prefixes are read
PREFIX_REDRAWS = 8
TOLERANCE = 0.02


def run(*, model: dict, layer: int) -> dict[str, pd.DataFrame]:
    """Table "decodability" (demos, class, td): TD of the mean reading after `layer`, by number of demonstrations."""
    network, mixture = _model(model)
    sequences = prefixes(mixture, model["recipe"]["n_demos"])
    tables = [
        _td_after(demos, network, model["recipe"]["layout"], sequences, layer)
        for demos in range(1, model["recipe"]["n_demos"] + 1)
    ]
    return {"decodability": pd.concat(tables, ignore_index=True)}


def prefixes(mixture: Mixture, n_demos: int) -> Sequences:
    """The sequences whose prefixes are read."""
    return balanced(mixture, PER_CLASS, n_demos + 1, PREFIX_SEED)


def verify(record: Record) -> list[Comparison]:
    """The mean over classes after half of the demonstrations."""
    facts = record.parameters
    network, mixture = _model(facts["model"])
    n_demos, layout = (facts["model"]["recipe"][name] for name in ("n_demos", "layout"))
    half = (n_demos + 1) // 2
    again = _td_after(half, network, layout, prefixes(mixture, n_demos), facts["layer"])
    table = record.table("decodability")
    was = float(table[table.demos == half].td.mean())
    return [Comparison(f"TD after {half} demonstrations", was, float(again.td.mean()), TOLERANCE)]


def run_fresh(*, model: dict, layer: int, n_draws: int, n_test: int) -> dict[str, pd.DataFrame]:
    """TD of the mean reading after `layer` on several draws of new sequences, n_test a class.

    Tables "decodability" (draw, class, td); "pairs" (draw, row, column, td), of one class in a pool of two, the two
    numbers of a pair averaged; and, for a mixture in groups, "groups" (draw, of, td): of the groups, and of the members
    of one group in a pool of that group alone, mean over groups.
    """
    network, mixture = _model(model)
    tables = {}
    for draw in range(n_draws):
        sequences = drawn(mixture, model["recipe"]["n_demos"], n_test, draw)
        states = _mean_states(network, model["recipe"]["layout"], sequences, layer, REDRAWS)
        for name, table in told(states, sequences.classes, mixture).items():
            tables.setdefault(name, []).append(table.assign(draw=draw))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def drawn(mixture: Mixture, n_demos: int, n_test: int, draw: int) -> Sequences:
    """New sequences, n_test a class, of one draw; draw -1 is for choosing."""
    return balanced(mixture, n_test, n_demos + 1, CHOICE_SEED if draw < 0 else DRAW_SEED + draw)


def told(states: Tensor, classes: Tensor, mixture: Mixture) -> dict[str, pd.DataFrame]:
    """What states [N, d] tell of their classes: run_fresh's tables of one draw."""
    td, pairs = task_decodability(states, classes), pairwise_decodability(states, classes)
    tables = {
        "decodability": pd.DataFrame({"class": range(len(td)), "td": td.double()}),
        "pairs": long_table((pairs + pairs.T) / 2, "row", "column", "td").dropna(),
    }
    groups = getattr(mixture, "groups", 1)
    if groups > 1:
        size = mixture.n_classes // groups
        within = [
            task_decodability(states[mine], classes[mine] % size).mean().item()
            for mine in (classes // size == group for group in range(groups))
        ]
        of_groups = task_decodability(states, classes // size).mean().item()
        tables["groups"] = pd.DataFrame({"of": ["groups", "members"], "td": [of_groups, sum(within) / groups]})
    return tables


def verify_fresh(record: Record) -> list[Comparison]:
    """The mean over classes of the first draw."""
    facts = record.parameters
    again = run_fresh(**facts | {"n_draws": 1})["decodability"].td.mean()
    table = record.table("decodability")
    return [Comparison("TD of the first draw", float(table[table.draw == 0].td.mean()), float(again), TOLERANCE)]


def run_places(*, model: dict, n_draws: int, n_test: int) -> dict[str, pd.DataFrame]:
    """Where a model of interleaved tokens keeps the class: the part that tells it is exchanged here or there.

    Table "changes" (place, draw, basis, layer, change): of the error, with the sequence's own class's mean put in, or
    another's. Draw -1 is for choosing a layer.
    """
    network, mixture = _model(model)
    n_demos, tables = model["recipe"]["n_demos"], []
    for draw in range(-1, n_draws):
        sequences, donors = drawn(mixture, n_demos, n_test, draw), donors_of(mixture, n_demos, n_test, draw)
        for place, positions in places(n_demos).items():
            changes = own_and_other(swapped(network, "interleaved", donors, sequences, positions))
            tables += [
                pd.DataFrame(
                    {"basis": basis, "layer": range(1, len(by_layer) + 1), "change": by_layer.double()}
                ).assign(place=place, draw=draw)
                for basis, by_layer in changes.items()
            ]
    return {"changes": pd.concat(tables, ignore_index=True)}


def places(n_demos: int) -> dict[str, list[int]]:
    """The tokens of each place, of interleaved tokens."""
    return {"the query": [2 * n_demos], "all outputs": list(range(1, 2 * n_demos, 2))}


def donors_of(mixture: Mixture, n_demos: int, n_test: int, draw: int) -> Sequences:
    """The sequences whose class means are put in."""
    return balanced(mixture, n_test, n_demos + 1, DONOR_SEED + draw + 1)


def own_and_other(table: Tensor) -> dict[str, Tensor]:
    """The means of [L, K, K] on and off the diagonal, each [L]."""
    own = torch.eye(table.shape[-1], dtype=torch.bool)
    return {"own": table[:, own].mean(1), "another": table[:, ~own].mean(1)}


def verify_places(record: Record) -> list[Comparison]:
    """The mean change over layers of the choosing draw, place by place, with another class put in."""
    again = run_places(**record.parameters | {"n_draws": 0})["changes"]
    table = record.table("changes")
    both = [rows[(rows.draw < 0) & (rows.basis == "another")].groupby("place").change.mean() for rows in (table, again)]
    return [
        Comparison(f"change at {place}", *(float(means[place]) for means in both), TOLERANCE) for place in both[0].index
    ]


def _model(model: dict) -> tuple[nn.Module, Mixture]:
    return trained(recorded(EMERGENCE, **model)), MIXTURES[model["mixture"]](**model["task"])


@torch.no_grad()
def _mean_states(model: nn.Module, layout: str, sequences: Sequences, layer: int, redraws: int) -> Tensor:
    return class_states(model, layout, sequences, redraws)[:, layer - 1]  # [B, d]


def _td_after(demos: int, model: nn.Module, layout: str, sequences: Sequences, layer: int) -> pd.DataFrame:
    states = _mean_states(model, layout, shortened(sequences, demos), layer, PREFIX_REDRAWS)
    td = task_decodability(states, sequences.classes)
    return pd.DataFrame({"demos": demos, "class": range(len(td)), "td": td.double()})


EMERGENCE_PREFIXES = Experiment("emergence_prefixes", 1, run, verify)
EMERGENCE_FRESH = Experiment("emergence_fresh", 1, run_fresh, verify_fresh)
EMERGENCE_PLACES = Experiment("emergence_places", 1, run_places, verify_places)
