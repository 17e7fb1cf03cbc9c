"""The benchmark of ways of training the small GPT, at tiny sizes: its way is the book's, and budgets are equal."""

import sys
from dataclasses import replace
from importlib import import_module

import pandas as pd
import pytest
import torch

from task_vectors.paths import project_root
from task_vectors.records import store
from task_vectors.regression import training
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.training import Recipe

MIXTURE, RECIPE = SparseMixture(4, 2, 2), Recipe(n_demos=4, n_layers=3, width=8, n_heads=2, steps=300, batch=8)


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(project_root() / "benchmarks")
    monkeypatch.setattr(import_module("measure"), "RESULTS", tmp_path)
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)
    module = import_module("ways_of_regression")
    monkeypatch.setattr(module, "SIZES", {"default": (MIXTURE, RECIPE)})
    return module


def total(benchmark, steps):
    return steps * benchmark.operations(benchmark.ways(RECIPE)["ours"], MIXTURE.dim, RECIPE.batch, RECIPE.n_demos)


def test_without_a_switch_it_is_what_the_book_trains_with(benchmark, tmp_path):
    """Beyond the warm-up and into the cool-down."""
    model, took = benchmark.train(benchmark.ways(RECIPE)["ours"], MIXTURE, total(benchmark, RECIPE.steps))
    training.train(MIXTURE, RECIPE, benchmark.SEED, tmp_path / "training", every=RECIPE.steps)
    ours = training.snapshot(tmp_path / "training", RECIPE, MIXTURE.dim, RECIPE.steps)
    assert took["steps"] == RECIPE.steps
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).detach(), parameter, rtol=1e-4, atol=1e-5)


def test_every_way_spends_the_same(benchmark):
    budget = total(benchmark, 200)
    for name, way in benchmark.ways(RECIPE).items():
        steps = list(benchmark.plan(way, MIXTURE.dim, budget))
        costs = [benchmark.operations(way, MIXTURE.dim, batch, n_demos) for _, batch, n_demos in steps]
        assert budget <= sum(costs) < budget + costs[-1], name
        assert steps[-1][0] < 1 <= sum(costs) / budget, name
    curriculum = benchmark.ways(RECIPE)["curriculum"]
    lengths = [n for _, _, n in benchmark.plan(replace(curriculum, shortest=2), MIXTURE.dim, budget)]
    assert (lengths[0], lengths[-1]) == (2, RECIPE.n_demos)
    assert lengths == sorted(lengths)


def test_each_way_trains_another_model(benchmark):
    """Beyond the curriculum's first half; what compiles is ours in another order, and is left out."""
    found, ways = {}, benchmark.ways(RECIPE)
    for name in ways.keys() - {"compiled"}:
        way = replace(ways[name], shortest=min(ways[name].shortest, 2))
        model, _ = benchmark.train(way, MIXTURE, total(benchmark, 40))
        found[name] = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    sums = [round(float(values.double().square().sum()), 9) for values in found.values()]
    assert len(set(sums)) == len(sums)


def test_a_run_keeps_its_row(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["ways_of_regression", "--budget", "3", "muon"])
    benchmark.main()
    row = pd.read_csv(tmp_path / "ways_of_regression.csv").squeeze()
    assert (row["way"], row["budget"], row["sequences"]) == ("muon", 3, 8 * row["steps"])
    assert row["LASSO half"] > row["Bayes half"] > 0
    assert row["half"] > row["Bayes half"]
