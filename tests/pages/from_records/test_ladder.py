"""The models that records are asked of."""

import pytest

from task_vectors.lm.bundled import BUNDLED
from task_vectors.pages.from_records import ladder
from task_vectors.pages.from_records.ladder import model_facts


def test_a_model_from_pip_is_named_without_being_there(monkeypatch, tiny_facts):
    assert model_facts(tiny_facts["model"], "float32") == tiny_facts
    monkeypatch.setattr(ladder, "loaded_model", lambda name, dtype: pytest.fail("loaded"))
    facts = model_facts("qwen2.5-coder-1.5b", "bfloat16")
    expected = {"model": "qwen2.5-coder-1.5b", "dtype": "bfloat16", "weights": BUNDLED["qwen2.5-coder-1.5b"].sha256}
    assert facts == expected
