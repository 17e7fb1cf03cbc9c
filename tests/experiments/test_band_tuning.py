"""Votes and scores are those of the model with its adapter, which a record keeps, and a stopped training goes on."""

import json
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from task_vectors.experiments import band_tuning
from task_vectors.experiments.band_tuning import BAND_TUNING, UNTRAINED, kept_adapter, look, run, untrained
from task_vectors.lm import finetuning
from task_vectors.lm.finetuning import Tuning, train, tuned, tuning_of
from task_vectors.lm.interventions import capture
from task_vectors.lm.tokens import up_to_answer
from task_vectors.prompts.families import family_prompts
from task_vectors.records import store
from task_vectors.records.store import Record, recorded
from task_vectors.tasks.families.bitwise import bitwise_arithmetic

FAMILY = bitwise_arithmetic(4)
TUNING = Tuning(layers=(1,), rank=2, alpha=4, steps=6, batch=3, rate=0.1, warm_up=1, n_demos=1, seed=3)
DIGITS = {"family": "bitwise", "options": {"digits": 4}, "n_demos": 4, "n_prompts": 12, "pool": "test"}
TESTS = [DIGITS, DIGITS | {"options": {"digits": 3}, "n_prompts": 4, "pool": "train"}]
MODEL = {"model": "tiny", "weights": "", "dtype": "float32", "source": ""}
SEED = 5


def plain(tuning):
    """As a parameter of a record comes back."""
    return json.loads(json.dumps(asdict(tuning)))


FACTS = {**MODEL, "family": "bitwise", "options": {"digits": 4}, "tuning": plain(TUNING), "tests": TESTS, "seed": SEED}


@pytest.fixture(autouse=True)
def small(tiny_llama, monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)
    for name, value in {"checked_model": lambda *_: tiny_llama, "EVERY": 2}.items():
        monkeypatch.setattr(band_tuning, name, value)


@pytest.fixture(scope="module")
def skilled(tiny_llama):
    """An adapter with which some answers begin as they should, and some do not."""
    tuning = Tuning((0, 1, 2), rank=4, dropout=0.0, steps=25, batch=8, rate=0.03, warm_up=5, n_demos=1)
    return train(tiny_llama, FAMILY, tuning)[0]


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def assert_same_results(one, other):
    """But for the time it took."""
    assert one.keys() == other.keys()
    pd.testing.assert_frame_equal(one["prompts"], other["prompts"])
    assert all(same(one[name], other[name]) for name in one.keys() - {"prompts", "training"})


def named_by_hand(states, labels, groups):
    """The commonest label of the ten nearest states of other groups, of equally common ones the nearest's: [N, L]."""
    rows = []
    for state, group in zip(states.double(), groups, strict=True):
        distances = (states.double() - state).norm(dim=-1)  # [N, L]
        distances[groups == group] = torch.inf
        near = labels[distances.argsort(0)[:10]].T.tolist()  # [L, 10]
        rows.append([max(found, key=found.count) for found in near])
    return torch.tensor(rows)


def test_votes_are_those_of_the_captured_states_of_other_groups(tiny_llama, skilled):
    prompts = up_to_answer(tiny_llama, family_prompts(FAMILY, 4, 12, SEED))
    with tuned(tiny_llama, skilled):
        table, votes = look(tiny_llama, **DIGITS, seed=SEED)
        states = capture(tiny_llama, list(prompts.texts))
    assert len(set(prompts.texts)) == 84  # or which of two equal ones is nearer would be a matter of rounding
    assert table["class"].tolist() == prompts.labels.tolist()
    assert table["group"].tolist() == prompts.groups.tolist()
    expected = named_by_hand(states, prompts.labels, prompts.groups)
    assert votes["task"].dtype == torch.int8
    assert torch.equal(votes["task"], expected.to(torch.int8))
    assert not torch.equal(named_by_hand(states, prompts.labels, torch.arange(len(states))), expected)
    symbols = torch.tensor([int(answer[0]) for answer in prompts.completions])
    right = named_by_hand(states, symbols, prompts.groups) == symbols[:, None]
    assert torch.equal(votes["symbol"], right)
    assert not right.all()


def test_the_first_symbol_is_the_models_likeliest(tiny_llama, skilled):
    prompts = up_to_answer(tiny_llama, family_prompts(FAMILY, 4, 12, SEED))
    with tuned(tiny_llama, skilled):
        table, _ = look(tiny_llama, **DIGITS, seed=SEED)
        ids = [torch.tensor([tiny_llama.tokenizer(text).input_ids]) for text in prompts.texts]
        with torch.no_grad():
            best = [tiny_llama.model(row).logits[0, -1].argmax() for row in ids]
    expected = [tiny_llama.tokenizer.decode(i) == y[0] for i, y in zip(best, prompts.completions, strict=True)]
    assert table["first"].tolist() == expected
    assert 0 < table["first"].mean() < 1


