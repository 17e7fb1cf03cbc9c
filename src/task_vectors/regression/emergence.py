"""What is recorded of a training run: how errors, decodability and patches change from snapshot to snapshot."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from task_vectors.decodability import task_decodability
from task_vectors.paths import project_root
from task_vectors.records import Comparison, Experiment, Record, record_key
from task_vectors.regression.mixtures import FamilyMixture, Sequences, SparseMixture
from task_vectors.regression.patching import patch_table
from task_vectors.regression.predictors import all_predictions
from task_vectors.regression.probes import KINDS, probe_accuracy
from task_vectors.regression.readings import READINGS, balanced, by_class, class_states
from task_vectors.regression.training import Mixture, Recipe, build, predict, snapshot, snapshot_steps, train

MIXTURES = {"sparse": SparseMixture, "families": FamilyMixture}
METRICS = ("euclidean", "cosine")
TEST_SEED, TUNE_SEED, STATES_SEED, DONOR_SEED, CHECK_SEED = 900_001, 900_002, 900_003, 900_004, 900_005
PER_CLASS = 250  # sequences for errors; of states and patches, as in the paper:
STATES = 100
PATCH_EVERY = 5  # snapshots
REDRAWS = 16  # orders of the demonstrations in the mean reading
COMPONENTS = 10  # principal ones, that the record keeps of the states
CHECK_STEPS = 3


def run(*, seed: int, mixture: str, task: dict, recipe: dict, every: int) -> dict[str, object]:
    """Train one seed and look at every snapshot. `task` are the fields of the mixture, `recipe` those of Recipe.

    Tables, all by step: "errors" (class, demos, error), "distances" (of its predictions from a learner's, mean square:
    learner, demos, distance), "decodability" (reading, metric, layer, class, td), "probes" (reading, probe, layer,
    accuracy) and "patches" (kind, layer, source, target, change). Table "check": seconds of training, and the last
    snapshot's error on a few sequences. Tensors: "losses" (of each step), "last" (the last snapshot, bfloat16) and
    "states" (by step, principal components of the mean reading, [N, L, COMPONENTS], float16).
    """
    problem, how = MIXTURES[mixture](**task), Recipe(**recipe)
    folder = _folder(seed=seed, mixture=mixture, task=task, recipe=recipe, every=every)
    losses, seconds = train(problem, how, seed, folder, every)
    test, held_out = (
        balanced(problem, size, how.n_demos + 1, s) for size, s in ((PER_CLASS, TEST_SEED), (25, TUNE_SEED))
    )
    learners = all_predictions(problem, test, held_out)
    looks, states = {}, {}
    for step in tqdm(snapshot_steps(folder), desc="snapshots", mininterval=5):
        model = snapshot(folder, how, problem.dim, step)
        patched = step % (PATCH_EVERY * every) == 0 or step == how.steps
        tables, states[f"{step:07d}"] = look(model, problem, how, test, learners, patched)
        for name, table in tables.items():
            table.insert(0, "step", step)
            looks.setdefault(name, []).append(table)
    last = {name: parameter.to(torch.bfloat16) for name, parameter in model.named_parameters()}
    check = pd.DataFrame({"seconds": [seconds], "error": [_check_error(_model(last, how, problem), problem, how)]})
    results = {name: pd.concat(parts, ignore_index=True) for name, parts in looks.items()}
    return results | {"check": check, "losses": {"losses": losses}, "last": last, "states": states}


@torch.no_grad()
def look(
    model: nn.Module, mixture: Mixture, recipe: Recipe, test: Sequences, learners: dict[str, Tensor], patched: bool
) -> tuple[dict[str, pd.DataFrame], Tensor]:
    """The tables of run() for one snapshot, without the step, and its states' principal components."""
    n, layout = recipe.n_demos + 1, recipe.layout
    sequences = balanced(mixture, STATES, n, STATES_SEED)
    states = {"token": class_states(model, layout, sequences), "mean": class_states(model, layout, sequences, REDRAWS)}
    predictions = predict(model, layout, test.x, test.y)  # [B, n]
    distances = torch.stack([(predictions - others).square().mean(0) for others in learners.values()])
    nearness = _rows(distances, "learner", "demos", "distance")
    tables = {
        "errors": _rows(by_class((predictions - test.y).square(), test.classes), "class", "demos", "error"),
        "distances": nearness.assign(learner=nearness["learner"].map(dict(enumerate(learners)))),
        "decodability": _decodability(states, sequences.classes),
        "probes": pd.DataFrame(
            {"reading": reading, "probe": kind, "layer": layer + 1, "accuracy": accuracy}
            for reading in READINGS
            for kind in KINDS
            for layer, accuracy in enumerate(
                probe_accuracy(kind, h, sequences.classes) for h in states[reading].unbind(1)
            )
        ),
    }
    if patched:
        tables["patches"] = _patches(model, layout, balanced(mixture, STATES, n, DONOR_SEED), sequences)
    return tables, _components(states["mean"])


