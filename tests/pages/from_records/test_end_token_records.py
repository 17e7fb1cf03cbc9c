"""Ratios of risks from records whose numbers are known."""

import pandas as pd
import pytest

from task_vectors.pages.from_records.end_token import best_of_seeds, extreme_excess, histories, seed_risks


class Given:
    def __init__(self, risks, selection=None):
        self.risks = pd.DataFrame({"seed": range(len(risks)), "selection": selection or risks, "risk": risks})

    def table(self, name):
        if name == "history":  # each seed halves its risk
            return pd.concat([self.risks.assign(step=step, risk=self.risks.risk / (1 + step)) for step in (0, 1)])
        return self.risks


RECORDS = {
    ("a", 3): Given([4.0, 2.0, 0.1]),
    ("b", 3): Given([1.0, 1.0]),
    ("a", 5): Given([1.0, 1.0], [0.2, 0.1]),
    ("b", 5): Given([8.0, 4.0], [0.2, 0.1]),
}


def test_only_as_many_seeds_as_all_have_are_compared():
    best = best_of_seeds(seed_risks(RECORDS, 2))
    assert best.loc[3].tolist() == [2, 1]  # the third seed of a would have 0.1
    assert best.loc[5].tolist() == [1, 4]  # other prompts choose


def test_the_excess_is_that_of_the_n_where_kinds_differ_most():
    risks = seed_risks(RECORDS, 2)
    found = extreme_excess(risks, "a", "b")
    assert found.mean == pytest.approx(1 / 4 - 1)
    # Drawn anew, b at n = 5 may be the worse seed alone, and a at n = 3 as well, which is as far on the other side.
    assert found.low == pytest.approx(1 / 8 - 1)
    assert extreme_excess(risks, "b", "a").mean == pytest.approx(3)


def test_an_excess_of_seeds_that_agree_has_no_width():
    risks = seed_risks({("a", 3): Given([2.0, 2.0]), ("b", 3): Given([1.0, 1.0])}, 2)
    assert extreme_excess(risks, "a", "b")[:3] == (1, 1, 1)


def test_a_history_is_that_of_the_median_seed_among_those_compared():
    found = histories(RECORDS, 3, 2)
    assert found.keys() == {"a", "b"}
    assert found["a"].risk.tolist() == [3, 1.5]  # of 4 and 2; the third seed is not compared
