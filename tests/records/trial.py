"""An experiment of a moment's work, that is registered while a test runs (conftest.py)."""

import numpy as np
import pandas as pd
import torch

from task_vectors.experiments import registry, verification
from task_vectors.records import store
from task_vectors.records.store import Comparison, Experiment

VALUE = 0.1 + 0.2


def run(size, name="a"):
    table = pd.DataFrame({"x": np.arange(size) * VALUE, "name": [name] * size})
    return {"table": table, "weights": {"w": torch.arange(size, dtype=torch.float32)}}


def verify(record):
    return [Comparison("last x", record.table("table")["x"].iloc[-1], (record.parameters["size"] - 1) * VALUE, 1e-12)]


TRIAL = Experiment("trial", 1, run, verify)


def set_digest(monkeypatch, value: str) -> None:
    """What the code is now."""
    for module in (store, registry, verification):
        monkeypatch.setattr(module, "source_digest", lambda experiment, parameters: value)
