"""Streams follow their maps, questions differ in the map alone, and training, looks and records do what they say."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.experiments.pretraining import CHECK_SEED, LOOK, PRETRAINING, Maps, build, checkpoint, look, read
from task_vectors.measures.decodability import task_decodability
from task_vectors.records.store import recorded

SMALL = {"n_symbols": 6, "n_maps": 2, "fresh": 0.3, "n_pairs": 5, "n_demos": 3, "n_layers": 2, "width": 16}
TRAINING = {"steps": 12, "batch": 8, "rate": 3e-3, "looks": [0, 6, 12], "kept": [6, 12]}


@given(seed=st.integers(0, 1000), n_symbols=st.integers(3, 12), n_maps=st.integers(1, 4))
def test_maps_are_permutations_and_streams_follow_one(seed, n_symbols, n_maps):
    maps = Maps(n_symbols, n_maps, 0.0, seed)
    for tables in maps.tables.values():
        assert torch.equal(tables.sort(1).values, torch.arange(n_symbols).expand(n_maps, -1))
    ids = maps.streams(30, 7, torch.Generator().manual_seed(seed))
    assert ids.shape == (30, 14)
    x, y = ids[:, ::2], ids[:, 1::2]
    seen = maps.tables["seen"]
    assert all(any(torch.equal(table[a], b) for table in seen) for a, b in zip(x, y, strict=True))


def test_fresh_streams_have_maps_of_their_own():
    maps = Maps(30, 2, 1.0, 0)
    ids = maps.streams(50, 20, torch.Generator().manual_seed(0))
    x, y = ids[:, ::2], ids[:, 1::2]
    known = torch.cat(list(maps.tables.values()))
    assert not any(torch.equal(table[a], b) for table in known for a, b in zip(x, y, strict=True))
    for a, b in zip(x.tolist(), y.tolist(), strict=True):  # a function, and one to one
        assert len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


def test_the_first_map_is_the_commonest():
    maps = Maps(16, 4, 0.0, 0)
    ids = maps.streams(4000, 6, torch.Generator().manual_seed(0))
    fits = [(maps.tables["seen"][k][ids[:, ::2]] == ids[:, 1::2]).all(1).float().mean().item() for k in range(4)]
    expected = (maps.shares / maps.shares.sum()).tolist()
    assert fits == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("kind", ["seen", "unseen"])
def test_questions(kind, copied):
    maps = Maps(9, 3, 0.0, 1)
    prompts, answers = maps.questions(kind, 4, 20, 5, copied)
    assert prompts.shape == (60, 9)
    x, y = prompts[:, ::2], prompts[:, 1::2]
    assert torch.equal(x.view(3, 20, 5)[0], x.view(3, 20, 5)[2])  # the same inputs for every map
    for i in range(60):
        table = maps.tables[kind][i // 20]
        assert torch.equal(table[x[i, :-1]], y[i])
        assert answers[i] == table[x[i, -1]]
        assert (x[i, -1] in x[i, :-1]) == copied
        assert len(set(x[i, :-1].tolist())) == 4


def test_read_gives_the_models_own_states():
    lm = build(6, 5, 3, 16, 0)
    prompts = torch.randint(6, (4, 7), generator=torch.Generator().manual_seed(0))
    states, logits = read(lm, prompts)
    out = lm.model(prompts, output_hidden_states=True)
    torch.testing.assert_close(logits, out.logits[:, -1])
    torch.testing.assert_close(states[:, :-1], torch.stack(out.hidden_states[1:-1], 1)[:, :, -1])


def test_a_look_is_what_it_says():
    maps, lm = Maps(6, 2, 0.0, 0), build(6, 5, 2, 16, 0)
    tables = look(lm, maps, 3)
    prompts, answers = maps.questions("unseen", 3, LOOK, CHECK_SEED, True)
    right = lm.model(prompts).logits[:, -1].argmax(-1) == answers
    mine = tables["accuracy"].query("maps == 'unseen' and answer == 'copied'").accuracy
    assert mine.tolist() == pytest.approx(right.view(2, LOOK).float().mean(1).tolist())
    states, _ = read(lm, maps.questions("seen", 3, LOOK, CHECK_SEED, False)[0])
    labels, groups = torch.arange(2).repeat_interleave(LOOK), torch.arange(LOOK).repeat(2)
    expected = task_decodability(states.detach()[:, 1], labels, groups=groups)
    mine = tables["decodability"].query("maps == 'seen' and layer == 2").td
    assert mine.tolist() == pytest.approx(expected.tolist())


def test_a_record_is_verified_and_its_checkpoints_load(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    record = recorded(PRETRAINING, seed=0, **SMALL, **TRAINING)
    assert sorted(record.table("accuracy").step.unique()) == TRAINING["looks"]
    assert all(comparison.agrees for comparison in PRETRAINING.verify(record))
    early, late = (checkpoint(record, step).model for step in TRAINING["kept"])
    assert not torch.equal(early.lm_head.weight, late.lm_head.weight)
    assert torch.equal(late.lm_head.weight, late.lm_head.weight.bfloat16().float())


def test_seeds_differ_and_one_seed_repeats(monkeypatch, tmp_path):
    losses = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / name))
        losses.append(recorded(PRETRAINING, seed=seed, **SMALL, **TRAINING).tensors("losses")["losses"])
    assert torch.equal(losses[0], losses[1])
    assert not torch.allclose(losses[0], losses[2])
    assert losses[0][-1] < losses[0][0]
