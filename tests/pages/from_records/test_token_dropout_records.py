"""Weights and excesses from records whose numbers are known."""

import numpy as np
import pandas as pd
import pytest

from task_vectors.linear_attention.dropout import predicted_weights, second_moment
from task_vectors.pages.from_records.token_dropout import (
    best_seed,
    excess_table,
    excesses,
    largest_excess,
    learned_weights,
)


class Given:
    def __init__(self, **tables):
        self.tables = tables

    def table(self, name):
        return self.tables[name]


PREDICTED = predicted_weights(3, 0.8, starts=5)
EVEN = np.full((3, 4), 1 / np.sqrt(12))


def record(risks, *matrices):
    rows = [
        {"seed": seed, "arrow": arrow, "demo": demo, "weight": weight}
        for seed, matrix in enumerate(matrices)
        for (demo, arrow), weight in np.ndenumerate(matrix)
    ]
    table = pd.DataFrame(rows).sample(frac=1, random_state=0)  # in any order
    return Given(risks=pd.DataFrame({"seed": range(len(risks)), "risk": risks}), weights=table)


def test_weights_are_read_as_demonstrations_by_arrows():
    matrices = np.random.default_rng(0).normal(size=(2, 3, 4))
    np.testing.assert_array_equal(learned_weights(record([1, 2], *matrices)), matrices)


def test_an_excess_is_over_the_least_moment():
    found = excesses(record([1, 2, 3], PREDICTED, EVEN, -PREDICTED), PREDICTED, 0.8)
    assert found[[0, 2]] == pytest.approx([0, 0], abs=1e-12)
    assert found[1] == pytest.approx(second_moment(EVEN, 0.8, 4) / second_moment(PREDICTED, 0.8, 4) - 1)
    assert found[1] > 0.1


def test_the_best_seed_is_that_of_the_least_risk():
    """Its excess counts, also where another seed's is smaller."""
    records = {(0.8, False): record([2.0, 1.0, 3.0], PREDICTED, EVEN, EVEN)}
    table = excess_table(records, {(0.8, False): PREDICTED}).loc["p = 0.8, all see all"]
    assert best_seed(records[0.8, False]) == 1
    assert table["excess of the best seed"] == table["largest of all seeds"] > table["least of all seeds"]
    assert table["random weights"] > table["least of all seeds"]


def test_the_interval_tells_how_much_rests_on_one_seed():
    predicted = {(0.8, False): PREDICTED, (0.8, True): PREDICTED}
    same = record([1.0, 2.0, 3.0, 4.0], *[PREDICTED] * 4)
    found = largest_excess({(0.8, False): same, (0.8, True): same}, predicted)
    assert tuple(found[:3]) == pytest.approx((0, 0, 0), abs=1e-12)
    stray = record([1.0, 2.0, 3.0, 4.0], PREDICTED, EVEN, EVEN, EVEN)
    found = largest_excess({(0.8, False): same, (0.8, True): stray}, predicted)
    assert found.mean == pytest.approx(0, abs=1e-12)
    assert found.high > 0.1
