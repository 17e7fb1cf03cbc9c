import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import leaky_relu

from task_vectors.regression.mixtures import FAMILIES, LEAK, FamilyMixture, SparseMixture

SIGMAS = 4  # standard errors that an estimate may be off
EXACT = 1e-4  # float32, outputs of size one
SILENT = 1e-7  # noise too small to be seen in float32
DEFAULT, FAMILY = SparseMixture(), FamilyMixture()
OVERLAPPING = SparseMixture(dim=6, rank=3, n_classes=4)
GROUPED = SparseMixture(dim=12, rank=2, n_classes=6, groups=2)
mixtures = pytest.mark.parametrize("mixture", [DEFAULT, OVERLAPPING, GROUPED, FAMILY])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def of_class(mixture, index, batch, n, seed=0):
    return mixture.sample(batch, n, generator(seed), classes=torch.full((batch,), index))


def off(estimates, expected):
    """Standard errors between the mean of independent estimates and what is expected."""
    return (estimates.mean() - expected).abs().item() / (estimates.std().item() / math.sqrt(len(estimates)))


def least_squares(x, y):
    """Weights [B, D] and the largest residual, in float64."""
    x, y = x.double(), y.double()[..., None]
    w = torch.linalg.lstsq(x, y).solution
    return w[..., 0], (x @ w - y).abs().max().item()


@st.composite
def sparse_mixtures(draw):
    groups, size = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    rank = draw(st.integers(1, size))
    classes = draw(st.integers(1, size)) if rank < size else 1  # supports that differ
    return SparseMixture(dim=groups * size, rank=rank, n_classes=groups * classes, groups=groups)


