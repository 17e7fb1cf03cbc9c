"""Tables of linear transformers' records, from records whose numbers are known."""

import numpy as np
import pandas as pd
import pytest
import torch

from task_vectors.linear_attention.prompts import get_layout
from task_vectors.linear_attention.theory import live_keys
from task_vectors.pages.from_records.linear_transformer import (
    LINES,
    PARTS,
    best_risks,
    contrast_table,
    distance_from_middle,
    drawn_risks,
    gram_contrast,
    largest_ratio,
    matrix_cells,
    ratios_of_seconds,
    risk_table,
    share_table,
    ways_of_training,
    ways_table,
    worth_table,
)


class Given:
    """A record whose tables and tensors are given."""

    def __init__(self, parameters, tensors=None, **tables):
        self.parameters, self.all_tensors, self.tables = parameters, tensors, tables

    def table(self, name):
        return self.tables[name]

    def tensors(self, name):
        assert name == "best"
        return self.all_tensors


def ensemble(layout, n_layers, n, risks, selection=None):
    tables = {"risks": pd.DataFrame({"seed": range(len(risks)), "selection": selection or risks, "risk": risks})}
    if layout == "single":
        return Given({"layout": layout}, **tables)
    T, generator = get_layout(layout).n_tokens(n), torch.Generator().manual_seed(n)
    shapes = {"scales": (n_layers, 3), "D": (n_layers - 1, T, T), "query_row": (T,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return Given({"layout": layout}, tensors, restricted=pd.DataFrame({"risk": [2 * risks[0]]}), **tables)


@pytest.fixture
def records():
    """Two layers: the best of pairs at n = 3 is a stray seed, and other prompts choose the second seed of triplets."""
    risks = {
        ("single", 1, 3): [8.0, 8.0, 8.0],
        ("single", 2, 3): [1.0, 1.0, 1.0],
        ("pairs", 2, 3): [4.0, 2.0, 4.0],
        ("triplets", 2, 3): [3.9, 4.0, np.nan],
        ("single", 1, 5): [4.0, 4.0, 4.0],
        ("single", 2, 5): [0.25, 0.25, 0.25],
        ("pairs", 2, 5): [1.0, 1.0, 1.0],
        ("triplets", 2, 5): [1.0, 1.0, 1.0],
    }
    chosen = {("triplets", 2, 3): [0.2, 0.1, np.nan]}
    return {key: ensemble(*key, values, chosen.get(key)) for key, values in risks.items()}


def test_every_seed_stands_beside_the_chosen_one(records):
    table = risk_table(records, (2,))
    triplets = table[(table.layout == "triplets") & (table.n == 3)]
    assert triplets.risk.tolist() == [3.9, 4.0]  # the third has diverged
    assert set(triplets.best) == {4.0}
    assert set(table[table.layout == "single, one layer less"].risk) == {8.0, 4.0}
    assert set(table.layers) == {"2 layers"}


def test_ratios_and_places_are_those_of_the_best_seeds(records):
    best = best_risks(records, 2)
    assert best.loc[3].tolist() == [8, 2, 4, 1]
    assert largest_ratio(best.to_numpy()) == pytest.approx(2)  # pairs are half of triplets: the direction is not asked
    # Places are 1/3 and 2/3 at n = 3, and 1/2 twice at n = 5.
    assert distance_from_middle(best.to_numpy()) == pytest.approx(1 / 6)
    for end in ("single", LINES[0]):
        assert distance_from_middle(best.assign(pairs=best[end]).to_numpy()) == pytest.approx(0.5)
    assert distance_from_middle(best.assign(triplets=2 * best[LINES[0]]).to_numpy()) > 0.5


def test_the_second_best_seeds_tell_what_one_seed_carries(records):
    ratios = ratios_of_seconds(records, 2)
    assert ratios[3] == pytest.approx(4 / 3.9)  # the stray seed of pairs, and what was chosen of triplets, are gone
    assert ratios[5] == 1
    alone = {key: ensemble(*key, [1.0]) for key in records}
    assert ratios_of_seconds(alone, 2).isna().all()


def test_what_rests_on_one_seed_is_seen_when_seeds_are_drawn(records):
    drawn = drawn_risks(records, 2, draws=4000)
    assert drawn.shape == (4000, 2, len(LINES))
    pairs = drawn[:, 0, LINES.index("pairs")]
    assert set(pairs) == {2, 4}
    assert (pairs == 4).mean() == pytest.approx((2 / 3) ** 3, abs=0.03)
    ratios = largest_ratio(drawn)
    assert ratios.shape == distance_from_middle(drawn).shape == (4000,)
    # Where only the one that diverged was drawn there is no ratio.
    assert np.nanmin(ratios) == pytest.approx(1)
    assert np.nanmax(ratios) == pytest.approx(4 / 2)
    assert (drawn[:, 1] == drawn[0, 1]).all()  # nothing varies there


def test_shares_are_those_of_the_recorded_matrices(records):
    shares = share_table(records)
    assert shares.index.tolist() == [("pairs", 2, 3), ("pairs", 2, 5), ("triplets", 2, 3), ("triplets", 2, 5)]
    assert ((shares["explained"] > 0) & (shares["explained"] < shares["inside the mask"])).all()
    assert (shares["by sums on arrows"] > 0).tolist() == [False, False, True, True]
    # The restricted model has twice the first seed's risk; the free one is the seed that other prompts chose.
    assert shares["risk within the set / free"].tolist() == pytest.approx([4, 2, 7.8 / 4, 2])


def test_the_parts_of_a_matrix_are_together_the_whole(records):
    cells = matrix_cells(records, 2, largest=3)
    assert set(cells.n) == {3}
    whole = cells[list(PARTS[1:])].sum(axis=1)
    np.testing.assert_allclose(whole, cells[PARTS[0]], atol=0.02)  # entries are rounded to two digits
    for layout in ("pairs", "triplets"):
        mine = cells[cells.layout == layout]
        assert mine.key.unique().tolist() == live_keys(get_layout(layout), 3).tolist()
        assert mine[PARTS[0]].abs().max() == 1
        D = records[layout, 2, 3].tensors("best")["D"][0].numpy()
        expected = D[mine["query"].to_numpy(), mine.key.to_numpy()]
        np.testing.assert_allclose(mine[PARTS[0]], expected / np.abs(expected).max(), atol=0.006)


def test_orthogonal_weights_keep_demonstrations_apart():
    orthogonal = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))[0]
    assert gram_contrast(orthogonal) == pytest.approx(0, abs=1e-6)
    assert gram_contrast(torch.ones(5, 5)) == pytest.approx(1)


def test_contrasts_are_of_triplets_alone(records):
    table = contrast_table(records)
    assert table.index.tolist() == [(2, 3), (2, 5)]
    assert (table["learned"] > 0).all()


def test_scores_carry_their_problem_and_model():
    scores = pd.DataFrame(
        {"inputs": ["line", "gaussian"], "task": "full rank", "method": "m", "angle": [1.0, 2.0], "risk": 0.5}
    )
    table = worth_table({(2, 5): Given({}, scores=scores), (3, 5): Given({}, scores=scores)})
    assert table.problem.tolist() == ["x on a line, full rank", "x anywhere, full rank"] * 2
    assert table.layers.tolist() == ["2 layers"] * 2 + ["3 layers"] * 2
    assert table.angle.tolist() == [1, 2, 1, 2]


def test_every_way_of_training_is_shown_once():
    ways = ways_of_training()
    assert ways.index.is_unique
    assert {"ours", "plain prompts"} <= set(ways.index)
    assert len(ways_table(ways)) == len(ways)
