import pandas as pd
import pytest
import torch

from task_vectors.experiments import linear_transformer
from task_vectors.experiments.linear_transformer import RISKS, best_risk, best_weights
from task_vectors.experiments.registry import get_experiment
from task_vectors.linear_attention.training import evaluate
from task_vectors.records.store import recorded

PARAMETERS = {"n": 3, "n_seeds": 2, "steps": 30, "penalty": 3e-4}


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    for name in ("SELECTION_PROMPTS", "TEST_PROMPTS"):
        monkeypatch.setattr(linear_transformer, name, 8_000)


@pytest.mark.parametrize(("layout", "n_layers"), [("single", 1), ("pairs", 2), ("triplets", 3)])
def test_a_record_agrees_with_its_verification(layout, n_layers):
    record = recorded(RISKS, layout=layout, n_layers=n_layers, **PARAMETERS)
    assert get_experiment(record.experiment) is RISKS
    assert all(item.agrees for item in RISKS.verify(record))
    assert record.table("risks")["seed"].tolist() == [0, 1]


def test_the_best_seed_is_chosen_on_other_prompts():
    record = recorded(RISKS, layout="triplets", n_layers=2, **PARAMETERS)
    row = best_risk(record)
    risks, _ = evaluate(best_weights(record), 8_000, linear_transformer.TEST_SEED)
    assert risks.item() == pytest.approx(row["risk"], rel=1e-4)
    assert row["selection"] == record.table("risks")["selection"].min()


def test_other_weights_are_found_out(monkeypatch):
    record = recorded(RISKS, layout="pairs", n_layers=2, **PARAMETERS)
    true = linear_transformer.best_weights
    monkeypatch.setattr(
        linear_transformer, "best_weights", lambda record: true(record).map(lambda tensor: tensor + 0.3)
    )
    assert [item.agrees for item in RISKS.verify(record)] == [False, True]


def test_another_start_is_found_out(monkeypatch):
    record = recorded(RISKS, layout="pairs", n_layers=2, **PARAMETERS)
    history = pd.DataFrame({"risk": [torch.pi]})
    monkeypatch.setattr(linear_transformer, "train", lambda *args, **kwargs: (None, history))
    assert [item.agrees for item in RISKS.verify(record)] == [True, False]
