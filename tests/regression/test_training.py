import math
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from killed import kill_at_a_random_moment, stopped_at_file
from safetensors.torch import load_file

from task_vectors.checkpoints import TrainingDiverged
from task_vectors.regression import training
from task_vectors.regression.mixtures import FamilyMixture, SparseMixture
from task_vectors.regression.training import Recipe, build, position_weights, predict, snapshot, snapshot_steps, train

MIXTURE = SparseMixture(dim=2, rank=1, n_classes=2)
RECIPE = Recipe(n_demos=3, n_layers=2, width=8, n_heads=2, steps=12, batch=4, rate=0.002)
HALF_RECIPE = replace(RECIPE, precision="bfloat16")
LSTM_RECIPE = replace(RECIPE, architecture="lstm", layout="interleaved")
SEED, EVERY = 3, 4
both_models = pytest.mark.parametrize("recipe", [RECIPE, LSTM_RECIPE], ids=["gpt", "lstm"])
all_models = pytest.mark.parametrize(
    "recipe", [replace(RECIPE, architecture=a, layout=b) for a in ("gpt", "lstm") for b in ("product", "interleaved")]
)


def assert_same_run(one, other, last):
    """The checkpoint after so many steps, but for the time it took, and all snapshots are equal to the bit."""
    files = ["checkpoint.safetensors", *(f"{step:07d}.safetensors" for step in range(0, last + 1, EVERY))]
    for name in files:
        mine, theirs = load_file(one / name), load_file(other / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine.keys() - {"seconds"}), name


def same_parameters(one, other):
    return all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


