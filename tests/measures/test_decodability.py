"""Task Decodability against a loop over states in plain Python, and on states whose answer is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from task_vectors.measures.decodability import pairwise_decodability, task_decodability

SHARES = {"atol": 1e-6, "rtol": 0}  # shares of at most 100 states, in float32
CHANCE = 5  # standard errors
both_metrics = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whole_numbers(high, *shape, seed):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def distance(one, other, metric):
    if metric == "euclidean":
        return ((one - other) ** 2).sum()
    return 1 - one @ other / (np.linalg.norm(one) * np.linalg.norm(other))


def named(i, states, labels, k, metric, groups):
    """The class that the neighbors of state i vote for."""
    others = [j for j in range(len(states)) if j != i and (groups is None or groups[j] != groups[i])]
    nearest = sorted(others, key=lambda j: (distance(states[i], states[j], metric), j))[:k]
    votes = [labels[j] for j in nearest]
    most = max(map(votes.count, votes))
    return next(label for label in votes if votes.count(label) == most)  # nearest first


def by_loop(states, labels, k=10, metric="euclidean", groups=None):
    """The share of each class that is recognized, for states [N, d]."""
    points, classes = states.double().numpy(), labels.tolist()
    ids = None if groups is None else groups.tolist()
    right = [named(i, points, classes, k, metric, ids) == classes[i] for i in range(len(classes))]
    shares = torch.zeros(len(set(classes)))
    for z in set(classes):
        shares[z] = sum(hit for hit, label in zip(right, classes, strict=True) if label == z) / classes.count(z)
    return shares


def assert_equal(found, expected):
    torch.testing.assert_close(found, expected, equal_nan=True, **SHARES)


def every_class_once(n_classes, N, seed):
    """N random labels, each class among them."""
    return torch.cat([torch.arange(n_classes), whole_numbers(n_classes, N - n_classes, seed=seed)])


@settings(max_examples=50)
@given(
    N=st.integers(6, 40),
    d=st.integers(1, 4),
    k=st.integers(1, 45),
    n_classes=st.integers(2, 4),
    n_groups=st.none() | st.integers(2, 15),
    seed=st.integers(0, 1000),
)
def test_on_a_grid_full_of_ties_it_is_what_a_loop_gives(N, d, k, n_classes, n_groups, seed):
    """Whole numbers: distances are exact, and many are equal."""
    states, labels = whole_numbers(3, N, d, seed=seed).float(), every_class_once(n_classes, N, seed)
    groups = None if n_groups is None else torch.arange(N) % n_groups
    assert_equal(task_decodability(states, labels, k, groups=groups), by_loop(states, labels, k, groups=groups))


@both_metrics
@pytest.mark.parametrize("with_groups", [False, True])
def test_every_layer_is_what_a_loop_gives(metric, with_groups):
    labels = every_class_once(3, 60, seed=1)
    states = drawn(60, 4, 5) + 0.5 * drawn(3, 4, 5, seed=2)[labels]  # [N, L, d]
    groups = torch.arange(60) // 4 if with_groups else None
    how = {"k": 5, "metric": metric, "groups": groups}
    found = task_decodability(states, labels, **how)
    assert found.shape == (4, 3)
    for layer in range(4):
        assert_equal(found[layer], by_loop(states[:, layer], labels, **how))
        assert_equal(task_decodability(states[:, layer], labels, **how), found[layer])


def test_ties_of_votes_and_of_distances_by_hand():
    states, labels = torch.tensor([[0.0], [1.0], [3.0], [-1.0]]), torch.tensor([0, 0, 1, 1])
    # The two votes at 0 are those of 1 and -1: of different classes and equally far, so the lower index decides. At 1
    # they are those of 0 and of 3 or -1: a tie for the class of the nearer, 0. At 3 and -1 both are of the other class.
    assert task_decodability(states, labels, k=2).tolist() == [1, 0]
    assert task_decodability(states[[3, 1, 2, 0]], labels[[3, 1, 2, 0]], k=2).tolist() == [0.5, 0]


@both_metrics
def test_classes_far_apart_are_all_recognized(metric):
    labels = torch.arange(4).repeat_interleave(25)
    states = 100 * torch.eye(4, 8)[labels] + drawn(100, 8).float()
    assert task_decodability(states, labels, metric=metric).tolist() == [1, 1, 1, 1]
    assert not (pairwise_decodability(states, labels, metric=metric) < 1).any()


@both_metrics
def test_noise_alone_is_recognized_by_chance(metric):
    N = 2000
    shares = task_decodability(drawn(N, 30).float(), torch.arange(N) % 4, metric=metric)
    assert abs(shares.mean() - 0.25) < CHANCE * math.sqrt(0.25 * 0.75 / N)


def test_states_of_one_group_do_not_give_each_other_away():
    """A query that is shared is all that these states hold: without groups it passes for the task."""
    queries = torch.arange(100) // 2
    states, labels = 10 * drawn(50, 20)[queries] + 0.01 * drawn(100, 20, seed=1), (queries % 2)
    assert task_decodability(states, labels, k=1).tolist() == [1, 1]
    assert task_decodability(states, labels, k=1, groups=queries).mean() < 0.8


@pytest.mark.parametrize("with_groups", [False, True])
@both_metrics
def test_a_pair_is_a_pool_of_two_classes(with_groups, metric):
    labels = every_class_once(4, 50, seed=3)
    states = drawn(50, 6) + 0.5 * drawn(4, 6, seed=4)[labels]
    groups = torch.arange(50) // 3 if with_groups else None
    table = pairwise_decodability(states, labels, k=5, metric=metric, groups=groups)
    assert table.shape == (4, 4)
    assert table.isnan().equal(torch.eye(4, dtype=torch.bool))
    for i in range(4):
        for j in range(i + 1, 4):
            pool = (labels == i) | (labels == j)
            mine = groups[pool] if with_groups else None
            both = task_decodability(states[pool], (labels[pool] == j).long(), k=5, metric=metric, groups=mine)
            assert_equal(torch.stack([table[i, j], table[j, i]]), both)


@pytest.mark.parametrize(
    ("labels", "how", "named"),
    [
        ([0, 0, 0, 0], {}, r"at least two classes from 0.*got \[0\]"),
        ([0, 2, 0, 2], {}, r"each with states; got \[0, 2\]"),
        ([1, 1, 1, 2], {}, r"each with states; got \[1, 2\]"),
        ([0, -1, 0, 1], {}, r"from 0.*got \[-1, 0, 1\]"),
        ([0.0, 1.0, 0.0, 1.0], {}, "labels must be one integer a state; got torch.float32"),
        ([0, 1, 0], {}, r"labels must be one integer a state; got torch.int64 \[3\] for 4"),
        ([0, 1, 0, 1], {"groups": torch.arange(3)}, r"groups must be .*\[3\] for 4"),
        ([0, 1, 0, 1], {"k": 0}, "at least 1; got 0"),
        ([0, 1, 0, 1], {"metric": "taxicab"}, "unknown metric 'taxicab'"),
        ([0, 1, 0, 1], {"groups": torch.zeros(4, dtype=torch.int64)}, "no state has a neighbor"),
    ],
)
def test_what_does_not_fit_is_refused(labels, how, named):
    for measure in (task_decodability, pairwise_decodability):
        with pytest.raises(ValueError, match=named):
            measure(drawn(4, 3), torch.tensor(labels), **how)


def test_pairs_are_of_one_layer():
    with pytest.raises(ValueError, match=r"one layer, \[N, d\]; got \[4, 2, 3\]"):
        pairwise_decodability(drawn(4, 2, 3), torch.tensor([0, 1, 0, 1]))
