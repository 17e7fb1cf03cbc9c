"""Changes of accuracy by patched means: the tasks that count, and the baseline that they count against."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from task_vectors.experiments.patched_means import KINDS, NONE
from task_vectors.pages.from_records.patched_means import (
    accuracy_by_task,
    change,
    change_table,
    changes_by_layer,
    has_mean,
    published_changes,
    right_by_kind,
)

TASKS = ("AND", "OR", "Null")


class Recorded:
    """Two tasks, four groups, two layers. The first task is always right before, the second never and without a
    positive mean. In the second layer every mean makes every prompt wrong, in the first every prompt right."""

    def tensors(self, name):
        if name == "before":
            return {"right": torch.tensor([[True] * 4, [False] * 4])}
        patched = torch.tensor([1, 0], dtype=torch.int8).expand(2, 4, 2)
        without = torch.stack([patched[0], torch.full((4, 2), NONE, dtype=torch.int8)])
        return {kind: without if kind == "positive" else patched for kind in KINDS}


@pytest.fixture
def right():
    return right_by_kind(Recorded())


def test_a_task_without_a_mean_is_not_wrong_but_missing(right):
    assert right["before"][:, 0].tolist() == [[1, 1], [0, 0]]  # the same at all layers
    assert has_mean(right).tolist() == [True, False]
    assert np.isnan(right["positive"][1]).all()
    assert has_mean(right, "negative").all()


def test_changes_are_of_the_tasks_that_have_the_mean(right):
    assert change(right, 0, "positive").mean == 0  # of the first task alone, which was right before
    assert change(right, 1, "positive").mean == -1
    assert change(right, 0, "negative").mean == 0.5  # of both
    assert change(right, 0, "negative", tasks=has_mean(right)).mean == 0
    assert change(right, 0, "positive", "unselected").mean == 0
    nobody = right | {"positive": np.full((2, 4, 2), np.nan)}
    assert np.isnan(change(nobody, 0, "positive").mean)
    table = change_table(nobody, 0, TASKS)
    assert table["tasks with a positive mean"] == "none"
    assert table["positive (tasks that have one)"] == table["negative (the same tasks)"] == "–"


def test_a_table_names_the_tasks(right):
    table = change_table(right, 1, TASKS)
    assert table["tasks with a positive mean"] == "AND"
    assert table["layer"] == "2"
    everybody = right | {"positive": right["negative"]}
    assert change_table(everybody, 1, TASKS)["tasks with a positive mean"] == "all"
    assert table["negative (all tasks)"].startswith("-0.50")
    assert table["negative (the same tasks)"].startswith("-1.00")


def test_by_layer_each_kind_has_the_baseline_of_its_own_tasks(right):
    table = changes_by_layer({"bitwise": right}).set_index(["what", "layer"]).change
    assert table["positive"].tolist() == [0, -1]
    assert table["negative"].tolist() == [0.5, -0.5]


def test_accuracy_by_task(right):
    family = SimpleNamespace(tasks=TASKS)
    table = accuracy_by_task({"pos": right}, {"pos": 1}, {"pos": family}).set_index(["task", "what"]).accuracy
    assert table["AND", "before"] == 1
    assert table["AND", "positive"] == 0
    assert ("OR", "positive") not in table.index


def test_published_changes():
    """A positive mean raises accuracy, a negative one lowers it, and words raise it, in both families."""
    found = published_changes()
    assert found.loc["bitwise", "positive"] == pytest.approx((5.3 + 13.7 + 1.3 + 2.6 + 0.8 - 1) / 600, abs=1e-9)
    assert (found.positive > 0).all()
    assert (found.negative < 0).all()
    assert (found.better > 0).all()
    assert found.told.to_list() == pytest.approx([0.90 - 0.43, 0.97 - 0.68])