def test_what_is_recorded_is_what_the_trained_adapter_does(tiny_llama):
    record = recorded(BAND_TUNING, **FACTS)
    adapter, losses, _ = train(tiny_llama, FAMILY, TUNING)
    assert torch.equal(record.tensors("losses")["losses"], losses)
    assert record.table("training")["seconds"].item() > 0
    prompts = record.table("prompts")
    assert prompts["test"].unique().tolist() == [0, 1]
    for i, test in enumerate(TESTS):
        with tuned(tiny_llama, adapter):
            table, votes = look(tiny_llama, **test, seed=SEED)
        found = prompts.query("test == @i").drop(columns="test").reset_index(drop=True)
        pd.testing.assert_frame_equal(found, table)
        assert same(record.tensors(f"votes_{i}"), votes)


@pytest.mark.parametrize("lowest", [1, 2])
def test_votes_below_the_band_are_those_of_the_untrained_model(lowest, tmp_path):
    before = untrained(**MODEL, tests=TESTS, seed=SEED)
    tuning = plain(replace(TUNING, layers=tuple(range(lowest, 3))))
    after = run(**FACTS | {"tuning": tuning}, scratch=tmp_path / "scratch")
    assert not (before["prompts"].log_prob == after["prompts"].log_prob).any()
    for i in range(2):
        for kind in ("task", "symbol"):
            one, other = (results[f"votes_{i}"][kind] for results in (before, after))
            assert torch.equal(one[:, :lowest], other[:, :lowest])
    changed = (before["votes_0"]["task"] != after["votes_0"]["task"]).any(0)
    assert changed.tolist() == [layer >= lowest for layer in range(3)]


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    expected, real, steps = run(**FACTS, scratch=tmp_path / "whole"), finetuning.training_step, []

    def interrupted(*args):
        steps.append(args[3])
        if len(steps) == 4:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(finetuning, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(**FACTS, scratch=tmp_path / "stopped")
    assert_same_results(run(**FACTS, scratch=tmp_path / "stopped"), expected)
    assert steps == [0, 1, 2, 3, 2, 3, 4, 5]


def test_a_run_that_was_stopped_after_its_training_does_not_train_again(tmp_path, monkeypatch):
    expected = recorded(BAND_TUNING, **FACTS)
    with monkeypatch.context() as patch:
        patch.setattr(band_tuning, "look", None)
        with pytest.raises(TypeError):
            recorded(BAND_TUNING, **FACTS, recompute=True)
    monkeypatch.setattr(finetuning, "training_step", None)
    again = recorded(BAND_TUNING, **FACTS, recompute=True)
    pd.testing.assert_frame_equal(again.table("prompts"), expected.table("prompts"))
    assert torch.equal(again.tensors("losses")["losses"], expected.tensors("losses")["losses"])
    assert not list((tmp_path / "runs" / "scratch" / "band_tuning").iterdir())


def test_a_kept_adapter_is_the_trained_one_rounded(tiny_llama):
    record = recorded(BAND_TUNING, **FACTS, keep_adapter=True)
    adapter, kept = train(tiny_llama, FAMILY, TUNING)[0], kept_adapter(record)
    assert kept.tuning == TUNING
    assert same(kept.weights, {name: weight.bfloat16().float() for name, weight in adapter.weights.items()})
    with tuned(tiny_llama, kept):
        found = look(tiny_llama, **DIGITS, seed=SEED)[0].log_prob
    without = look(tiny_llama, **DIGITS, seed=SEED)[0].log_prob
    expected = record.table("prompts").query("test == 0").log_prob
    # bfloat16 has 8 bits: what the adapter does is kept to about one part in 256.
    assert (found - expected).abs().mean() < (without - expected).abs().mean() / 100


def tampered(monkeypatch, name, change):
    tensors = Record.tensors

    def other(self, asked):
        found = tensors(self, asked)
        return {key: change(value) for key, value in found.items()} if asked == name else found

    monkeypatch.setattr(Record, "tensors", other)


def agreement(experiment, record):
    return [comparison.agrees for comparison in experiment.verify(record)]


@pytest.mark.parametrize(("own_seed", "losses"), [(1, 2), (3, 1)])
def test_a_record_is_verified(own_seed, losses, monkeypatch):
    record = recorded(BAND_TUNING, **FACTS | {"tuning": FACTS["tuning"] | {"seed": own_seed}})
    assert agreement(BAND_TUNING, record) == [True] * losses
    tampered(monkeypatch, "losses", lambda losses: 1.01 * losses)
    assert agreement(BAND_TUNING, record) == [False] * losses


def test_a_record_with_its_adapter_is_verified(monkeypatch):
    record = recorded(BAND_TUNING, **FACTS, keep_adapter=True)
    assert agreement(BAND_TUNING, record) == [True, True]
    tampered(monkeypatch, "adapter", torch.zeros_like)
    assert agreement(BAND_TUNING, record) == [True, False]


def test_a_record_of_the_untrained_model_is_verified(monkeypatch, skilled, tiny_llama):
    record = recorded(UNTRAINED, **MODEL, tests=TESTS, seed=SEED)
    assert agreement(UNTRAINED, record) == [True]
    with tuned(tiny_llama, skilled):
        assert agreement(UNTRAINED, record) == [False]


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")])
def test_a_tuning_comes_back_from_json(targets):
    tuning = replace(TUNING, layers=(2, 0), targets=targets)
    assert tuning_of(plain(tuning)) == tuning
