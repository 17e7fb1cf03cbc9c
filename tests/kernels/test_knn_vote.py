"""The leave-one-out vote against pure Python, scikit-learn and its own definition, on both paths."""

import numpy as np
import pytest
import torch
from ahead_of_time import Build, resources
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from torch.utils._python_dispatch import TorchDispatchMode

from task_vectors.kernels.knn_vote import MOST_NEIGHBORS, fast, knn_vote, points, reference
from task_vectors.kernels.knn_vote import triton as tiles

# A prediction is a class, so it is right or wrong. These data are either exact in float32 or have no two distances so
# close that float32 could order them otherwise.
WRONG_PREDICTIONS = 0
# Five standard deviations of a share of right predictions among N·L = 3000 that are nearly independent.
CHANCE_TOLERANCE = 5 * (0.25 * 0.75 / 3000) ** 0.5
SHARED_MEMORY_SM80 = 163 * 1024

both_backends = pytest.mark.parametrize("backend", ["torch", "triton"])
both_metrics = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several programs along both axes at sizes that the interpreter can run."""
    monkeypatch.setattr(tiles, "COLUMNS", 16)
    monkeypatch.setattr(tiles, "pick_rows", lambda nearest: 16)
    monkeypatch.setitem(fast.SCRATCH, "cpu", 500)


def normal_states(N: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(N, *shape, generator=torch.Generator().manual_seed(seed))


def integers(high: int, *shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def in_pure_python(states: list, labels: list, k: int, groups: list) -> list:
    """The vote over states [N][d] of Python integers, whose distances are exact."""
    predictions = []
    for i, own in enumerate(states):
        ranked = sorted(
            (sum((a - b) ** 2 for a, b in zip(own, other, strict=True)), j)
            for j, other in enumerate(states)
            if groups[j] != groups[i]
        )
        votes = [labels[j] for _, j in ranked[:k]]
        most = max(votes.count(label) for label in votes)
        predictions.append(next(label for label in votes if votes.count(label) == most))
    return predictions


def assert_same(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert ours.dtype == torch.int64
    assert ours.shape == expected.shape
    assert int((ours != expected).sum()) == WRONG_PREDICTIONS


def check_grid(N: int, d: int, k: int, n_groups: int | None, seed: int, backend: str) -> None:
    states, labels = integers(3, N, d, seed=seed), integers(3, N, seed=seed + 1)
    groups = None if n_groups is None else torch.arange(N) % n_groups
    expected = in_pure_python(
        states.tolist(), labels.tolist(), k, list(range(N)) if groups is None else groups.tolist()
    )
    assert_same(knn_vote(states.float(), labels, k, groups=groups, backend=backend), torch.tensor(expected))


@settings(max_examples=60)
@given(
    N=st.integers(2, 60),
    d=st.integers(1, 5),
    k=st.integers(1, 70),
    n_groups=st.none() | st.integers(2, 30),
    seed=st.integers(0, 1000),
)
def test_vote_on_a_grid_full_of_ties_equals_pure_python(N, d, k, n_groups, seed):
    check_grid(N, d, k, n_groups, seed, "torch")


@pytest.mark.parametrize(
    ("N", "d", "k", "n_groups"), [(37, 2, 4, None), (50, 3, 10, 9), (21, 17, 1, None), (5, 1, 9, 3), (34, 2, 33, 2)]
)
def test_triton_vote_on_a_grid_full_of_ties_equals_pure_python(N, d, k, n_groups):
    check_grid(N, d, k, n_groups, 3, "triton")


@both_backends
def test_grid_far_from_the_origin_is_still_exact(backend):
    states, labels = integers(4, 40, 6).float(), integers(3, 40)
    expected = reference.knn_vote(states[:, None], labels, 3)[:, 0]
    # A grid of quarters, moved by different amounts, one of them large, along the axes.
    moved = states / 4 + torch.tensor([0, 1000, -50_000, 3, 0.25, 7])
    assert_same(knn_vote(moved, labels, 3, backend=backend), expected)


@both_backends
@both_metrics
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grouped", [False, True])
def test_vote_over_layers_equals_the_definition(backend, metric, dtype, grouped):
    states, labels = normal_states(30, 2, 19).to(dtype), integers(4, 30)
    groups = integers(11, 30) if grouped else None
    expected = reference.knn_vote(states, labels, 6, metric=metric, groups=groups)
    assert_same(knn_vote(states, labels, 6, metric=metric, groups=groups, backend=backend), expected)


@both_metrics
def test_many_states_equal_the_definition(metric):
    states, labels = normal_states(403, 2, 64), integers(5, 403)
    assert_same(knn_vote(states, labels, metric=metric), reference.knn_vote(states, labels, 10, metric=metric))


@both_metrics
def test_equals_scikit_learn_where_nothing_ties(metric):
    states, labels = normal_states(150, 3, 24), integers(2, 150)  # two classes and odd k: no vote ties
    expected = [
        KNeighborsClassifier(7, metric=metric, algorithm="brute").fit(states[:, layer], labels).predict(None)
        for layer in range(3)
    ]
    assert_same(knn_vote(states, labels, 7, metric=metric), torch.from_numpy(np.stack(expected, 1)))


def test_float64_is_computed_in_float64():
    line = torch.arange(20, dtype=torch.float64)
    states = (1 + 1e-10 * line**1.5)[:, None]  # the nearest is always the one before, and float32 sees one value
    assert_same(knn_vote(states, torch.arange(20), 1), torch.tensor([1, *range(19)]))


@both_backends
@pytest.mark.parametrize("scale", [2.0**-120, 2.0**-40, 2.0**126])
def test_scale_does_not_matter(backend, scale):
    states, labels = normal_states(35, 6), integers(3, 35)
    assert_same(knn_vote(states * scale, labels, 4, backend=backend), knn_vote(states, labels, 4))


@both_backends
@both_metrics
def test_large_common_part_does_not_drown_the_distances(backend, metric):
    offset = 300_000.0 * (1 + torch.arange(30) % 3)
    states, names = normal_states(90, 1, 30) + offset, torch.arange(90)
    expected = reference.knn_vote(states, names, 1, metric=metric)
    assert_same(knn_vote(states, names, 1, metric=metric, backend=backend), expected)


@both_backends
@both_metrics
@pytest.mark.parametrize("one_hash", [False, True])
def test_duplicates_tie_exactly_and_are_nearest(backend, metric, one_hash, monkeypatch):
    """With a class for each state and k = 1 the vote names the nearest neighbor."""
    if one_hash:
        monkeypatch.setattr(points, "hashes", lambda x: torch.zeros(len(x), dtype=torch.long))
    pick = integers(13, 53)
    states = normal_states(13, 1, 37)[pick] + 5
    states = torch.cat([states, torch.zeros(53, 1, 1)], 2)
    states[::2, :, -1] = -0.0
    # Duplicates are neighbors, then not: the lowest index of the nearest other set must win.
    for groups in (None, pick):
        expected = reference.knn_vote(states, torch.arange(53), 1, metric=metric, groups=groups)
        assert_same(knn_vote(states, torch.arange(53), 1, metric=metric, groups=groups, backend=backend), expected)


@both_backends
@both_metrics
def test_a_duplicate_is_nearer_than_a_state_that_differs_by_less_than_rounding(backend, metric):
    base = normal_states(20, 37)
    states = torch.cat([base + 1e-5 * normal_states(20, 37, seed=3), base, base])
    nearest = knn_vote(states, torch.arange(60), 1, metric=metric, backend=backend)
    assert_same(nearest[20:], torch.cat([torch.arange(40, 60), torch.arange(20, 40)]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicates_are_those_of_the_own_layer(dtype):
    """Every layer holds the same few states, some of which differ only beyond float32, in another order."""
    values = normal_states(4, 5).to(dtype)
    values = torch.cat([values, values * (1 + 1e-12), -values])
    pick = integers(12, 25, 3)
    states = values[pick]  # [25, 3, 5]
    rows = [[row.tolist() for row in states[:, layer]] for layer in range(3)]
    expected = [[layer.index(row) for row in layer] for layer in rows]
    assert points.first_duplicates(states).tolist() == expected


def test_a_gpu_takes_all_of_a_layer_at_once(monkeypatch):
    class OnGpu(torch.Tensor):
        is_cuda = True

    product, rows = torch.addmm, []
    monkeypatch.setattr(torch, "addmm", lambda *args, **options: rows.append(len(args[1])) or product(*args, **options))
    states = normal_states(1100, 2, 1)
    labels, groups = integers(2, 1100), torch.arange(1100)
    fast.knn_vote_by_rows(states.as_subclass(OnGpu), labels, 1, "euclidean", groups)
    assert rows == [1100, 1100]


def test_duplicates_tie_though_a_product_rounds_by_place(monkeypatch):
    def uneven(*args, **kwargs) -> torch.Tensor:
        scores = product(*args, **kwargs)
        return scores * (1 + 1e-6 * (torch.arange(scores.shape[1]) % 3 - 1))

    pick = integers(30, 131)
    states = normal_states(30, 1, 50)[pick]
    expected = reference.knn_vote(states, torch.arange(131), 1, groups=pick)
    product = torch.addmm
    monkeypatch.setattr(torch, "addmm", uneven)
    assert_same(knn_vote(states, torch.arange(131), 1, groups=pick), expected)


@both_backends
def test_vote_tie_goes_to_the_class_of_the_nearest_member(backend):
    states = torch.tensor([0.0, 1, -2, 3, -4])[:, None]
    labels = torch.tensor([9, 2, 0, 0, 2])  # as seen from the first: 2, 0, 0, 2
    assert [int(knn_vote(states, labels, k, backend=backend)[0]) for k in (1, 2, 3, 4)] == [2, 2, 0, 2]


@both_backends
def test_own_group_is_never_a_neighbor(backend):
    states = torch.tensor([0.0, 0.1, 0.2, 5, 5.1])[:, None]
    groups = torch.tensor([4, 4, 4, 8, 8])
    assert knn_vote(states, torch.tensor([0, 0, 0, 1, 1]), 1, backend=backend).tolist() == [0, 0, 0, 1, 1]
    votes = knn_vote(states, torch.tensor([0, 0, 0, 1, 1]), 1, groups=groups, backend=backend)
    assert votes.tolist() == [1, 1, 1, 0, 0]


@both_backends
def test_layers_together_equal_one_by_one(backend):
    states, labels = normal_states(33, 3, 5), integers(3, 33)
    one_by_one = [knn_vote(states[:, layer], labels, 4, backend=backend) for layer in range(3)]
    assert_same(knn_vote(states, labels, 4, backend=backend), torch.stack(one_by_one, 1))


@both_backends
def test_non_contiguous_inputs(backend):
    states, labels, groups = normal_states(33, 3, 9), integers(3, 33), integers(20, 33)
    expected = knn_vote(states, labels, 4, groups=groups)
    strided = states.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    strided_labels, strided_groups = torch.stack([labels, groups], 1).T
    assert_same(knn_vote(strided, strided_labels, 4, groups=strided_groups, backend=backend), expected)


def test_permuting_the_states_permutes_the_predictions():
    states, labels, groups = normal_states(120, 2, 16), integers(4, 120), integers(50, 120)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(5))
    moved = knn_vote(states[order], labels[order], groups=groups[order])
    assert_same(moved, knn_vote(states, labels, groups=groups)[order])


def test_random_labels_are_predicted_at_chance():
    states, labels = normal_states(600, 5, 20), integers(4, 600)
    right = (knn_vote(states, labels) == labels[:, None]).float().mean()
    assert abs(float(right) - 0.25) < CHANCE_TOLERANCE


def test_separate_clusters_are_predicted_without_error():
    labels = integers(6, 90)
    states = normal_states(90, 2, 12) + 100 * normal_states(6, 2, 12, seed=2)[labels]
    assert_same(knn_vote(states, labels, 5), labels[:, None].expand(-1, 2))


@both_backends
def test_no_tensor_is_as_large_as_all_pairs(backend):
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                self.numel = max(self.numel, x.numel() if isinstance(x, torch.Tensor) else 0)
            return out

    N = 90
    with Largest() as largest:
        knn_vote(normal_states(N, 1, 4), integers(3, N), 3, backend=backend)
    assert largest.numel < N * N / 4


@pytest.mark.parametrize("k", [1, 3, 40, pytest.param(MOST_NEIGHBORS, marks=pytest.mark.slow)])
def test_any_number_of_neighbors_in_registers(k):
    states, labels = normal_states(k + 20, 3), integers(3, k + 20)
    assert_same(knn_vote(states, labels, k, backend="triton"), knn_vote(states, labels, k, backend="torch"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"states": torch.zeros(4)}, "must be"),
        ({"states": torch.zeros(4, 0)}, "not empty"),
        ({"states": torch.zeros(4, 2, dtype=torch.long)}, "floating"),
        ({"states": torch.tensor([[0.0], [torch.nan], [0], [0]])}, "index 1"),
        ({"states": torch.tensor([[0.0], [1], [-torch.inf], [0]])}, "index 2"),
        ({"states": torch.tensor([[1.0], [1], [1], [0]]), "metric": "cosine"}, "index 3"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, "labels .* 4 states"),
        ({"labels": torch.zeros(4)}, "labels must be one integer"),
        ({"labels": torch.tensor([0, 1, -1, 0])}, "from 0"),
        ({"groups": torch.zeros(4, 1, dtype=torch.long)}, "groups .* 4 states"),
        ({"groups": torch.full((4,), 6)}, "no state has a neighbor"),
        ({"k": 0}, "at least 1"),
        ({"k": 2.5}, "whole number"),
        ({"metric": "manhattan"}, "euclidean, cosine"),
        ({"backend": "cuda"}, "torch, triton"),
        ({"backend": "cuda", "states": torch.ones(4, 1, dtype=torch.float64)}, "torch, triton"),
        ({"states": torch.ones(4, 1, dtype=torch.float64), "backend": "triton"}, "float32"),
    ],
)
def test_bad_input_gets_one_clear_line(change, words):
    arguments = {"states": torch.ones(4, 2), "labels": torch.tensor([0, 1, 0, 1]), "k": 1} | change
    with pytest.raises(ValueError, match=words) as caught:
        knn_vote(**arguments)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_compiles_for_gpus_without_spills(monkeypatch):
    monkeypatch.undo()  # the launcher's own blocks
    signature = dict.fromkeys(("values", "half_squares"), "*fp32")
    signature |= dict.fromkeys(("first", "groups"), "*i32") | dict.fromkeys(("labels", "result"), "*i64")
    signature |= dict.fromkeys(("N", "L", "d", "k"), "i32")
    builds = [
        Build(
            tiles.__name__,
            "vote",
            signature,
            {"NEAREST": n, "ROWS": tiles.pick_rows(n), "COLUMNS": tiles.COLUMNS, "WIDTH": tiles.WIDTH},
            num_warps=tiles.WARPS,
            label=f"k up to {n}",
        )
        for n in (1, 2, 4, 8, 16, 32, 64, MOST_NEIGHBORS)
    ]
    for row in resources(builds):
        print(*row.values())
        assert row["spill_stores"] == row["spill_loads"] == 0, row
        assert row["shared"] <= SHARED_MEMORY_SM80, row
