"""A rate goes up, is held, goes down, and is never 0 while steps are left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.schedules import schedule


def test_it_goes_up_is_held_and_goes_down():
    factors = [schedule(step, 100, 10, 0.5) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[9:51] == [1] * 42
    assert factors[51:] == pytest.approx([(49 - i) / 50 for i in range(49)])


@given(st.integers(1, 30_000), st.floats(0, 1, exclude_max=True), st.integers(1, 300), st.floats(0.01, 1))
def test_it_is_a_factor_at_every_step(steps, done, warm_up, cool_down):
    assert 0 < schedule(int(steps * done), steps, warm_up, cool_down) <= 1