def trained(record: Record) -> nn.Module:
    """The recorded last snapshot."""
    problem, recipe = MIXTURES[record.parameters["mixture"]](**record.parameters["task"]), record.parameters["recipe"]
    return _model(record.tensors("last"), Recipe(**recipe), problem)


def verify(record: Record) -> list[Comparison]:
    """The first losses of the training, and the last snapshot's error on a few sequences."""
    facts = record.parameters
    problem, how = MIXTURES[facts["mixture"]](**facts["task"]), Recipe(**facts["recipe"])
    again, _ = train(problem, how, facts["seed"], stop=CHECK_STEPS)
    recorded = record.tensors("losses")["losses"]
    compared = [
        Comparison(f"loss of step {step}", recorded[step].item(), again[step].item(), 1e-3)
        for step in range(CHECK_STEPS)
    ]
    error = record.table("check")["error"].item()
    return [*compared, Comparison("error of the last model", error, _check_error(trained(record), problem, how), 1e-2)]


def _folder(**parameters) -> Path:
    return project_root().joinpath("runs", "training", record_key(EMERGENCE, parameters))


def _model(tensors: dict[str, Tensor], recipe: Recipe, mixture: Mixture) -> nn.Module:
    model = build(recipe, mixture.dim, 0)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.requires_grad_(False)


def _check_error(model: nn.Module, mixture: Mixture, recipe: Recipe) -> float:
    x, y, _ = balanced(mixture, 10, recipe.n_demos + 1, CHECK_SEED)
    return (predict(model, recipe.layout, x, y) - y).square().mean().item()


def _decodability(states: dict[str, Tensor], classes: Tensor) -> pd.DataFrame:
    found = []
    for reading in READINGS:
        for metric in METRICS:
            td = task_decodability(states[reading], classes, metric=metric)  # [L, K]
            table = _rows(td, "layer", "class", "td").assign(reading=reading, metric=metric)
            found.append(table.assign(layer=table["layer"] + 1))
    return pd.concat(found)


def _patches(model: nn.Module, layout: str, donors: Sequences, sequences: Sequences) -> pd.DataFrame:
    found = []
    for layer in range(1, len(getattr(model, "blocks", getattr(model, "layers", []))) + 1):
        for kind, change in patch_table(model, layout, donors, sequences, layer).items():
            found.append(
                _rows(by_class(change, sequences.classes), "source", "target", "change").assign(kind=kind, layer=layer)
            )
    return pd.concat(found)


def _components(states: Tensor) -> Tensor:
    """The first principal components of each layer's states, in float16: [N, L, COMPONENTS]."""
    by_layer = (states - states.mean(0)).transpose(0, 1)  # [L, N, d]
    U, S, _ = torch.linalg.svd(by_layer, full_matrices=False)
    return (U * S[:, None])[..., :COMPONENTS].transpose(0, 1).half()


def _rows(values: Tensor, *names: str) -> pd.DataFrame:
    """One row for each entry of a matrix: its row, its column and its value, under these names."""
    first, second, value = names
    rows, columns = torch.meshgrid(*(torch.arange(size) for size in values.shape), indexing="ij")
    return pd.DataFrame({first: rows.flatten(), second: columns.flatten(), value: values.flatten()})


EMERGENCE = Experiment("emergence", 1, "task_vectors.regression.emergence:EMERGENCE", run, verify)
