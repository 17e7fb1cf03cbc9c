"""Intervals cover what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from task_vectors.measures.statistics import (
    Estimate,
    clustered_mean,
    mean_over_groups,
    mean_over_trainings,
    mean_over_units,
)


def test_clustered_interval_is_as_wide_as_few_clusters_make_it():
    """240 values that are really 12 clusters of 20 equal ones: the interval is that of 12 values, not of 240."""
    rng = np.random.default_rng(0)
    truth = rng.random(12) < 0.5
    values, cluster = np.repeat(truth, 20), np.repeat(np.arange(12), 20)
    clustered = clustered_mean(values, cluster)
    naive = clustered_mean(values, np.arange(240))
    assert clustered.high - clustered.low > 3 * (naive.high - naive.low)


def test_clustered_interval_covers_the_truth():
    """Crossed effects of prefix and pair: at least 90 of 100 intervals of nominal 95 % hold the true mean."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        prefix, pair = np.repeat(np.arange(18), 4), rng.integers(0, 20, 72)
        chance = np.clip(0.5 + rng.normal(0, 0.15, 18)[prefix] + rng.normal(0, 0.15, 20)[pair], 0, 1)
        estimate = clustered_mean(rng.random(72) < chance, prefix, pair, draws=400)
        covered += estimate.low <= 0.5 <= estimate.high
    assert covered >= 90


@given(st.integers(3, 40))
def test_unanimous_values_still_have_an_interval(n):
    """All right in n clusters: the lower limit solves p^n = 2.5 %."""
    estimate = clustered_mean(np.ones(3 * n), np.repeat(np.arange(n), 3))
    assert estimate.high == 1
    assert estimate.low == pytest.approx(0.025 ** (1 / n))


def test_means_over_units():
    estimate = mean_over_units(np.array([0.1, 0.2, 0.3, np.nan]))
    assert estimate.mean == pytest.approx(0.2)
    assert estimate.high - estimate.mean == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert np.isnan(mean_over_units(np.array([0.1, 0.2])).low)
    assert np.isnan(clustered_mean(np.array([]), np.array([])).mean)


def test_what_does_not_vary_has_no_interval():
    assert np.isnan(mean_over_units(np.ones(3)).low)
    assert np.isnan(mean_over_trainings(np.ones((3, 4))).low)


def test_without_clusters_each_value_is_its_own():
    values = np.array([0.0, 1.0, 1.0])
    assert clustered_mean(values) == clustered_mean(values, np.arange(3))
    assert clustered_mean(values).low < values.mean() < clustered_mean(values).high
    assert clustered_mean(np.ones(5)).low == pytest.approx(0.025 ** (1 / 5))


def test_an_estimate_is_written_in_the_form_asked_for():
    found = Estimate(0.123, -0.456, 1)
    assert f"{found}" == "0.12\u00a0[-0.46,\u00a01.00]"
    assert f"{found:.1f}" == "0.1\u00a0[-0.5,\u00a01.0]"


def test_the_interval_of_trainings_covers_their_mean_as_often_as_it_says():
    rng, hits, draws = np.random.default_rng(0), 0, 1000
    for _ in range(draws):
        seeds, groups = rng.normal(0, 0.1, (3, 1)), rng.normal(0, 0.3, (1, 30))
        found = mean_over_trainings(0.2 + seeds + groups + rng.normal(0, 0.3, (3, 30)))
        hits += found.low <= 0.2 <= found.high
    assert 0.94 <= hits / draws <= 0.995


def test_with_many_trainings_alike_only_prompts_spread():
    groups = np.random.default_rng(0).normal(size=30)
    found = mean_over_trainings(np.tile(groups, (4, 1)))
    expected = stats.ttest_1samp(groups, 0).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)
    assert found == pytest.approx(
        mean_over_trainings(np.tile(groups, (4, 1)).T)
    )  # trainings that differ, prompts alike


def test_one_training_has_no_interval_and_neither_has_nothing():
    assert np.isnan(mean_over_trainings(np.arange(5.0)[None]).low)
    assert np.isnan(mean_over_trainings(np.zeros((3, 5))).high)
    assert mean_over_trainings(np.zeros((3, 5))).mean == 0


def test_groups_are_drawn_with_all_of_their_tasks():
    """Tasks that go along in every group add no certainty, and tasks that cancel in every group leave no doubt."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(1, 50))
    many, cancelling = np.repeat(one, 6, axis=0), np.concatenate([one, 1 - one])
    assert mean_over_groups(many) == pytest.approx(mean_over_groups(one))
    half = one.std() / np.sqrt(50) * stats.norm.ppf(0.975)
    assert mean_over_groups(one)[:3] == pytest.approx(
        (one.mean(), one.mean() - half, one.mean() + half), abs=0.15 * half
    )
    assert mean_over_groups(cancelling)[:3] == pytest.approx([0.5] * 3)
    assert np.isnan(mean_over_groups(one[:0]).mean)


def test_an_estimate_without_an_interval_is_its_mean():
    assert f"{mean_over_units(np.array([0.1, 0.2, 0.3])):.1f}" == "0.2\u00a0[-0.0,\u00a00.4]"
    assert f"{mean_over_units(np.array([0.1, 0.2])):.2f}" == "0.15"
