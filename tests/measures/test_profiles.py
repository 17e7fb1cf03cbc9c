import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.measures.profiles import fitted, miss, shape

PROFILES = st.lists(st.floats(0.1, 10), min_size=2, max_size=8)


def test_a_shape_is_the_same_at_every_scale():
    values = np.array([[1.0, 2, 3], [10, 20, 30]])
    np.testing.assert_allclose(shape(values), [[0.5, 1, 1.5]] * 2)


@given(PROFILES, st.integers(0, 10))
def test_no_other_scale_is_nearer(values, seed):
    values, curve = np.array(values), np.random.default_rng(seed).uniform(0.1, 1, len(values))
    best = fitted(curve, values)
    scale = best[0] / curve[0]
    np.testing.assert_allclose(best, scale * curve)
    for other in (0.9 * scale, 1.1 * scale):
        assert np.linalg.norm(values - best) <= np.linalg.norm(values - other * curve) + 1e-12


@given(PROFILES)
def test_a_curve_misses_nothing_of_itself_and_all_of_what_is_orthogonal(values):
    values = np.array(values)
    assert miss(3 * values, values) == pytest.approx(0, abs=1e-9)
    assert miss(np.array([1.0, 0]), np.array([0.0, 2])) == 1