@given(sparse_mixtures())
def test_a_support_is_so_many_inputs_of_its_own_group_in_order(mixture):
    supports, size = mixture.supports, mixture.dim // mixture.groups
    assert supports.shape == (mixture.n_classes, mixture.rank)
    assert (supports.diff(dim=1) > 0).all()
    group = torch.arange(mixture.n_classes) // (mixture.n_classes // mixture.groups)
    assert (supports // size == group[:, None]).all()


@given(sparse_mixtures())
def test_inputs_are_used_as_evenly_as_the_numbers_allow(mixture):
    uses = mixture.supports.flatten().bincount(minlength=mixture.dim)
    assert uses.max() - uses.min() == (1 if mixture.n_classes * mixture.rank % mixture.dim else 0)


@pytest.mark.parametrize("mixture", [DEFAULT, SparseMixture(12, 3, 4, groups=2), SparseMixture(5, 1, 5)])
def test_supports_cover_all_inputs_without_overlap_where_the_numbers_fit(mixture):
    assert mixture.n_classes * mixture.rank == mixture.dim
    assert mixture.supports.flatten().sort().values.tolist() == list(range(mixture.dim))


def test_supports_by_hand():
    assert OVERLAPPING.supports.tolist() == [[0, 1, 2], [1, 2, 3], [3, 4, 5], [0, 4, 5]]
    assert SparseMixture(8, 2, 4, groups=2).supports.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


@mixtures
@pytest.mark.parametrize("noise", [0.1, 0.7])
def test_outputs_have_variance_one_and_the_noise_in_every_class(mixture, noise):
    mixture = replace(mixture, noise=noise)
    for index in range(mixture.n_classes):
        variances = of_class(mixture, index, 40_000, 5).y.double().var(1)  # over x, unbiased
        assert off(variances, 1 + noise**2) < SIGMAS, mixture.names[index]


@mixtures
def test_inputs_are_standard_normal_and_uncorrelated(mixture):
    x = mixture.sample(5000, 3, generator()).x.flatten(1)
    moments = (x.T @ x / len(x)).double()
    assert (moments - torch.eye(len(moments))).abs().max() < 1.5 * SIGMAS * math.sqrt(2 / len(x))  # the largest of 1000
    assert off(x.flatten().double() ** 4, 3) < SIGMAS


@pytest.mark.parametrize("mixture", [DEFAULT, OVERLAPPING, GROUPED])
def test_weights_live_on_the_support_of_the_class(mixture):
    silent = replace(mixture, noise=SILENT)
    for index in range(mixture.n_classes):
        x, y, _ = of_class(silent, index, 2000, mixture.dim + 4)
        w, residual = least_squares(x[..., mixture.supports[index]], y)
        assert residual < EXACT
        assert off((mixture.rank * w.square()).mean(1), 1) < SIGMAS
        everywhere, _ = least_squares(x[:20], y[:20])  # w is found without knowing the support, too
        outside = torch.ones(mixture.dim, dtype=torch.bool).index_fill(0, mixture.supports[index], False)
        torch.testing.assert_close(everywhere[:, ~outside], w[:20], atol=EXACT, rtol=0)
        assert everywhere[:, outside].abs().max() < EXACT


def features(family, x, y):
    """What the family's outputs are linear in, and the outputs before a rectifier, times a constant."""
    if family == "quadratic":
        return x.square() - 1, y
    if family == "leaky":
        mean = (1 - LEAK) / math.sqrt(2 * math.pi)  # of the rectifier of a normal variable
        return x, leaky_relu(y * math.sqrt((1 + LEAK**2) / 2 - mean**2) + mean, 1 / LEAK)
    return x, y


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_fitted_exactly_by_its_own_form_and_by_no_other(family):
    silent = replace(FAMILY, noise=SILENT)
    x, y, _ = of_class(silent, FAMILIES.index(family), 300, 3 * FAMILY.dim)
    w, residual = least_squares(*features(family, x, y))
    assert residual < EXACT
    used = (w.abs() > EXACT).sum(1)
    if family == "sparse":
        assert (used == FAMILY.rank).all()
        assert (w.abs() > EXACT).float().mean(0).min() > 0.1  # places of its own in every sequence
    else:
        assert used.double().mean() > FAMILY.dim - 0.1
    alike = {"linear", "sparse"} if family in ("linear", "sparse") else {family}
    for other in set(FAMILIES) - alike:
        assert least_squares(*features(other, x, y))[1] > 0.1


@pytest.mark.parametrize("mixture", [DEFAULT, FAMILY])
def test_classes_come_as_often_as_said(mixture):
    frequencies = (0.6, 0.3, 0.1, 0.0)
    N = 20_000
    for given_ones, expected in ((frequencies, frequencies), (None, (0.25,) * 4)):
        classes = replace(mixture, frequencies=given_ones).sample(N, 1, generator()).classes
        assert classes.dtype == torch.int64
        for index, p in enumerate(expected):
            share = (classes == index).double().mean().item()
            assert abs(share - p) <= SIGMAS * math.sqrt(p * (1 - p) / N)


@mixtures
def test_the_same_seed_gives_the_same_and_another_does_not(mixture):
    one, same, other = (mixture.sample(6, 5, generator(seed)) for seed in (1, 1, 2))
    assert [tuple(part.shape) for part in one] == [(6, 5, mixture.dim), (6, 5), (6,)]
    assert all(torch.equal(*parts) for parts in zip(one, same, strict=True))
    assert not torch.equal(one.x, other.x)
    assert not torch.equal(one.y, other.y)


@mixtures
def test_classes_that_are_given_are_kept(mixture):
    classes = torch.arange(9) % mixture.n_classes
    assert torch.equal(mixture.sample(9, 2, generator(), classes).classes, classes)


def test_every_class_has_a_name():
    assert DEFAULT.names == ("basis 1", "basis 2", "basis 3", "basis 4")
    assert FAMILY.names == FAMILIES
    assert FamilyMixture(families=("leaky", "linear")).names == ("leaky", "linear")


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"dim": 16, "groups": 3, "n_classes": 3}, "dim = 16.* groups = 3"),
        ({"n_classes": 5, "groups": 2}, "n_classes = 5, groups = 2"),
        ({"rank": 17}, "rank = 17"),
        ({"rank": 0}, "rank = 0"),
        ({"groups": 0}, "groups = 0"),
        ({"n_classes": 0}, "n_classes = 0"),
        ({"n_classes": 17}, "supports that differ; .*n_classes = 17"),
        ({"rank": 16}, "supports that differ; .*rank = 16"),
        ({"rank": 9, "groups": 2}, "rank at most dim / groups; .*rank = 9"),
        ({"noise": 0.0}, "noise must be above 0.* got 0"),
        ({"noise": -1.0}, "noise must be above 0.* got -1"),
        ({"noise": math.nan}, "noise must be above 0.* got nan"),
        ({"frequencies": (0.5, 0.5)}, "4 probabilities .*0.5, 0.5"),
        ({"frequencies": (0.5, 0.5, 0.5, -0.5)}, "4 probabilities .*-0.5"),
        ({"frequencies": (0.2, 0.2, 0.2, 0.2)}, "sum to 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(numbers, named):
    with pytest.raises(ValueError, match=named):
        SparseMixture(**numbers)


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"families": ("linear", "cubic")}, "linear, sparse, leaky, quadratic; .*'cubic'"),
        ({"families": ()}, "linear, sparse, leaky, quadratic; .*\\[\\]"),
        ({"noise": 0.0}, "noise must be above 0"),
        ({"rank": 0}, "from 1 to dim; got 0 of 16"),
        ({"rank": 17}, "from 1 to dim; got 17 of 16"),
        ({"families": ("linear", "leaky"), "frequencies": (1.0,)}, "2 probabilities"),
        ({"frequencies": (0.9, 0.2, 0.0, 0.0)}, "sum to 1"),
    ],
)
def test_families_that_do_not_fit_are_refused(numbers, named):
    with pytest.raises(ValueError, match=named):
        FamilyMixture(**numbers)
