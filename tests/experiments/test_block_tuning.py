from copy import deepcopy
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from task_vectors.checkpoints import TrainingDiverged
from task_vectors.experiments import block_tuning, emergence
from task_vectors.experiments.block_tuning import BLOCK_TUNING, WARM_UP, choose, continued, errors, looks, started
from task_vectors.records.store import Record, recorded
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.readings import balanced
from task_vectors.regression.training import Recipe, position_weights, predict, snapshot, train, training_step

MIXTURE = SparseMixture(dim=4, rank=2, n_classes=2)
RECIPE = Recipe(n_demos=4, n_layers=3, width=8, n_heads=2, steps=8, batch=8)
SEED, START, STEPS = 2, 4, 4
RATE = 3.0  # divided by the many steps of the warm-up
ALL = [0, 1, 2]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(block_tuning, "PER_CLASS", 20)
    for name, value in {"STATES": 12, "REDRAWS": 2}.items():
        monkeypatch.setattr(emergence, name, value)


@pytest.fixture(scope="module")
def beginning():
    return started(MIXTURE, RECIPE, SEED, START)


@pytest.fixture
def model(beginning):
    return deepcopy(beginning)


def proceed(model, blocks, steps=STEPS, rate=RATE, stop=0):
    choose(model, blocks)
    return continued(model, MIXTURE, RECIPE, SEED, START, steps, rate, stop)[0]


def record_of(blocks):
    facts = {"seed": SEED, "mixture": "sparse", "task": asdict(MIXTURE), "recipe": RECIPE.facts()}
    return recorded(BLOCK_TUNING, **facts, start=START, blocks=blocks, steps=STEPS, rate=RATE)


def same_parameters(one, other):
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


def test_the_start_is_the_snapshot_of_the_models_own_training(beginning, tmp_path):
    train(MIXTURE, RECIPE, SEED, tmp_path / "whole", every=2)
    found = {step: snapshot(tmp_path / "whole", RECIPE, MIXTURE.dim, step) for step in (2, 4, 6)}
    assert [same_parameters(beginning, other) for other in found.values()] == [False, True, False]
    assert not any(parameter.requires_grad for parameter in beginning.parameters())


@pytest.mark.parametrize("blocks", [[0], [1, 2], [2, 0], ALL])
def test_the_chosen_blocks_change_and_nothing_else_does(blocks, model, beginning):
    chosen = {name for name, _ in model.named_parameters() if name.startswith(tuple(f"blocks.{i}." for i in blocks))}
    number = choose(model, blocks)
    assert number == sum(parameter.numel() for name, parameter in model.named_parameters() if name in chosen)
    proceed(model, blocks)
    before = dict(beginning.named_parameters())
    assert {name for name, p in model.named_parameters() if not torch.equal(p, before[name])} == chosen


def test_a_step_is_the_trainings_own_on_these_parameters_alone(model, beginning):
    [loss] = proceed(model, ALL, stop=1)
    twin = deepcopy(beginning)
    parameters = list(twin.blocks.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=RATE / WARM_UP, betas=(0.9, 0.98), weight_decay=0, fused=True)
    assert training_step(twin, optimizer, MIXTURE, RECIPE, position_weights(5), SEED, START) == loss
    assert same_parameters(model, twin)
    assert not same_parameters(model, beginning)


def test_the_rate_is_warmed_up_held_and_goes_to_zero(model, monkeypatch):
    rates = []
    monkeypatch.setattr(
        block_tuning, "training_step", lambda _model, optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]) or 0
    )
    proceed(model, [1], steps=1000, rate=0.2)
    assert len(rates) == 1000
    assert rates[0] == pytest.approx(0.002)
    assert rates[99:600] == pytest.approx([0.2] * 501)
    assert rates[800] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0.2 / 400)
    proceed(model, [1], steps=1000, rate=0.2, stop=600)
    assert rates[1000:] == rates[:600]


