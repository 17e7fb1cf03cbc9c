"""Gaps closed by parts of the small transformer, from records whose errors are known."""

import pandas as pd
import pytest

from task_vectors.pages.from_records.block_tuning import blocks_table, gap_closed, mean_error, token_td


class FakeRecord:
    """Errors of two classes at the start and at the end, and decodability after two blocks."""

    def __init__(self, start, end, td):
        spread = [("start", start - 0.1), ("start", start + 0.1), ("end", end - 0.2), ("end", end + 0.2)]
        rows = [(stage, "token", "euclidean", layer, value / layer) for layer in (1, 2) for stage, value in td.items()]
        rows += [(stage, "mean", "euclidean", 1, 9) for stage in td] + [
            (stage, "token", "cosine", 1, 9) for stage in td
        ]
        self.tables = {
            "errors": pd.DataFrame(spread, columns=["stage", "error"]),
            "decodability": pd.DataFrame(rows, columns=["stage", "reading", "metric", "layer", "td"]),
        }

    def table(self, name):
        return self.tables[name]


EARLY = [FakeRecord(1.2, 0.4, {"start": 0.2, "end": 1.0}), FakeRecord(1.2, 0.6, {"start": 0.4, "end": 0.8})]
LATE = [FakeRecord(1.2, 1.0, {"start": 0.2, "end": 0.2}), FakeRecord(1.2, 1.0, {"start": 0.4, "end": 0.4})]


def test_a_gap_is_closed_from_the_start_to_the_best():
    assert mean_error(EARLY[0]) == pytest.approx(0.4)
    assert mean_error(EARLY[0], "start") == pytest.approx(1.2)
    assert gap_closed(EARLY[0], 0.2) == pytest.approx(0.8)
    assert gap_closed(FakeRecord(1.2, 0.2, {}), 0.2) == pytest.approx(1)


def test_td_is_the_tokens_by_distance_after_one_block():
    assert token_td(EARLY, 1) == pytest.approx((0.3, 0.9))
    assert token_td(EARLY, 2) == pytest.approx((0.15, 0.45))


def test_the_table_has_the_model_before_the_parts_and_the_predictors():
    levels = {"ridge": 0.5, "Bayes": 0.2}
    table = blocks_table({"early": EARLY, "late": LATE}, {"early": 0.003, "late": 0.01}, levels, [1, 2])
    assert table.error.tolist() == ["1.200", "0.500", "1.000", "0.500", "0.200"]
    assert table["gap closed"].tolist() == ["", "70%\u00a0(60 to 80)", "20%", "", ""]
    assert table.loc["early", "TD, block 1"] == "0.30\u00a0→\u00a00.90"
    assert table.rate.tolist() == ["", "0.003", "0.01", "", ""]
