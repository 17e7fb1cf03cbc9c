"""What a computation in parts keeps comes back as it was, and a part that was interrupted is computed again."""

import pandas as pd
import pytest
import torch

from task_vectors.records.files import once

RESULTS = {
    "rows": pd.DataFrame({"name": ["a", ""], "share": [1 / 3, float("nan")], "count": [1, 2]}),
    "tensors": {"with a space": torch.arange(3).half()},
}


def test_a_part_is_computed_once_and_comes_back_as_it_was(tmp_path):
    calls = []
    first, again = (once(tmp_path / "parts" / "1", lambda: calls.append(1) or RESULTS) for _ in range(2))
    assert len(calls) == 1
    for found in (first, again):
        assert found.keys() == RESULTS.keys()
        pd.testing.assert_frame_equal(found["rows"], RESULTS["rows"])
        assert found["tensors"]["with a space"].dtype == torch.float16
        assert torch.equal(found["tensors"]["with a space"], RESULTS["tensors"]["with a space"])


def test_a_part_that_is_interrupted_leaves_nothing(tmp_path):
    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once(tmp_path / "1", stopped)
    assert not list(tmp_path.iterdir())
    assert once(tmp_path / "1", lambda: RESULTS).keys() == RESULTS.keys()
