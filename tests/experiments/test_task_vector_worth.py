"""The scores that are kept are those of the recorded models, and another model is found out."""

import pytest

from task_vectors.experiments import linear_transformer, task_vector_worth
from task_vectors.experiments.linear_transformer import RISKS, best_weights
from task_vectors.experiments.task_vector_worth import WORTH
from task_vectors.linear_attention.reduction import INPUTS, TASKS, icl_score, sample_problem, task_vector_score
from task_vectors.records.store import recorded

TRAINED = {"layout": "triplets", "n_layers": 2, "n": 3, "n_seeds": 2, "steps": 30, "penalty": 3e-4}
N_PROMPTS = 500


@pytest.fixture
def record(monkeypatch, tmp_path):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path))
    for name in ("SELECTION_PROMPTS", "TEST_PROMPTS"):
        monkeypatch.setattr(linear_transformer, name, 4_000)
    return recorded(WORTH, trained=TRAINED, one_shot=TRAINED | {"n": 1}, n_prompts=N_PROMPTS)


def test_the_scores_are_those_of_the_recorded_models(record):
    table = record.table("scores").set_index(["inputs", "task", "method"]).angle
    model, rival = (best_weights(recorded(RISKS, **TRAINED | {"n": n})) for n in (3, 1))
    for inputs in INPUTS:
        for task in TASKS:
            problem = sample_problem(N_PROMPTS, 3, 4, inputs, task, seed=3)
            expected = {
                "task vector": task_vector_score(model, *problem),
                "all demonstrations": icl_score(model, *problem),
                "one demonstration": icl_score(rival, *sample_problem(N_PROMPTS, 1, 4, inputs, task, seed=1)),
            }
            for method, score in expected.items():
                assert table[inputs, task, method] == pytest.approx(score.angle.item(), rel=1e-5)


def test_a_record_agrees_with_its_verification(record, monkeypatch):
    assert all(item.agrees for item in WORTH.verify(record))
    monkeypatch.setattr(
        task_vector_worth, "best_weights", lambda record: best_weights(record).map(lambda tensor: tensor + 0.3)
    )
    compared = WORTH.verify(record)
    for method in ("task vector", "all demonstrations", "one demonstration"):
        agree = [item.agrees for item in compared if item.what.endswith(method)]
        assert len(agree) == 2
        assert not all(agree), method
