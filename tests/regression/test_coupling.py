import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.regression.coupling import change_point, coupling, lags

STEPS = np.arange(0, 2000, 100)


def jump(at, noise=0.0, seed=0):
    return (at <= STEPS) + noise * np.random.default_rng(seed).normal(size=len(STEPS))


@given(st.integers(1, 19), st.floats(-5, 5), st.floats(0.1, 9), st.booleans())
def test_a_jump_is_found_between_its_two_snapshots(index, offset, size, down):
    values = offset + (-size if down else size) * (np.arange(20) >= index)
    assert change_point(STEPS, values) == 100 * index - 50


def test_it_is_the_split_of_least_squares():
    values = np.random.default_rng(1).normal(size=20).cumsum()
    costs = [
        ((values[:i] - values[:i].mean()) ** 2).sum() + ((values[i:] - values[i:].mean()) ** 2).sum()
        for i in range(1, 20)
    ]
    best = 1 + int(np.argmin(costs))
    assert change_point(STEPS, values) == 100 * best - 50


def test_a_constant_has_no_change_point():
    assert np.isnan(change_point(STEPS, np.full(20, 0.3)))


@pytest.mark.parametrize("apart", [0, 100, -200])
def test_what_jumps_together_but_for_a_common_lag_is_coupled(apart):
    at = {0: 300, 1: 900, 2: 1600}
    td = pd.DataFrame({z: jump(t, 0.1, z) for z, t in at.items()}, index=STEPS)
    loss = pd.DataFrame({z: -jump(t + apart, 0.1, 9 + z) for z, t in at.items()}, index=STEPS)
    found = coupling(lags(td, loss))
    assert found["lag"] == -apart
    assert found["own"] == 0
    assert found["other"] == pytest.approx(np.mean([abs(a - b) for a in at.values() for b in at.values() if a != b]))
    assert found["difference"] == found["other"]
    assert found["spread"] == found["td_spread"] == 1300


def test_a_constant_gap_is_no_coupling():
    """Encoding long before decoding, in the opposite order of bases: own pairs are no nearer to the mean lag."""
    td = pd.DataFrame({z: jump(200 + 100 * z) for z in range(3)}, index=STEPS)
    loss = pd.DataFrame({z: jump(1700 - 100 * z) for z in range(3)}, index=STEPS)
    assert coupling(lags(td, loss))["difference"] < 0


def test_what_jumps_all_at_once_has_no_spread():
    same = pd.DataFrame({z: jump(700) for z in range(3)}, index=STEPS)
    found = coupling(lags(same, same))
    assert found["spread"] == found["td_spread"] == found["difference"] == 0