@all_models
def test_a_seed_says_which_model_is_built_and_nothing_else_does(recipe):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build(recipe, MIXTURE.dim, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_parameters(one, build(recipe, MIXTURE.dim, seed=5))
    assert not same_parameters(one, build(recipe, MIXTURE.dim, seed=6))


@all_models
def test_an_output_is_predicted_from_what_is_before_it(recipe):
    model = build(recipe, MIXTURE.dim, seed=0)
    x, y, _ = MIXTURE.sample(5, recipe.n_demos + 1, torch.Generator().manual_seed(0))
    before = predict(model, recipe.layout, x, y)
    assert before.shape == (5, recipe.n_demos + 1)
    for i in range(recipe.n_demos + 1):
        changed = y.clone()
        changed[:, i] += 1
        moved = (predict(model, recipe.layout, x, changed) != before).any(0)
        assert moved.tolist() == [j > i for j in range(recipe.n_demos + 1)]


@both_models
def test_the_loss_is_the_weighted_error_of_the_model_before_the_step_on_new_sequences(recipe, monkeypatch, tmp_path):
    sample, drawn = SparseMixture.sample, []
    monkeypatch.setattr(SparseMixture, "sample", lambda *args: drawn.append(sample(*args)) or drawn[-1])
    losses, _ = train(MIXTURE, recipe, SEED, tmp_path, every=1, stop=3)
    assert losses.shape == (3,)
    for step, (x, y, _) in enumerate(drawn):
        assert x.shape == (recipe.batch, recipe.n_demos + 1, MIXTURE.dim)
        errors = (predict(snapshot(tmp_path, recipe, MIXTURE.dim, step), recipe.layout, x, y) - y).square().mean(0)
        expected = (errors * position_weights(recipe.n_demos + 1)).mean()
        torch.testing.assert_close(losses[step], expected)
    train(MIXTURE, recipe, SEED + 1, stop=3)
    assert len({x.sum().item() for x, _, _ in drawn}) == 6  # in every step, and of every seed


@pytest.mark.parametrize("n", [1, 4, 21])
def test_late_queries_weigh_more_and_all_together_one_each(n):
    weights = position_weights(n)
    assert weights.shape == (n,)
    assert weights.mean().item() == pytest.approx(1)
    assert (weights > 0).all()
    assert (weights.diff() >= 0).all()


@both_models
def test_the_same_seed_gives_the_same_run_to_the_bit(recipe, tmp_path):
    one, _ = train(MIXTURE, recipe, SEED, tmp_path / "one", every=EVERY)
    torch.manual_seed(99)  # of no effect
    other, _ = train(MIXTURE, recipe, SEED, tmp_path / "other", every=EVERY)
    assert len(one) == recipe.steps
    assert torch.equal(one, other)
    assert_same_run(tmp_path / "one", tmp_path / "other", recipe.steps)
    assert not torch.equal(one, train(MIXTURE, recipe, SEED + 1)[0])


@both_models
def test_without_a_folder_it_is_the_same_run_and_nothing_is_kept(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole, _ = train(MIXTURE, recipe, SEED, every=EVERY)
    assert not list(tmp_path.iterdir())
    assert torch.equal(train(MIXTURE, recipe, SEED, tmp_path, every=EVERY)[0], whole)


def test_families_are_trained_on_too():
    losses, _ = train(FamilyMixture(dim=3, rank=1), RECIPE, SEED, stop=2)
    assert losses.isfinite().all()


def test_snapshots_are_kept_before_the_first_step_at_every_interval_and_at_the_end(tmp_path):
    assert snapshot_steps(tmp_path / "nothing") == []
    train(MIXTURE, replace(RECIPE, steps=10), SEED, tmp_path, every=EVERY)
    assert snapshot_steps(tmp_path) == [0, 4, 8, 10]
    first = snapshot(tmp_path, RECIPE, MIXTURE.dim, 0)
    assert same_parameters(first, build(RECIPE, MIXTURE.dim, SEED))
    assert not same_parameters(first, snapshot(tmp_path, RECIPE, MIXTURE.dim, 10))
    assert not any(parameter.requires_grad for parameter in first.parameters())


@pytest.mark.parametrize("recipe", [RECIPE, LSTM_RECIPE, HALF_RECIPE], ids=["gpt", "lstm", "gpt in bfloat16"])
@pytest.mark.parametrize("stops", [(4,), (8,), (4, 8)])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(recipe, stops, tmp_path):
    whole, _ = train(MIXTURE, recipe, SEED, tmp_path / "whole", every=EVERY)
    for stop in stops:
        part, _ = train(MIXTURE, recipe, SEED, tmp_path / "parts", every=EVERY, stop=stop)
        assert torch.equal(part, whole[:stop])
    assert torch.equal(train(MIXTURE, recipe, SEED, tmp_path / "parts", every=EVERY)[0], whole)
    assert snapshot_steps(tmp_path / "parts") == snapshot_steps(tmp_path / "whole")
    assert_same_run(tmp_path / "parts", tmp_path / "whole", recipe.steps)


def test_a_stop_between_two_snapshots_changes_nothing_either(tmp_path):
    whole, _ = train(MIXTURE, RECIPE, SEED, tmp_path / "whole", every=EVERY)
    train(MIXTURE, RECIPE, SEED, tmp_path / "parts", every=EVERY, stop=6)
    assert torch.equal(train(MIXTURE, RECIPE, SEED, tmp_path / "parts", every=EVERY)[0], whole)
    assert_same_run(tmp_path / "parts", tmp_path / "whole", RECIPE.steps)


def test_a_finished_run_is_read_and_not_trained_again(tmp_path, monkeypatch):
    whole, _ = train(MIXTURE, RECIPE, SEED, tmp_path, every=EVERY)
    monkeypatch.setattr(SparseMixture, "sample", None)
    assert torch.equal(train(MIXTURE, RECIPE, SEED, tmp_path, every=EVERY)[0], whole)


def test_the_time_of_all_attempts_is_added_up_and_none_between_them(tmp_path, monkeypatch):
    """A clock that goes on by a second with every batch that is drawn."""
    sample, now = SparseMixture.sample, [1000.0]

    def ticking(*args):
        now[0] += 1
        return sample(*args)

    monkeypatch.setattr(SparseMixture, "sample", ticking)
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for stop in (4, 8, 12, 12):
        _, seconds = train(MIXTURE, RECIPE, SEED, tmp_path, every=EVERY, stop=stop)
        assert seconds == stop
        now[0] += 500


@pytest.mark.parametrize("moment", range(11))
def test_a_run_that_ends_while_a_file_is_put_in_place_goes_on(moment, tmp_path, monkeypatch):
    """Two files at each of the steps 0, 4, 8 and 12, and the checkpoint before from 4 on."""
    whole, _ = train(MIXTURE, RECIPE, SEED, tmp_path / "whole", every=EVERY)
    with stopped_at_file(moment, monkeypatch):
        train(MIXTURE, RECIPE, SEED, tmp_path / "parts", every=EVERY)
    assert torch.equal(train(MIXTURE, RECIPE, SEED, tmp_path / "parts", every=EVERY)[0], whole)
    assert snapshot_steps(tmp_path / "parts") == [0, 4, 8, 12]
    assert_same_run(tmp_path / "parts", tmp_path / "whole", RECIPE.steps)


ENDLESS = replace(RECIPE, steps=1_000_000)
PROCESS = f"""
import sys
from pathlib import Path
import torch
from task_vectors.regression.mixtures import SparseMixture
from task_vectors.regression.training import Recipe, train

torch.set_num_threads(1)
train({MIXTURE!r}, {ENDLESS!r}, {SEED}, Path(sys.argv[1]), every={EVERY})
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_can_be_started_again(tmp_path):
    for _ in range(2):
        kill_at_a_random_moment(PROCESS, tmp_path / "killed")
    last = snapshot_steps(tmp_path / "killed")[-1] + EVERY
    losses, _ = train(MIXTURE, ENDLESS, SEED, tmp_path / "killed", every=EVERY, stop=last)
    whole, _ = train(MIXTURE, ENDLESS, SEED, tmp_path / "whole", every=EVERY, stop=last)
    assert torch.equal(losses, whole)
    assert len(losses) == last
    assert snapshot_steps(tmp_path / "killed") == snapshot_steps(tmp_path / "whole")
    assert_same_run(tmp_path / "killed", tmp_path / "whole", last)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_an_error_and_what_came_before_stays(value, tmp_path, monkeypatch):
    sample, calls = SparseMixture.sample, count()

    def broken(*args):
        found = sample(*args)
        if next(calls) == 5:
            found.y[:, -1] = value  # of the last query, whose output is in no token: the model's states stay finite
        return found

    with monkeypatch.context() as patch:
        patch.setattr(SparseMixture, "sample", broken)
        with pytest.raises(TrainingDiverged, match=f"step 5 is {value} .*seed 3.*rate 0.002") as caught:
            train(MIXTURE, RECIPE, SEED, tmp_path / "broken", every=EVERY)
    assert len(str(caught.value).splitlines()) == 1
    assert snapshot_steps(tmp_path / "broken") == [0, 4]
    whole, _ = train(MIXTURE, RECIPE, SEED, tmp_path / "whole", every=EVERY)
    assert torch.equal(train(MIXTURE, RECIPE, SEED, tmp_path / "broken", every=EVERY)[0], whole)
    assert_same_run(tmp_path / "broken", tmp_path / "whole", RECIPE.steps)


@both_models
def test_too_high_a_rate_is_told(recipe):
    with pytest.raises(TrainingDiverged, match="rate 1e[+]25.*use a lower rate"):
        train(MIXTURE, replace(recipe, rate=1e25), SEED)


@pytest.mark.parametrize(("architecture", "layers"), [("gpt", 2), ("lstm", 1)])
def test_a_tiny_model_learns(architecture, layers):
    """The loss ends clearly below the first ones, and below what it costs to predict zero."""
    recipe = Recipe(architecture, n_demos=5, n_layers=layers, width=16, n_heads=2, steps=300, batch=32, rate=1e-2)
    losses, _ = train(MIXTURE, recipe, SEED)
    assert losses[-40:].mean() < 0.8 * losses[:10].mean()
    assert losses[-40:].mean() < 0.8 * (1 + MIXTURE.noise**2)


@pytest.mark.parametrize("recipe", [RECIPE, LSTM_RECIPE], ids=["gpt", "lstm"])
def test_products_in_bfloat16_change_a_step_a_little_and_leave_weights_in_float32(recipe, tmp_path):
    half = replace(recipe, precision="bfloat16")
    (ours, _), (theirs, _) = (
        train(MIXTURE, how, SEED, tmp_path / how.precision, every=EVERY) for how in (recipe, half)
    )
    assert not torch.equal(ours, theirs)
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0)
    tensors = load_file(tmp_path / "bfloat16" / f"{recipe.steps:07d}.safetensors").values()
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert any((tensor != tensor.bfloat16().float()).any() for tensor in tensors)  # nor are they rounded to it


def test_a_record_names_the_precision_only_where_it_is_not_the_default():
    """Records from before there was one are found under their own parameters."""
    fields = "architecture", "layout", "n_demos", "n_layers", "width", "n_heads", "steps", "batch", "rate"
    assert tuple(Recipe().facts()) == fields
    assert HALF_RECIPE.facts() == RECIPE.facts() | {"precision": "bfloat16"}
    assert Recipe(**RECIPE.facts()) == RECIPE
    assert Recipe(**HALF_RECIPE.facts()) == HALF_RECIPE


def test_recipes_that_cannot_be_built_are_refused():
    with pytest.raises(ValueError, match="unknown precision 'float16'; there are: float32, bfloat16"):
        Recipe(precision="float16")
    with pytest.raises(ValueError, match="unknown architecture 'rnn'; there are: gpt, lstm"):
        Recipe(architecture="rnn")
    with pytest.raises(ValueError, match="width must be a multiple of n_heads; got 10 and 4"):
        Recipe(width=10, n_heads=4)
    with pytest.raises(ValueError, match="unknown token layout 'triplets'"):
        build(replace(RECIPE, layout="triplets"), 2, 0)


def test_a_folder_of_another_run_is_refused(tmp_path):
    train(MIXTURE, RECIPE, SEED, tmp_path, EVERY, stop=4)
    for mixture, recipe, seed in (
        (MIXTURE, RECIPE, SEED + 1),
        (MIXTURE, replace(RECIPE, rate=0.1), SEED),
        (MIXTURE, HALF_RECIPE, SEED),
        (replace(MIXTURE, noise=0.2), RECIPE, SEED),
    ):
        with pytest.raises(ValueError, match="belongs to another training"):
            train(mixture, recipe, seed, tmp_path, EVERY)


def test_the_rate_is_warmed_up_and_goes_to_zero(monkeypatch):
    rates = []
    monkeypatch.setattr(
        training, "training_step", lambda _model, optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]) or 0.0
    )
    train(MIXTURE, replace(RECIPE, steps=1000), SEED)
    assert len(rates) == 1000
    assert rates[0] == pytest.approx(RECIPE.rate / training.WARM_UP)
    assert rates[300] == pytest.approx(RECIPE.rate)
    assert rates[800] == pytest.approx(RECIPE.rate / 2)
    assert rates[-1] == pytest.approx(RECIPE.rate / 400)
    assert max(rates) <= RECIPE.rate
