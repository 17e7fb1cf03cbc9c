"""What chapter 1 shows of the layers after which a vector works, counted by hand."""

import pandas as pd
import pytest
import torch

from task_vectors.lm.bundled import BUNDLED
from task_vectors.pages.from_records import injection_window as window
from task_vectors.pages.from_records.ladder import PRECISIONS, on_ladder

# Of the four prompts, how many are right after each of five layers.
COUNTS = {
    "own": [0, 0, 4, 4, 3],
    "vector": [0, 1, 4, 0, 0],
    "added": [0, 0, 3, 2, 0],
    "rescaled": [0, 0, 4, 0, 0],
    "sink": [0, 0, 2, 0, 0],
    "sentence": [0, 2, 4, 0, 0],
}


class FakeRecord:
    def __init__(self, model="gemma-3-270m", task="present_to_gerund", **counts):
        self.parameters, self.counts = {"model": model, "task": task}, COUNTS | counts

    def tensors(self, way):
        return {"exact": torch.tensor([[i < n for n in self.counts[way]] for i in range(4)])}

    def table(self, name):
        return pd.DataFrame({"prefix": [0, 1, 0, 1]})


def test_open_layers_are_those_of_at_least_half_of_what_is_possible():
    record = FakeRecord()
    found = {way: window.open_layers(record, way) for way in COUNTS}
    assert found == {
        "own": [2, 3, 4],
        "vector": [2],
        "added": [2, 3],
        "rescaled": [2],
        "sink": [2],
        "sentence": [1, 2],
    }
    assert window.width(record, "added") == 2 / 5


def test_a_task_that_the_model_cannot_do_does_not_count():
    able = FakeRecord(own=[0, 1, 0, 0, 0])
    assert window.counted([FakeRecord(own=[0] * 5), able]) == [able]


def test_the_best_layer_is_scored_on_prompts_that_did_not_choose_it():
    # Right after layer 1 are prompts 0 and 2, after layer 2 prompts 1 and 3: each half chooses what the other lacks.
    record = FakeRecord()
    record.tensors = lambda way: {"exact": torch.tensor([[0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]]).bool()}
    assert window.held_out_best(record, "vector") == 0
    assert window.held_out_best(FakeRecord(), "vector") == 1


def test_differences_and_their_units():
    records = [FakeRecord(m, t) for m in ("gemma-3-270m", "smollm2-135m") for t in ("a", "b")]
    records[0] = FakeRecord("gemma-3-270m", "a", added=[0, 0, 0, 4, 4])
    assert window.wider(records, "added").mean == pytest.approx((1 + 1 + 1 + 1) / 4 / 5)
    better = [FakeRecord(m, t, vector=[0, 0, 2, 0, 0]) for m in ("gemma-3-270m", "smollm2-135m") for t in "ab"]
    assert window.more_accurate(better, "added").mean == pytest.approx(0.25)
    late = window.opens_later(records)
    assert late.mean == 0.25
    assert late.low == 0 < late.high
    assert window.opens_later([*records, FakeRecord("qwen2.5-coder-0.5b", "a", added=[0] * 5)]).mean == 0.25


def test_tables():
    records = [FakeRecord(task="a"), FakeRecord(task="b", own=[0, 4, 4, 4, 4])]
    curve = window.by_depth(records, ["vector"])
    assert curve.accuracy.tolist() == [0, 0.25, 1, 0, 0]
    assert curve.depth.tolist() == [0.2, 0.4, 0.6, 0.8, 1]
    [row] = window.widths(records).to_dict("records")
    assert row["", "opens after"] == "1 to 2"
    assert row["open layers", "replaced"] == "20%"
    assert row["accuracy", "replaced"] == "1.00"


def test_every_model_of_pip_is_on_the_ladder_by_size():
    sizes = [BUNDLED[name].weights for name in PRECISIONS]
    assert set(PRECISIONS) == set(BUNDLED)
    assert sizes == sorted(sizes)
    assert on_ladder("smollm2-135m")["weights"].startswith("b179")
