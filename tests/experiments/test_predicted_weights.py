"""Which predicted weights are kept, and that worse ones are found out."""

import numpy as np
import pytest

from task_vectors.experiments import predicted_weights
from task_vectors.experiments.predicted_weights import PREDICTED
from task_vectors.linear_attention.dropout import OBJECTIVES, second_moment, visible
from task_vectors.records.store import recorded


@pytest.fixture
def record(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    return recorded(PREDICTED, n=3, keeps=[0.2, 1.0], causal=True)


def test_each_probability_has_its_own_minimum(record):
    kept = {float(keep): weights.numpy() for keep, weights in record.tensors("weights").items()}
    assert kept.keys() == {0.2, 1.0}
    for keep, weights in kept.items():
        assert np.linalg.norm(weights) == pytest.approx(1)
        assert not weights[~visible(3, causal=True)].any()
        others = [second_moment(other, keep, 4) for other in kept.values()]
        assert second_moment(weights, keep, 4) == min(others) < max(others)


def test_a_record_agrees_with_its_verification(record, monkeypatch):
    assert all(item.agrees for item in PREDICTED.verify(record))
    even = visible(3, causal=True) / np.sqrt(visible(3, causal=True).sum())
    monkeypatch.setattr(predicted_weights, "predicted_weights", lambda *args, **options: even)
    assert not any(item.agrees for item in PREDICTED.verify(record))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_another_objective_and_dimension_are_verified_as_such(objective, monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    record = recorded(PREDICTED, n=3, keeps=[0.2], causal=True, d=9, objective=objective)
    [compared] = PREDICTED.verify(record)
    kept = record.tensors("weights")["0.2"].numpy()
    assert compared.agrees
    assert compared.recorded == pytest.approx(OBJECTIVES[objective](kept, 0.2, 9))
