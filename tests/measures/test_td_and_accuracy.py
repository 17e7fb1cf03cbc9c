"""The relation of decodability and accuracy equals scipy's, and its bootstrap draws what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from task_vectors.measures.statistics import interval
from task_vectors.measures.td_and_accuracy import (
    permutation_p,
    relation,
    resampled,
    resampled_slopes,
    slope_of_gains,
)


@given(seed=st.integers(0, 10_000), shots=st.integers(2, 5), tasks=st.integers(3, 8))
def test_statistics_are_scipys(seed, shots, tasks):
    rng = np.random.default_rng(seed)
    td, accuracy = rng.random((2, shots, tasks))
    found, line = relation(td, accuracy), stats.linregress(td.ravel(), accuracy.ravel())
    assert found.r2 == pytest.approx(line.rvalue**2)
    assert found.slope == pytest.approx(line.slope)
    assert found.rank == pytest.approx(stats.spearmanr(td.ravel(), accuracy.ravel()).statistic)
    for row, rank in enumerate(found.within_demos):
        assert rank == pytest.approx(stats.spearmanr(td[row], accuracy[row]).statistic)
    for column, slope in enumerate(found.within_task):
        assert slope == pytest.approx(stats.linregress(td[:, column], accuracy[:, column]).slope)


def test_ties_in_ranks():
    td, accuracy = np.array([[0.1, 0.1, 0.5, 0.9]]), np.array([[0.2, 0.3, 0.3, 0.8]])
    assert relation(td, accuracy).rank == pytest.approx(stats.spearmanr(td[0], accuracy[0]).statistic)


def test_what_does_not_vary_has_no_relation():
    flat, rising = np.full((2, 3), 0.5), np.arange(6.0).reshape(2, 3) / 6
    for found in (relation(flat, rising), relation(rising, flat)):
        assert np.isnan([found.r2, found.rank, *found.within_demos]).all()
    assert np.isnan(relation(flat, rising).slope)
    assert relation(rising, flat).slope == pytest.approx(0)


def test_pooling_over_demonstrations_can_make_a_relation_of_none():
    """Simpson's paradox: both rise with demonstrations; at each number of them the relation is reversed."""
    td = np.array([[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
    found = relation(td, np.array([[0.3, 0.2, 0.1], [0.8, 0.7, 0.6]]))
    assert found.r2 > 0.5
    assert found.within_demos.tolist() == pytest.approx([-1, -1])
    assert found.within_task.tolist() == pytest.approx([1, 1, 1])


def outcomes(B=40, seed=0):
    rng = np.random.default_rng(seed)
    level = np.linspace(0.1, 0.9, 12).reshape(2, 6)[..., None]
    return rng.random((2, 6, B)) < level, rng.random((2, 6, B)) < level


def test_units_are_what_is_drawn():
    named, right = outcomes()
    same = np.repeat(named[..., :1], 40, -1), np.repeat(right[..., :1], 40, -1)  # groups do not differ
    assert set(resampled(*same, "prompts", 20).r2) == {relation(same[0].mean(-1), same[1].mean(-1)).r2}
    one_task = np.repeat(named[:, :1], 6, 1), np.repeat(right[:, :1], 6, 1)  # tasks do not differ
    expected = relation(one_task[0].mean(-1), one_task[1].mean(-1)).r2
    assert resampled(*one_task, "tasks", 20).r2 == pytest.approx([expected] * 20)
    for units in ("prompts", "tasks", "both"):
        assert len(set(resampled(named, right, units, 50).r2)) > 25


def test_samples_together_are_as_samples_one_by_one():
    td, accuracy = np.random.default_rng(0).random((2, 5, 3, 6))
    td[1] = 0.5  # does not vary
    together = relation(td, accuracy)
    for draw in range(5):
        for values, one in zip(together, relation(td[draw], accuracy[draw]), strict=True):
            assert values[draw] == pytest.approx(one, nan_ok=True)


def test_the_mean_rank_leaves_out_what_has_none():
    td = np.array([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2], [0.5, 0.5, 0.5]])
    found = relation(td, np.array([[0.1, 0.2, 0.3]] * 3))
    assert found.mean_rank == pytest.approx((1 + 0.5) / 2)
    assert np.isnan(relation(td[2:], td[:1]).mean_rank)


def test_groups_are_drawn_for_all_tasks_together():
    """A group that is right in all tasks or in none leaves the tasks equal in every draw."""
    right = np.repeat(np.arange(10)[None, None] % 2 == 0, 3, 1)  # [1, 3, 10]
    named = outcomes(10)[0][:1, :3]
    assert np.isnan(resampled(named, right, "prompts", 30).r2).all()


def test_interval():
    assert interval(0.5, [np.nan, *np.linspace(0, 1, 1001)])[:3] == pytest.approx((0.5, 0.025, 0.975))
    assert np.isnan(interval(np.nan, [0.1, 0.2]).low)
    assert np.isnan(interval(0.1, [np.nan]).low)


def test_unknown_units():
    with pytest.raises(ValueError, match="unknown units 'seeds'; there are: prompts, tasks, both"):
        resampled(*outcomes(), "seeds")


def test_a_slope_of_gains_is_that_of_a_regression_with_dummies_for_tasks_and_bands():
    rng = np.random.default_rng(0)
    td, accuracy = rng.normal(size=(2, 3, 4, 6))
    bands, _, tasks = np.indices(td.shape)
    dummies = [(bands == g).ravel() for g in range(3)] + [(tasks == k).ravel() for k in range(6)]
    design = np.column_stack([td.ravel(), *dummies]).astype(float)
    expected = np.linalg.lstsq(design, accuracy.ravel(), rcond=None)[0][0]
    assert slope_of_gains(td, accuracy) == pytest.approx(expected)


def test_what_a_task_gains_everywhere_and_a_band_in_all_tasks_makes_no_slope():
    gain = np.arange(3.0)[:, None, None] + np.arange(6.0) ** 2 + np.zeros((3, 4, 6))
    assert np.isnan(slope_of_gains(gain, gain))
    rng = np.random.default_rng(1)
    noise = rng.normal(size=gain.shape)
    assert slope_of_gains(gain + noise, 5 * gain + 2 * noise) == pytest.approx(2)


def test_resampled_slopes_draw_seeds_and_groups_jointly_for_all_bands():
    rng = np.random.default_rng(0)
    td = rng.normal(size=(3, 4, 6, 20))
    slopes = resampled_slopes(td, 2 * td, draws=50)
    assert slopes == pytest.approx([2] * 50)
    noisy = resampled_slopes(td, 2 * td + rng.normal(size=td.shape), draws=400)
    assert 1.5 < np.mean(noisy) < 2.5
    assert np.std(noisy) > 0.05


def test_a_permutation_test_counts_the_orders_of_the_tasks():
    td = np.array([[0.1, 0.2, 0.3]])
    assert permutation_p(td, td) == pytest.approx(1 / 6)  # one order of six has the rank 1
    assert permutation_p(td, -td) == 1
    assert permutation_p(np.vstack([td] * 4), np.vstack([td] * 4)) == pytest.approx(1 / 6)  # no more units than tasks
    assert np.isnan(permutation_p(td, np.full((1, 3), 0.5)))


def test_a_permutation_test_of_many_tasks_draws_orders_and_is_level():
    td = np.arange(24.0)[None]
    assert permutation_p(td, td, draws=99) == pytest.approx(1 / 100)
    rng = np.random.default_rng(0)
    levels = [permutation_p(*rng.random((2, 2, 24)), draws=99) for _ in range(200)]
    assert 0.4 < np.mean(levels) < 0.6
    assert np.mean(np.array(levels) <= 0.1) < 0.2
