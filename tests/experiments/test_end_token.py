"""Which weights of either kind are kept, and that others are found out."""

import pytest

from task_vectors.experiments import end_token
from task_vectors.experiments.end_token import END_TOKEN, KINDS
from task_vectors.records.store import recorded

SIZES = {"n_layers": 2, "n": 2, "n_seeds": 2, "steps": 30, "penalty": 0.003}


@pytest.fixture(autouse=True)
def few_prompts(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    for name in ("SELECTION_PROMPTS", "TEST_PROMPTS", "CHECK_PROMPTS"):
        monkeypatch.setattr(end_token, name, 4000)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_holds_the_best_seed_and_agrees_with_its_verification(kind):
    record = recorded(END_TOKEN, kind=kind, **SIZES)
    risks = record.table("risks")
    assert risks.seed.tolist() == [0, 1]
    assert (risks.risk < 4.5).all()  # the zero model's is 4
    [compared] = END_TOKEN.verify(record)
    assert compared.agrees
    assert compared.recorded == risks.check[risks.selection.idxmin()]


@pytest.mark.parametrize("kind", KINDS)
def test_other_weights_do_not_agree(kind, monkeypatch):
    record = recorded(END_TOKEN, kind=kind, **SIZES)
    kept = record.tensors("best")
    moved = {name: tensor + 0.3 for name, tensor in kept.items()}
    monkeypatch.setattr(type(record), "tensors", lambda self, name: moved)
    assert not any(compared.agrees for compared in END_TOKEN.verify(record))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind 'three heads'; there are: end token, two heads"):
        recorded(END_TOKEN, kind="three heads", **SIZES)
