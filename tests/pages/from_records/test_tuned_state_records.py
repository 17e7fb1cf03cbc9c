"""What one record of tuned_state says, of two tasks with three prompts each and two layers."""

import numpy as np
import pytest
import torch

from task_vectors.measures.statistics import mean_over_units
from task_vectors.pages.from_records.tuned_state import (
    accuracy_table,
    carried,
    over_prompts,
    swept_table,
    through_figure,
    vector_figure,
)

TASKS, GROUPS, L = 2, 3, 2
SWEPT = [f"{vector} in {model}" for vector in ("before", "after") for model in ("before", "after")] + ["through"]
SCORED = [f"{what}, {model}" for what in ("alone", "few-shot") for model in ("before", "after")]


class FakeRecord:
    parameters = {"n_prompts": GROUPS}

    def __init__(self):
        rng = torch.Generator().manual_seed(0)
        shapes = dict.fromkeys(SCORED, (TASKS * GROUPS,)) | dict.fromkeys(SWEPT, (TASKS * GROUPS, L))
        self.log_prob = {name: -torch.rand(shape, generator=rng) for name, shape in shapes.items()}
        self.right = {name: found > -0.5 for name, found in self.log_prob.items()}

    def tensors(self, name):
        return {"log_prob": self.log_prob, "right": self.right}[name]


@pytest.fixture
def record():
    return FakeRecord()


def test_prompts_of_one_group_are_one_unit(record):
    values = torch.tensor([0.0, 1, 2, 4, 5, 9])  # groups are the same three in each task
    assert over_prompts(record, values) == mean_over_units(np.array([2.0, 3.0, 5.5]))


def test_what_one_state_carries_is_a_part_of_the_whole(record):
    whole, parts = carried(record)
    plain, tuned = record.log_prob["few-shot, before"], record.log_prob["few-shot, after"]
    assert whole.mean == pytest.approx((tuned - plain).mean().item(), abs=1e-6)
    assert len(parts) == L
    for layer, part in enumerate(parts):
        assert part.mean == pytest.approx((record.log_prob["through"][:, layer] - plain).mean().item(), abs=1e-6)


def test_vectors_and_models_are_not_mixed_up(record):
    table = swept_table(record).set_index(["vector", "model", "layer"]).log_prob
    assert table["vector from after", "model before", 2] == record.log_prob["after in before"][:, 1].mean().item()
    assert table["no vector", "model after", 1] == record.log_prob["alone, after"].mean().item()
    assert len(table) == 2 * 3 * L
    accuracy = accuracy_table(record, 1)
    expected = record.right["before in after"][:, 1].float().mean()
    assert accuracy.loc["vector from before", "model after"] == f"{expected:.2f}"
    assert accuracy.loc["demonstrations", "model before"] == f"{record.right['few-shot, before'].float().mean():.2f}"


def test_figures_show_what_was_recorded(record):
    [rows] = vector_figure(record).to_dict()["datasets"].values()
    assert len(rows) == 2 * 3 * L
    [rows] = through_figure(record).to_dict()["datasets"].values()
    assert [row["log_prob"] for row in rows] == pytest.approx(record.log_prob["through"].mean(0).tolist())
