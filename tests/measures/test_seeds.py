"""The best of drawn seeds, against what drawing by hand gives."""

import numpy as np
import pytest

from task_vectors.measures.seeds import drawn_best


def test_a_stray_best_seed_is_missed_as_often_as_it_must_be():
    """Of 8 seeds a draw misses one with probability (7/8)^8, and both of the best two with (6/8)^8."""
    values = np.array([7.0, 3, 6, 5, 1, 8, 2, 4])
    found = drawn_best(values, values, np.random.default_rng(0), draws=20_000)
    assert (found > 1).mean() == pytest.approx((7 / 8) ** 8, abs=0.015)
    assert (found > 2).mean() == pytest.approx((6 / 8) ** 8, abs=0.015)


def test_one_number_chooses_and_another_is_reported():
    found = drawn_best([0.3, 0.1, 0.2], [[1, 10], [2, 20], [3, 30]], np.random.default_rng(0), draws=500)
    assert found.shape == (500, 2)
    assert (found[:, 1] == 10 * found[:, 0]).all()
    assert np.bincount(found[:, 0]).argmax() == 2
    # Seed 0, the worst, only where it was drawn three times.
    assert (found[:, 0] == 1).mean() == pytest.approx(1 / 27, abs=0.03)


def test_a_training_that_diverged_is_never_the_best():
    found = drawn_best([np.nan, 2.0], [1, 2], np.random.default_rng(0), draws=500)
    assert (found == 1).mean() == pytest.approx(1 / 4, abs=0.06)  # where nothing else was drawn
