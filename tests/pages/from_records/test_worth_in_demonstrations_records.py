"""What a vector is worth, on curves whose answer is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from task_vectors.pages.from_records.worth_in_demonstrations import (
    beside_likely,
    by_layer,
    distances,
    equally_likely,
    followed,
    growth,
    miscalibration,
    nearest,
    over_tasks,
    worths,
)

SHOTS = [0, 1, 2, 4, 8]
CANDIDATES = [("shot", k) for k in SHOTS] + [("replaced", 1), ("replaced", 10)]


def made(task: str, at: list[float], log_prob: list[float], top: float = 1.0) -> SimpleNamespace:
    """A record whose candidate c lies nearest to at[c] shots, by parabolas."""
    curves = torch.tensor([[0.5 + (k - a) ** 2 for k in SHOTS] for a in at])[None]  # [1, C, K]
    parts = {
        "distances": {"to_vector": curves, "from_vector": curves.flip(1)},
        "answers": {"log_prob": torch.tensor([log_prob]), "top": torch.full((1, len(at)), top)},
        "layers": {"to_vector": curves[:, :3]},
    }
    return SimpleNamespace(
        parameters={"model": "m", "task": task, "shots": SHOTS},
        tensors=parts.__getitem__,
        table=lambda _: pd.DataFrame(CANDIDATES, columns=["kind", "n"]),
    )


@pytest.fixture
def records():
    log_prob = [-4.0, -2, -1, -0.5, -0.25, -3.0, -0.75]
    return [made(f"t{i}", [0, 1, 2, 4, 8, 1.2, 2.6 + i / 10], log_prob) for i in range(3)]


def test_the_nearest_is_the_vertex_also_on_an_uneven_grid_and_the_end_where_that_is_lowest():
    assert nearest(SHOTS, [(k - 2.7) ** 2 for k in SHOTS]) == pytest.approx(2.7)
    assert nearest(SHOTS, [k + 1.0 for k in SHOTS]) == 0
    assert nearest(SHOTS, [-k for k in SHOTS]) == 8


def test_equal_log_probability_is_read_off_the_rising_part_and_kept_on_the_grid():
    assert equally_likely(SHOTS, [-4, -2, -1, -0.5, -0.25], -3) == pytest.approx(0.5)
    assert equally_likely(SHOTS, [-4, -2, -2.5, -1, -0.5], -1.5) == pytest.approx(3)
    assert equally_likely(SHOTS, [-4, -2, -1, -0.5, -0.25], 0) == 8
    assert equally_likely(SHOTS, [-4, -2, -1, -0.5, -0.25], -9) == 0


def test_a_task_counts_where_the_most_demonstrations_are_answered():
    at = [0, 1, 2, 4, 8, 1, 1]
    assert followed(made("t", at, [-1.0] * 7, top=0.61))
    assert not followed(made("t", at, [-1.0] * 7, top=0.59))


def test_worths_by_each_measure(records):
    table = worths(records)
    assert over_tasks(table, "replaced", 10).mean == pytest.approx(2.7)
    assert over_tasks(table, "shot", 4).mean == pytest.approx(4)
    assert growth(table, "replaced", 1, 10).mean == pytest.approx(1.5)
    [likely] = table.query("task == 't0' and kind == 'replaced' and n == 10").likely
    assert likely == pytest.approx(3)  # halfway between -1 at two and -0.5 at four
    assert beside_likely(table, "replaced", 10).mean == pytest.approx(3 - 2.7)
    backward = worths(records, "from_vector")  # where candidates stand in the other order
    assert over_tasks(backward, "replaced", 10).mean == 0


def test_miscalibration_is_that_of_true_prompts_inside_the_grid(records):
    assert miscalibration(worths(records)) == pytest.approx(0)
    moved = made("t", [0, 1.5, 3, 4, 0, 9, 9], [-1.0] * 7)
    assert miscalibration(worths([moved])) == pytest.approx((0.5 + 1 + 0) / 3)


def test_excess_is_over_a_true_prompt_of_the_nearest_number_and_there_is_none_at_zero(records):
    table = worths(records).query("task == 't0'").set_index(["kind", "n"]).excess
    assert table["replaced", 1] == pytest.approx(np.log2((0.5 + 0.2**2) / 0.5))
    assert table["shot", 2] == 0
    assert np.isnan(table["shot", 0])


def test_rows_carry_their_candidate_and_layers_their_depth(records):
    rows = distances(records).query("task == 't1' and kind == 'replaced' and n == 1 and k == 4")
    assert rows.distance.tolist() == pytest.approx([0.5 + 2.8**2])
    layers = by_layer(records[:1])
    assert layers.depth.tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert layers.nearest.tolist() == pytest.approx([0, 1, 2])