def test_losses_are_those_before_each_step_on_the_sequences_that_would_have_come(model, beginning, monkeypatch):
    sample, drawn = SparseMixture.sample, []
    monkeypatch.setattr(SparseMixture, "sample", lambda *args: drawn.append(sample(*args)) or drawn[-1])
    whole, _ = train(MIXTURE, RECIPE, SEED)
    losses = proceed(model, [0, 2])
    assert len(losses) == STEPS
    assert losses[0] == pytest.approx(whole[START].item(), rel=1e-6)
    assert len({x.sum().item() for x, _, _ in drawn[:8]}) == 8
    for step, (x, y, _) in enumerate(drawn[8:]):
        assert torch.equal(x, drawn[START + step].x)
        assert torch.equal(y, drawn[START + step].y)
        now = deepcopy(beginning)
        if step:
            proceed(now, [0, 2], stop=step)
        found = ((predict(now, RECIPE.layout, x, y) - y).square().mean(0) * position_weights(5)).mean()
        assert losses[step] == pytest.approx(found.item(), rel=1e-5)


def test_errors_are_those_of_every_class_after_every_number_of_demonstrations(model):
    table = errors(model, MIXTURE, RECIPE)
    test = balanced(MIXTURE, 20, 5, block_tuning.TEST_SEED)
    off = predict(model, RECIPE.layout, test.x, test.y) - test.y  # [B, n]
    assert len(table) == 10
    for row in table.itertuples():
        expected = sum(e**2 for e in off[20 * row[1] : 20 * row[1] + 20, row.demos].tolist()) / 20
        assert row.error == pytest.approx(expected, abs=1e-5)


def stages(record, name):
    return [record.table(name).query("stage == @stage").drop(columns="stage") for stage in ("start", "end")]


def assert_same_table(one, other):
    pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True))


def test_late_blocks_leave_what_earlier_layers_tell():
    record = record_of([2])
    for name, value in (("decodability", "td"), ("probes", "accuracy")):
        start, end = (table.reset_index(drop=True) for table in stages(record, name))
        assert start.drop(columns=value).equals(end.drop(columns=value))
        changed = (start[value] != end[value]).groupby(start["layer"]).any()
        assert changed.to_dict() == {1: False, 2: False, 3: True}, name


def test_a_record_is_of_the_model_before_and_after(model):
    record = record_of([0, 1])
    losses = proceed(end := deepcopy(model), [0, 1])
    assert record.tensors("losses")["losses"].tolist() == pytest.approx(losses)
    for name in ("errors", "decodability", "probes"):
        for table, its in zip(stages(record, name), (model, end), strict=True):
            assert_same_table(table, looks(its.requires_grad_(False), MIXTURE, RECIPE)[name])
    [row] = record.table("training").itertuples()
    assert row.parameters == choose(model, [0, 1])
    assert row.seconds > 0


@pytest.mark.parametrize("blocks", [[], [3], [-1], [0, 3]])
def test_blocks_that_are_not_there_are_refused(blocks, model):
    with pytest.raises(ValueError, match="blocks must be some of 0 … 2; got"):
        choose(model, blocks)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_too_high_a_rate_is_told(model):
    with pytest.raises(TrainingDiverged, match=r"the loss of step \d is .* \(seed 2\): use a rate below 1e[+]25"):
        proceed(model, [1], rate=1e25)


def test_a_record_verifies_and_one_of_other_losses_does_not(monkeypatch):
    record = record_of([1])
    compared = BLOCK_TUNING.verify(record)
    assert len(compared) == 3
    assert all(comparison.agrees for comparison in compared)
    losses = record.tensors("losses")["losses"]
    monkeypatch.setattr(Record, "tensors", lambda *_: {"losses": 1.05 * losses})
    assert not any(comparison.agrees for comparison in BLOCK_TUNING.verify(record))


@pytest.mark.parametrize("block", [0, 1])
def test_one_block_learns(block):
    mixture = SparseMixture(dim=2, rank=1, n_classes=2)
    recipe = replace(RECIPE, n_demos=5, n_layers=2, width=16, steps=600, batch=32)
    model = started(mixture, recipe, SEED, 20)
    choose(model, [block])
    losses, _ = continued(model, mixture, recipe, SEED, 20, 400, 1e-2)
    first, last = (torch.tensor(part).mean() for part in (losses[:20], losses[-40:]))
    assert last < 0.9 * first
