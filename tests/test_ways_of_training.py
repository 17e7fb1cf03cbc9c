"""The benchmark of ways of training, at tiny sizes: that a way without switches is ours, and that each switch acts."""

from dataclasses import replace
from importlib import import_module

import pandas as pd
import pytest
import torch

from task_vectors.linear_attention import training
from task_vectors.linear_attention.heavy_tails import stretched_inputs
from task_vectors.linear_attention.model import Weights, initial_weights, residuals, risk
from task_vectors.linear_attention.prompts import get_layout
from task_vectors.paths import project_root

TINY = {"N": 3, "SEEDS": range(2), "STEPS": 8, "BATCH": 20, "SAMPLE": 50}
TINY |= {"SELECTION_PROMPTS": 4000, "TEST_PROMPTS": 4000, "PLAIN_PROMPTS": 1000}
FITTED = {"L-BFGS", "Adam, L-BFGS", "Adam, L-BFGS, longer"}


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(project_root() / "benchmarks")
    measure = import_module("measure")
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    here = measure.environment()
    monkeypatch.setattr(measure, "environment", here.copy)  # a run asks git again for every row
    module = import_module("ways_of_training")
    for constant, value in TINY.items():
        monkeypatch.setattr(module, constant, value)
    return module


def same(one: Weights, other: Weights) -> bool:
    return all(torch.allclose(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())


def test_without_a_switch_it_is_what_the_book_trains_with(benchmark):
    way = benchmark.ways()["ours"]
    way = replace(way, recipe=replace(way.recipe, steps=120))  # beyond the warm-up, and with a penalty
    expected, _ = training.train("triplets", 3, 3, [0, 1], way.recipe)
    assert same(benchmark.train(way), expected)


def test_its_beginning_is_the_beginning_of_the_same_run(benchmark):
    way = benchmark.ways()["ours"]
    expected, _ = training.train("triplets", 3, 3, [0, 1], way.recipe, stop=3)
    assert same(benchmark.train(way, 3), expected)
    assert same(benchmark.train(way, 0), initial_weights(get_layout("triplets"), 3, 3, [0, 1]))


def test_every_way_is_another_one(benchmark):
    """From a start so far out that gradients are clipped, where every switch acts at once."""
    far = {name: replace(way, recipe=replace(way.recipe, initial_std=0.5)) for name, way in benchmark.ways().items()}
    found = {name: benchmark.train(way) for name, way in far.items()}
    assert not [(one, two) for one in found for two in found if one < two and same(found[one], found[two])]


@pytest.mark.parametrize("switch", ["plain", "tasks"])
def test_a_switch_that_adds_noise_keeps_the_mean(switch, benchmark):
    weights = initial_weights(get_layout("triplets"), 3, 3, [0, 1], std=0.3)
    generator, recipe = torch.Generator().manual_seed(0), training.Recipe(batch=40_000)
    quiet, noisy = (
        benchmark.batch_risk(benchmark.Way("", recipe, **switches), weights, generator)
        for switches in ({}, {switch: True})
    )
    assert noisy.tolist() == pytest.approx(quiet.tolist(), rel=0.05)


def test_signs_matter_only_where_layers_differ_in_them(benchmark, monkeypatch):
    """Signs that are the same in all layers are signs of the data."""
    weights = initial_weights(get_layout("triplets"), 3, 3, [0, 1], std=0.5)
    X = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0))
    drawn = torch.randint(2, (5, 4), generator=torch.Generator().manual_seed(1))
    flips = drawn[..., None] * 2.0 - 1
    independent = benchmark.signed_residuals(weights, X, torch.Generator().manual_seed(0))
    monkeypatch.setattr(benchmark.torch, "randint", lambda *args, **kwargs: drawn)
    equal = benchmark.signed_residuals(weights, X, None)
    torch.testing.assert_close(equal, flips[:, -1] * residuals(weights, X * flips), atol=1e-5, rtol=1e-5)
    assert (independent - equal).abs().max() > 0.1


def test_the_papers_rate_is_halved_at_once_and_seven_times_more(benchmark):
    way = benchmark.ways()["paper"]
    way = replace(way, recipe=replace(way.recipe, steps=20_000))
    rates = [benchmark.rate(way, step) for step in (0, 2499, 2500, 17_499, 17_500, 19_999)]
    assert rates == pytest.approx([0.01 / 2**k for k in (1, 1, 2, 7, 8, 8)])
    assert benchmark.rate(replace(way, halvings=0), 19_999) == 0.01


def test_a_fit_lowers_the_risk_of_its_own_sample(benchmark):
    X, importance = stretched_inputs(100, 4, torch.Generator().manual_seed(0))
    before = risk(benchmark.train(benchmark.ways()["ours"], 4), X, importance)
    fitted = benchmark.fit(4, (X.double(), importance.double()), n_prompts=4000)
    assert (risk(fitted, X, importance) < 0.9 * before).all()


def test_a_run_keeps_a_row_for_every_way(benchmark, tmp_path):
    benchmark.main()
    table = pd.read_csv(tmp_path / "ways_of_training.csv").set_index("way")
    assert table.index.is_unique
    assert set(table.index) == benchmark.ways().keys() | FITTED | {"paper, our seconds"}
    assert set(table.index[table.own_sample.notna()]) == FITTED
    assert (table["cpu seconds"] > 0).all()
    assert (table.finite == 2).all()
    filled = ["what", "best", "error", "median", "plain", "plain_error", "explained", "threads", "date", "processor"]
    assert table[filled].notna().all(axis=None)


def test_models_that_are_not_finite_leave_a_row(benchmark):
    broken = initial_weights(get_layout("triplets"), 3, 3, [0, 1]).map(lambda tensor: tensor * torch.nan)
    row = benchmark.judge(broken, None)
    assert (row["finite"], row["median"]) == (0, torch.inf)
    one = initial_weights(get_layout("triplets"), 3, 3, [0, 1])
    one.scales[0] = torch.nan
    row = benchmark.judge(one, None)
    assert row["finite"] == 1
    assert row["best"] < 10
