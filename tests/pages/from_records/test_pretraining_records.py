"""Maps over pretraining: what goes together, and what comes when."""

import pandas as pd
import pytest
import torch

from task_vectors.pages.from_records.pretraining import at_checkpoint, related, seen_maps, unseen_maps

STEPS = range(0, 1000, 100)


def learned_at(starts, delay=0):
    """Tables of one seed: map k is encoded at starts[k], and solved `delay` steps later."""
    decodability, accuracy = [], []
    for kind in ("seen", "unseen"):
        for step in STEPS:
            for k, start in enumerate(starts):
                encoded, solved = step >= start, step >= start + delay
                td = 0.2 + 0.7 * (encoded and kind == "seen")
                decodability.append((kind, k, step, 0, 1, td))
                accuracy.append((kind, k, step, 0, "new", 0.1 + 0.8 * (solved and kind == "seen")))
                accuracy.append((kind, k, step, 0, "copied", step / 1000))
    columns = ["maps", "map", "step", "seed"]
    return pd.DataFrame(decodability, columns=[*columns, "layer", "td"]), pd.DataFrame(
        accuracy, columns=[*columns, "answer", "accuracy"]
    )


def test_maps_that_are_solved_when_they_are_encoded():
    both = seen_maps(*learned_at([100, 300, 500, 700]))
    assert len(both) == 4 * len(STEPS)
    [row] = related(both).itertuples()
    assert row.rank == pytest.approx(1)
    assert row.within == pytest.approx(1)
    assert row.checkpoints == 6  # from 100, the first map, to 600, before the last
    assert row.lag == 0
    assert row.own == 0
    assert row.other > 200
    assert row.td_at == row.accuracy_at == "50, 250, 450, 650"


def test_a_common_delay_is_a_lag_and_no_lack_of_coupling():
    [row] = related(seen_maps(*learned_at([100, 300, 500], delay=200))).itertuples()
    assert row.lag == -200
    assert row.own == 0
    assert row.rank < 1


def test_a_map_that_never_changes_has_no_step():
    [row] = related(seen_maps(*learned_at([100, 5000]))).itertuples()
    assert row.td_at == "50, –"


def test_unseen_maps_are_copied_and_not_told():
    table = unseen_maps(*learned_at([100, 300])).set_index(["what", "step"]).value
    assert table["Task Decodability"].tolist() == pytest.approx([0.2] * len(STEPS))
    assert table["accuracy, new input"].tolist() == pytest.approx([0.1] * len(STEPS))
    assert table["accuracy, input stood before"].tolist() == pytest.approx([step / 1000 for step in STEPS])


class Recorded:
    """One task and Null, two prompts of each; the layer at which the task is named, and whether it is solved."""

    def __init__(self, layer, right):
        self.layer, self.right = layer, right

    def table(self, name):
        right = [*self.right, False, False]
        return {"prompts": pd.DataFrame({"class": [0, 0, 1, 1], "group": [0, 1, 0, 1], "right": right})}[name]

    def tensors(self, name):
        votes = torch.ones(4, 3, dtype=torch.int8)
        votes[:2, self.layer] = 0
        votes[0, 2] = 0
        return {"votes": {"euclidean": votes}}[name]


def test_the_layer_is_chosen_on_other_prompts():
    found = at_checkpoint(Recorded(1, [False, False]), Recorded(0, [True, False]))
    assert found == {"layer": 2, "TD": 0, "accuracy": 0.5}
    assert at_checkpoint(Recorded(0, [False, False]), Recorded(0, [True, False]))["TD"] == 1
