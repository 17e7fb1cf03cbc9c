"""One schedule gives what three trainings wrote by hand, to the bit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.schedules import schedule


@given(steps=st.integers(1, 30_000), done=st.floats(0, 1, exclude_max=True), rate=st.floats(1e-6, 1))
def test_rates_are_those_of_the_formulas_before(steps, done, rate):
    step = int(steps * done)
    regression = rate * min(1, (step + 1) / 200, (1 - step / steps) / 0.4)
    blocks = rate * min(1, (step + 1) / 100, (1 - step / steps) / 0.4)
    streams = rate * min(1, (step + 1) / 100, (1 - step / steps) / 0.2)
    found = [rate * schedule(step, steps, *shape) for shape in ((200, 0.4), (100, 0.4), (100, 0.2))]
    assert found == [regression, blocks, streams]


def test_it_goes_up_is_held_and_goes_down():
    factors = [schedule(step, 100, 10, 0.5) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[9:51] == [1] * 42
    assert factors[51:] == pytest.approx([(49 - i) / 50 for i in range(49)])
