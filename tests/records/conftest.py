from pathlib import Path

import pytest
from trial import set_digest

from task_vectors.experiments import registry
from task_vectors.records import store


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A project without records, and where what is computed is written; the experiment "trial" is registered."""
    monkeypatch.setattr(store, "project_root", lambda: tmp_path)
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(tmp_path / "records"))
    monkeypatch.setitem(registry.EXPERIMENTS, "trial", "trial:TRIAL")
    set_digest(monkeypatch, "today")
    return tmp_path / "records"
