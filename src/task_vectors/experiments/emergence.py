"""What is recorded of a training run: how errors, decodability and patches change from snapshot to snapshot."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from task_vectors.measures.decodability import task_decodability
from task_vectors.records.files import once
from task_vectors.records.store import Comparison, Experiment, Record
from task_vectors.regression.beyond import beyond_weights, floors
from task_vectors.regression.mixtures import FamilyMixture, Mixture, Sequences, SparseMixture
from task_vectors.regression.patching import patch_table
from task_vectors.regression.predictors import all_predictions, bayes
from task_vectors.regression.probes import KINDS, probe_accuracy
from task_vectors.regression.readings import READINGS, balanced, by_class, class_states, shortened
from task_vectors.regression.surface import ridge_weights
from task_vectors.regression.training import Recipe, build, predict, snapshot, snapshot_steps, train

MIXTURES = {"sparse": SparseMixture, "families": FamilyMixture}
METRICS = ("euclidean", "cosine")
TEST_SEED, TUNE_SEED, STATES_SEED, DONOR_SEED, CHECK_SEED, BEYOND_SEED = range(900_001, 900_007)
PER_CLASS = 250  # sequences for errors; of states and patches, as in the paper:
STATES = 100
THOROUGH = 5  # snapshots from one that is looked at in every way to the next
BEYOND = 500  # sequences of each class whose posterior is predicted, half of them to fit
FEW = 5  # demonstrations, fewer than inputs: ridge's weights tell little of the class
REDRAWS = 16  # orders of the demonstrations in the mean reading
COMPONENTS = 6  # principal ones, that the record keeps of the states
CHECK_STEPS = 3


def run(
    *,
    seed: int,
    mixture: str,
    task: dict,
    recipe: dict,
    every: int,
    scratch: Path,
    tables_only: bool = False,
    pictures: bool = False,
) -> dict[str, object]:
    """Train one seed and look at every snapshot. `task` are the fields of the mixture, `recipe` those of Recipe.

    Where this was interrupted, it goes on from the last snapshot in `scratch`, or from the last one that was looked at.

    Tables, all by step: "errors" (class, demos, error), "decodability" (reading, metric, layer, class, td), "probes"
    (reading, probe, layer, accuracy), "early" (layer, class, td: of the mean reading after FEW demonstrations) and, of
    a SparseMixture, "beyond" (demos, layer, r2: regression.beyond's, of the class token); of every fifth snapshot and
    the last, "distances" (of its predictions from a learner's, mean square: learner, demos, distance) and "patches"
    (kind, layer, source, target, change). Without steps: "floors" (demos, what, r2) of "beyond", and "check": seconds
    of training, and the last snapshot's error on a few sequences. Tensors: "losses" (of each step),
    "last" (the last snapshot, bfloat16), unless tables_only; for pictures "states" (by step, of every fifth snapshot
    and the last, principal components of the mean reading, [N, L, COMPONENTS], float16).
    """
    problem, how = MIXTURES[mixture](**task), Recipe(**recipe)
    losses, seconds = train(problem, how, seed, scratch, every)
    test, held_out = (
        balanced(problem, size, how.n_demos + 1, s) for size, s in ((PER_CLASS, TEST_SEED), (25, TUNE_SEED))
    )
    learners = once(scratch / "learners", lambda: {"of": all_predictions(problem, test, held_out)})["of"]
    known = known_bases(problem, how) if isinstance(problem, SparseMixture) else []

    def look_at(step: int) -> dict[str, object]:
        model = snapshot(scratch, how, problem.dim, step)
        predictions = predict(model, how.layout, test.x, test.y)  # [B, n]
        errors = by_class((predictions - test.y).square(), test.classes)
        tables, mean_states = look(model, problem, how)
        tables["errors"] = long_table(errors, "class", "demos", "error")
        if known:
            tables["beyond"] = _beyond(model, how, known)
        thorough = step % (THOROUGH * every) == 0 or step == how.steps
        if thorough:
            tables["distances"] = _distances(predictions, learners)
            tables["patches"] = _patches(model, problem, how)
        for table in tables.values():
            table.insert(0, "step", step)
        return tables | ({"states": {f"{step:07d}": _components(mean_states)}} if thorough else {})

    looks, states = {}, {}
    for step in tqdm(snapshot_steps(scratch), desc="snapshots", mininterval=5):
        found = once(scratch / "looks" / f"{step:07d}", partial(look_at, step))
        states |= found.pop("states", {})
        for name, table in found.items():
            looks.setdefault(name, []).append(table)
    trained_model = snapshot(scratch, how, problem.dim, how.steps)
    last = {name: parameter.to(torch.bfloat16) for name, parameter in trained_model.named_parameters()}
    check = pd.DataFrame({"seconds": [seconds], "error": [_check_error(_model(last, how, problem), problem, how)]})
    results = {name: pd.concat(parts, ignore_index=True) for name, parts in looks.items()}
    results |= {"floors": _floors(known, how.width)} if known else {}
    results |= {"check": check, "losses": {"losses": losses}}
    results |= {} if tables_only else {"last": last}
    return results | {"states": states} if pictures else results


def look(model: nn.Module, mixture: Mixture, recipe: Recipe) -> tuple[dict[str, pd.DataFrame], Tensor]:
    """How well one snapshot's states tell the class: tables "decodability", "probes", "early"; and the mean reading."""
    sequences = balanced(mixture, STATES, recipe.n_demos + 1, STATES_SEED)
    redraws = {"token": 0, "mean": REDRAWS}
    states = {reading: class_states(model, recipe.layout, sequences, redraws[reading]) for reading in READINGS}
    td = [
        long_table(task_decodability(states[reading], sequences.classes, metric=metric), "layer", "class", "td").assign(
            reading=reading, metric=metric
        )
        for reading in READINGS
        for metric in METRICS
    ]
    accuracies = [
        {"layer": layer, "accuracy": probe_accuracy(kind, h, sequences.classes), "reading": reading, "probe": kind}
        for reading in READINGS
        for kind in KINDS
        for layer, h in enumerate(states[reading].unbind(1))
    ]
    first = shortened(sequences, min(FEW, recipe.n_demos))
    early = task_decodability(class_states(model, recipe.layout, first, REDRAWS), sequences.classes)  # [L, K]
    tables = {
        "decodability": pd.concat(td),
        "probes": pd.DataFrame(accuracies),
        "early": long_table(early, "layer", "class", "td"),
    }
    for table in tables.values():
        table["layer"] += 1
    return tables, states["mean"]


class Known(NamedTuple):
    """What can be known after some demonstrations."""

    demos: int
    sequences: Sequences
    weights: Tensor  # of ridge regression, [B, D]
    posterior: Tensor  # [B, K]


def known_bases(mixture: SparseMixture, recipe: Recipe) -> list[Known]:
    """After few demonstrations and after all, on sequences of their own."""
    sequences, found = balanced(mixture, BEYOND, recipe.n_demos + 1, BEYOND_SEED), []
    for demos in sorted({min(FEW, recipe.n_demos), recipe.n_demos}):
        first = shortened(sequences, demos)
        posterior = bayes(mixture, first).posterior[:, demos]
        found.append(Known(demos, first, ridge_weights(mixture, first), posterior))
    return found


def trained(record: Record) -> nn.Module:
    """The recorded last snapshot."""
    problem, recipe = MIXTURES[record.parameters["mixture"]](**record.parameters["task"]), record.parameters["recipe"]
    return _model(record.tensors("last"), Recipe(**recipe), problem)


def verify(record: Record) -> list[Comparison]:
    """The first losses of the training, and the last snapshot's error on a few sequences where it is kept."""
    facts = record.parameters
    problem, how = MIXTURES[facts["mixture"]](**facts["task"]), Recipe(**facts["recipe"])
    again, _ = train(problem, how, facts["seed"], stop=min(CHECK_STEPS, how.steps))
    recorded = record.tensors("losses")["losses"][:CHECK_STEPS]
    pairs = enumerate(zip(recorded.tolist(), again.tolist(), strict=True))
    compared = [Comparison(f"loss of step {step}", *pair, 1e-3) for step, pair in pairs]
    if facts.get("tables_only"):
        return compared
    error = record.table("check")["error"].item()
    return [*compared, Comparison("error of the last model", error, _check_error(trained(record), problem, how), 1e-2)]


def _model(tensors: dict[str, Tensor], recipe: Recipe, mixture: Mixture) -> nn.Module:
    model = build(recipe, mixture.dim, 0)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.requires_grad_(False)


def _check_error(model: nn.Module, mixture: Mixture, recipe: Recipe) -> float:
    x, y, _ = balanced(mixture, 10, recipe.n_demos + 1, CHECK_SEED)
    return (predict(model, recipe.layout, x, y) - y).square().mean().item()


def _beyond(model: nn.Module, recipe: Recipe, known: list[Known]) -> pd.DataFrame:
    return pd.DataFrame(
        {"demos": here.demos, "layer": layer, "r2": beyond_weights(states, here.weights, here.posterior)}
        for here in known
        for layer, states in enumerate(class_states(model, recipe.layout, here.sequences).unbind(1), start=1)
    )


def _floors(known: list[Known], width: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"demos": here.demos, "what": what, "r2": r2}
        for here in known
        for what, r2 in floors(here.weights, here.posterior, width).items()
    )


def _distances(predictions: Tensor, learners: dict[str, Tensor]) -> pd.DataFrame:
    found = torch.stack([(predictions - others).square().mean(0) for others in learners.values()])
    table = long_table(found, "learner", "demos", "distance")
    return table.assign(learner=table["learner"].map(dict(enumerate(learners))))


def _patches(model: nn.Module, mixture: Mixture, recipe: Recipe) -> pd.DataFrame:
    donors, sequences = (balanced(mixture, STATES, recipe.n_demos + 1, s) for s in (DONOR_SEED, STATES_SEED))
    found = []
    for layer in range(1, recipe.n_layers + 1):
        for kind, change in patch_table(model, recipe.layout, donors, sequences, layer).items():
            table = long_table(by_class(change, sequences.classes), "source", "target", "change")
            found.append(table.assign(kind=kind, layer=layer))
    return pd.concat(found)


def _components(states: Tensor) -> Tensor:
    """The first principal components of each layer's states, in float16: [N, L, COMPONENTS]."""
    by_layer = (states - states.mean(0)).transpose(0, 1)  # [L, N, d]
    U, S, _ = torch.linalg.svd(by_layer, full_matrices=False)
    return (U * S[:, None])[..., :COMPONENTS].transpose(0, 1).half()


def long_table(values: Tensor, *names: str) -> pd.DataFrame:
    """One row for each entry of a matrix: its row, its column and its value to five decimals, under these names."""
    first, second, value = names
    rows, columns = torch.meshgrid(*(torch.arange(size) for size in values.shape), indexing="ij")
    rounded = values.double().round(decimals=5)
    return pd.DataFrame({first: rows.flatten(), second: columns.flatten(), value: rounded.flatten()})


EMERGENCE = Experiment("emergence", 1, run, verify)
