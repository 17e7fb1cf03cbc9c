"""Readings of trained models: each record says what its parts say, and verifies; a changed one does not."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from task_vectors.experiments import best_learners, emergence, emergence_map, emergence_readings
from task_vectors.experiments.best_learners import BEST_LEARNERS
from task_vectors.experiments.emergence import EMERGENCE, trained
from task_vectors.experiments.emergence_map import EMERGENCE_MAP, flat
from task_vectors.experiments.emergence_readings import (
    EMERGENCE_FRESH,
    EMERGENCE_PLACES,
    EMERGENCE_PREFIXES,
    donors_of,
    drawn,
    places,
    prefixes,
    shortened,
    told,
)
from task_vectors.experiments.registry import get_experiment
from task_vectors.measures.decodability import task_decodability
from task_vectors.records import store
from task_vectors.records.store import Record, recorded
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.patching import patch_table
from task_vectors.regression.predictors import bayes
from task_vectors.regression.readings import balanced, by_class, class_states
from task_vectors.regression.training import Recipe

GROUPED = SparseMixture(dim=8, rank=2, n_classes=4, groups=2)
RECIPE = Recipe(layout="interleaved", n_demos=4, n_layers=2, width=8, n_heads=2, steps=6, batch=8)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)
    for name, value in {"PER_CLASS": 20, "STATES": 12, "REDRAWS": 2, "COMPONENTS": 3}.items():
        monkeypatch.setattr(emergence, name, value)
    for name, value in {"PER_CLASS": 12, "REDRAWS": 2, "PREFIX_REDRAWS": 2}.items():
        monkeypatch.setattr(emergence_readings, name, value)
    monkeypatch.setattr(best_learners, "PER_CLASS", 20)


@pytest.fixture
def model():
    facts = {"mixture": "sparse", "task": asdict(GROUPED), "recipe": RECIPE.facts()}
    return recorded(EMERGENCE, seed=0, every=3, pictures=True, **facts).parameters


def checked(experiment, changed, monkeypatch, **parameters):
    """A record that verifies, is found by its name, and does not verify once its tables are other ones."""
    record = recorded(experiment, **parameters)
    assert get_experiment(record.experiment) is experiment
    compared = experiment.verify(record)
    assert compared
    assert all(comparison.agrees for comparison in compared)
    with monkeypatch.context() as other:
        table = Record.table
        other.setattr(Record, "table", lambda self, name: table(self, name).assign(**changed))
        if changed:
            assert not any(comparison.agrees for comparison in experiment.verify(record))
    return record


def test_prefixes_are_read_demonstration_by_demonstration(model, monkeypatch):
    record = checked(EMERGENCE_PREFIXES, {"td": 2.0}, monkeypatch, model=model, layer=2)
    table = record.table("decodability")
    assert len(table) == 4 * 4
    assert table.demos.unique().tolist() == [1, 2, 3, 4]
    network = trained(recorded(EMERGENCE, **model))
    sequences = shortened(prefixes(GROUPED, 4), 3)
    assert sequences.x.shape == (48, 4, 8)  # three demonstrations and a query
    td = task_decodability(class_states(network, "interleaved", sequences, 2)[:, 1], sequences.classes)
    assert np.allclose(table[table.demos == 3].td, td)


def test_fresh_sequences_are_new_in_every_draw(model, monkeypatch):
    record = checked(EMERGENCE_FRESH, {"td": 2.0}, monkeypatch, model=model, layer=1, n_draws=2, n_test=12)
    table = record.table("decodability")
    assert len(table) == 2 * 4
    network, sequences = trained(recorded(EMERGENCE, **model)), drawn(GROUPED, 4, 12, 1)
    td = task_decodability(class_states(network, "interleaved", sequences, 2)[:, 0], sequences.classes)
    assert np.allclose(table[table.draw == 1].td, td)
    sums = {drawn(GROUPED, 4, 12, draw).x.sum().item() for draw in (-1, 0, 1)}
    assert len(sums) == 3


def test_what_states_tell_of_pairs_and_groups():
    generator, classes = torch.Generator().manual_seed(0), torch.arange(4).repeat_interleave(30)
    states = 0.1 * torch.randn(120, 3, generator=generator)
    states[classes >= 2, 0] += 5  # the groups come apart
    states[classes == 3, 1] += 5  # and the members of the second one
    tables = told(states, classes, GROUPED)
    pairs = tables["pairs"].set_index(["row", "column"]).td
    assert len(pairs) == 12
    assert pairs[0, 3] == pairs[3, 0] == pairs[2, 3] == 1
    assert abs(pairs[0, 1] - 0.5) < 0.2
    assert pairs[0, 1] == pairs[1, 0]
    groups = tables["groups"].set_index("of").td
    assert groups["groups"] == 1
    assert groups["members"] == pytest.approx((1 + pairs[0, 1]) / 2, abs=1e-5)
    assert set(told(states, classes, SparseMixture(dim=8, rank=2, n_classes=4))) == {"decodability", "pairs"}


def test_places_at_the_query_are_the_patch_of_emergence(model, monkeypatch):
    record = checked(EMERGENCE_PLACES, {"change": 9.0}, monkeypatch, model=model, n_draws=1, n_test=10)
    table = record.table("changes").set_index(["place", "draw", "basis", "layer"]).change
    assert len(table) == 2 * 2 * 2 * 2
    assert places(4) == {"the query": [8], "all outputs": [1, 3, 5, 7]}
    network = trained(recorded(EMERGENCE, **model))
    for draw in (-1, 0):
        test, donors = drawn(GROUPED, 4, 10, draw), donors_of(GROUPED, 4, 10, draw)
        changes = by_class(patch_table(network, "interleaved", donors, test, 2)["part"], test.classes)  # [K, K]
        own = changes.diagonal().mean().item()
        assert table["the query", draw, "own", 2] == pytest.approx(own, abs=1e-5)
        assert table["the query", draw, "another", 2] == pytest.approx((changes.sum().item() - 4 * own) / 12, abs=1e-5)


def test_a_map_keeps_neighbors_and_verifies(model, monkeypatch):
    record = checked(EMERGENCE_MAP, {}, monkeypatch, model=model, layer=1)
    maps = record.tensors("map")
    assert {step: tuple(points.shape) for step, points in maps.items()} == {f"{step:07d}": (48, 2) for step in (0, 6)}
    tensors = Record.tensors
    shuffled = {step: points[torch.randperm(48)] for step, points in maps.items()}
    monkeypatch.setattr(Record, "tensors", lambda self, name: shuffled if name == "map" else tensors(self, name))
    monkeypatch.setattr(emergence_map, "_states", lambda _: {"0000006": clusters()})
    assert not any(comparison.agrees for comparison in EMERGENCE_MAP.verify(record))


def clusters():
    """Four classes far apart, 12 states each, as recorded components of two layers: [48, 2, 3]."""
    generator = torch.Generator().manual_seed(0)
    return 20 * torch.eye(4)[torch.arange(4).repeat_interleave(12), :3, None].mT + torch.randn(
        48, 2, 3, generator=generator
    )


def test_the_map_is_standard_and_holds_clusters_together():
    points = flat(clusters()[:, 0]).float()
    assert points.mean(0).abs().max() < 1e-2
    assert (points.std(0, unbiased=False) - 1).abs().max() < 1e-2
    assert task_decodability(points, torch.arange(4).repeat_interleave(12), k=5).mean() > 0.9


def test_learners_have_their_errors_on_the_models_test_sequences(monkeypatch):
    mixture = SparseMixture(dim=4, rank=2, n_classes=2)
    record = checked(BEST_LEARNERS, {"error": 9.0}, monkeypatch, task=asdict(mixture), n_demos=5)
    table = record.table("errors")
    assert table.learner.unique().tolist() == ["least squares", "ridge", "LASSO", "oracle ridge", "Bayes"]
    test = balanced(mixture, 20, 6, emergence.TEST_SEED)
    expected = (bayes(mixture, test).predictions - test.y).square().mean(0)
    assert np.allclose(table[table.learner == "Bayes"].error, expected)


def test_a_model_of_another_record_is_another_record(model):
    one = recorded(EMERGENCE_PREFIXES, model=model, layer=1)
    facts = model | {"recipe": replace(RECIPE, rate=1e-3).facts()}
    other = recorded(EMERGENCE_PREFIXES, model=facts, layer=1)
    assert one.key != other.key
    assert isinstance(other.table("decodability"), pd.DataFrame)
