from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from task_vectors.experiments import emergence
from task_vectors.experiments.emergence import EMERGENCE, trained
from task_vectors.experiments.registry import get_experiment
from task_vectors.measures.decodability import task_decodability
from task_vectors.records import store
from task_vectors.records.store import Record, all_records, recorded
from task_vectors.regression import training
from task_vectors.regression.beyond import beyond_weights
from task_vectors.regression.mixtures import FamilyMixture, SparseMixture
from task_vectors.regression.readings import balanced, by_class, class_states, shortened
from task_vectors.regression.training import Recipe, predict

RECIPE = Recipe(n_demos=4, n_layers=2, width=8, n_heads=2, steps=6, batch=8)
TASKS = {
    "sparse": SparseMixture(dim=4, rank=2, n_classes=2),
    "families": FamilyMixture(dim=4, rank=2, families=("linear", "quadratic")),
}


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)
    for name, value in {"PER_CLASS": 20, "BEYOND": 20, "STATES": 12, "REDRAWS": 2, "COMPONENTS": 3}.items():
        monkeypatch.setattr(emergence, name, value)


def record_of(mixture, recipe=RECIPE, **extent):
    facts = {"seed": 0, "mixture": mixture, "task": asdict(TASKS[mixture]), "recipe": recipe.facts(), "every": 2}
    return recorded(EMERGENCE, **facts, **extent)


@pytest.mark.parametrize("mixture", TASKS)
@pytest.mark.parametrize("architecture", ["gpt", "lstm"])
def test_a_record_holds_every_snapshot_and_verifies(mixture, architecture, tmp_path):
    record = record_of(mixture, replace(RECIPE, architecture=architecture), pictures=True)
    assert record.from_here
    assert not list((tmp_path / "runs" / "scratch" / "emergence").iterdir())  # else it would not be computed again
    for name in ("errors", "decodability", "probes", "early", *(["beyond"] if mixture == "sparse" else [])):
        assert record.table(name).step.unique().tolist() == [0, 2, 4, 6], name
    for name in ("distances", "patches"):
        assert record.table(name).step.unique().tolist() == [0, 6], name
    assert len(record.tensors("losses")["losses"]) == 6
    assert {name: tuple(states.shape) for name, states in record.tensors("states").items()} == {
        f"000000{step}": (24, 2, 3) for step in (0, 6)
    }
    comparisons = EMERGENCE.verify(record)
    assert len(comparisons) == 4
    assert all(comparison.agrees for comparison in comparisons)
    [again] = all_records()
    assert get_experiment(again.experiment) is EMERGENCE


def test_early_and_beyond_are_of_few_demonstrations_and_of_the_snapshot(monkeypatch):
    monkeypatch.setattr(emergence, "FEW", 2)
    record = record_of("sparse")
    beyond, model = record.table("beyond"), trained(record)
    assert beyond.groupby("step").demos.unique().map(list).tolist() == [[2, 4]] * 4
    assert set(record.table("floors").what) == {"random projection", "sizes"}
    for here in emergence.known_bases(TASKS["sparse"], RECIPE):
        assert here.sequences.x.shape[1] == here.demos + 1
        states = class_states(model, RECIPE.layout, here.sequences)  # [B, L, d]
        again = [beyond_weights(layer, here.weights, here.posterior) for layer in states.unbind(1)]
        rows = beyond[(beyond.step == 6) & (beyond.demos == here.demos)]
        assert np.allclose(rows.r2, again, atol=0.1)  # the model is kept in bfloat16
    early = record.table("early").query("step == 6").pivot(index="layer", columns="class", values="td")
    sequences = balanced(TASKS["sparse"], emergence.STATES, 5, emergence.STATES_SEED)
    states = class_states(model, RECIPE.layout, shortened(sequences, 2), emergence.REDRAWS)
    assert np.allclose(early, task_decodability(states, sequences.classes), atol=0.1)


@pytest.mark.parametrize(
    ("extent", "kept"), [({}, {"last"}), ({"tables_only": True}, set()), ({"pictures": True}, {"last", "states"})]
)
def test_what_a_record_keeps_beside_its_tables(extent, kept):
    record = record_of("sparse", **extent)
    names = {file.stem for file in record.folder.glob("*.safetensors")}
    assert names == {"losses"} | kept
    compared = EMERGENCE.verify(record)
    assert len(compared) == 3 + ("last" in kept)
    assert all(comparison.agrees for comparison in compared)


def test_a_training_of_fewer_steps_than_are_checked_verifies():
    compared = EMERGENCE.verify(record_of("sparse", replace(RECIPE, steps=2)))
    assert [comparison.agrees for comparison in compared] == [True] * 3


def test_the_errors_are_those_of_the_recorded_model():
    record = record_of("sparse")
    test = balanced(TASKS["sparse"], 20, 5, emergence.TEST_SEED)
    model = trained(record)
    expected = by_class((predict(model, RECIPE.layout, test.x, test.y) - test.y).square(), test.classes)  # [K, n]
    table = record.table("errors").query("step == 6").pivot(index="class", columns="demos", values="error")
    assert np.allclose(table, expected, rtol=0.05)  # the model is kept in bfloat16
    distances = record.table("distances").query("step == 6")
    assert set(distances.learner) == {"least squares", "ridge", "LASSO", "oracle ridge", "Bayes"}
    assert (distances.distance >= 0).all()


def test_a_record_of_other_losses_does_not_verify(monkeypatch):
    record = record_of("sparse")
    losses = record.tensors("losses")["losses"]
    tensors = Record.tensors
    monkeypatch.setattr(
        Record, "tensors", lambda self, name: {"losses": 1.01 * losses} if name == "losses" else tensors(self, name)
    )
    assert not any(comparison.agrees for comparison in EMERGENCE.verify(record)[:3])


def test_an_interrupted_run_goes_on_from_its_snapshots(monkeypatch, tmp_path):
    expected = record_of("sparse").tensors("losses")["losses"]
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "other records"))
    real, steps = training.training_step, []

    def interrupted(*args):
        steps.append(args[-1])
        if steps == [0, 1, 2]:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(training, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record_of("sparse")
    assert (record_of("sparse").tensors("losses")["losses"] == expected).all()
    assert steps == [0, 1, 2, 2, 3, 4, 5]


def test_a_run_that_is_interrupted_while_it_looks_goes_on_from_the_last_look(monkeypatch, tmp_path):
    """Not one snapshot is looked at twice, and the record is as if there had been no interruption."""
    expected = record_of("sparse", pictures=True)
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "other records"))
    real, learners, looks = emergence.look, emergence.all_predictions, []

    def interrupted(*args):
        looks.append(args)
        if len(looks) == 3:
            raise KeyboardInterrupt
        return real(*args)

    asked = []
    monkeypatch.setattr(emergence, "look", interrupted)
    monkeypatch.setattr(emergence, "all_predictions", lambda *args: asked.append(args) or learners(*args))
    with pytest.raises(KeyboardInterrupt):
        record_of("sparse", pictures=True)
    found = record_of("sparse", pictures=True)
    assert (len(looks), len(asked)) == (5, 1)  # of four snapshots, the third one twice
    for name in expected.provenance["columns"].keys() - {"check"}:  # which holds seconds
        pd.testing.assert_frame_equal(found.table(name), expected.table(name))
    for name in ("losses", "last", "states"):
        mine, others = found.tensors(name), expected.tensors(name)
        assert mine.keys() == others.keys()
        assert all(torch.equal(mine[key], others[key]) for key in mine), name
