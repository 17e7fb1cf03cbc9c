"""Tables over seeds, layers chosen on others, change points: from small tables that are made up."""

import numpy as np
import pandas as pd
import pytest
import torch

from task_vectors.pages.from_records import emergence as records
from task_vectors.regression.mixtures import SparseMixture


class Recorded:
    def __init__(self, **tables):
        self.table = tables.get


def test_gathered_tables_say_whose_they_are():
    one, other = (Recorded(errors=pd.DataFrame({"error": [value]})) for value in (1.0, 2.0))
    assert records.gathered([one, other], "errors").to_dict("list") == {"error": [1.0, 2.0], "seed": [0, 1]}
    table = records.gathered({"a": [one, other], "b": [other]}, "errors")
    assert list(table.itertuples(index=False, name=None)) == [(1.0, 0, "a"), (2.0, 1, "a"), (2.0, 0, "b")]


def test_the_last_step_is_each_variants_own():
    table = pd.DataFrame({"variant": ["a", "a", "b"], "step": [2, 4, 3]})
    assert records.at_the_end(table).step.tolist() == [4, 3]
    assert records.at_the_end(table.drop(columns="variant")).step.tolist() == [4]


def layered(values):
    """values [S, L] as a series by seed and layer, from 1."""
    table = pd.DataFrame(values, columns=pd.RangeIndex(1, len(values[0]) + 1, name="layer")).rename_axis("seed")
    return table.stack()


def test_a_layer_is_chosen_on_the_other_seeds():
    values = layered([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.2, 0.9]])
    assert records.layers_of_others(values).to_dict() == {0: 2, 1: 1, 2: 1}
    assert records.layers_of_others(layered([[0.1, 0.3, 0.2]])).to_dict() == {0: 2}
    both = pd.concat({"a": values, "b": layered([[0.1, 0.3, 0.2]])}, names=["variant"])
    assert records.layers_of_others(both).to_dict() == {("a", 0): 2, ("a", 1): 1, ("a", 2): 1, ("b", 0): 2}


def test_rows_of_each_seeds_own_layer():
    table = pd.DataFrame([(seed, layer) for seed in (0, 1) for layer in (1, 2)], columns=["seed", "layer"])
    layers = pd.Series({0: 2, 1: 1}).rename_axis("seed")
    assert records.at_layers(table, layers).values.tolist() == [[0, 2], [1, 1]]
    two = pd.concat([table.assign(variant=variant) for variant in "ab"])
    layers = pd.Series({("a", 0): 1, ("a", 1): 1, ("b", 0): 2, ("b", 1): 1}).rename_axis(["variant", "seed"])
    found = records.at_layers(two, layers)[["variant", "seed", "layer"]].values.tolist()
    assert found == [["a", 0, 1], ["a", 1, 1], ["b", 0, 2], ["b", 1, 1]]


def test_each_rule_is_read_where_it_is_best_for_others():
    cells = [(seed, layer) for seed in (0, 1) for layer in (1, 2)]
    td = [  # two classes each; the cosine's best layer is the first, the Euclidean's the second
        {"reading": "mean", "metric": metric, "seed": s, "layer": k, "class": z, "td": (k == best) * 0.8 + 0.1 * z}
        for metric, best in (("euclidean", 2), ("cosine", 1))
        for s, k in cells
        for z in (0, 1)
    ]
    probes = [{"reading": "mean", "probe": "linear", "seed": s, "layer": k, "accuracy": k / 2} for s, k in cells]
    found = records.probed(pd.DataFrame(td), pd.DataFrame(probes)).set_index(["rule", "seed"])
    assert found.layer.to_dict() == {
        ("neighbors, Euclidean", 0): 2,
        ("neighbors, Euclidean", 1): 2,
        ("neighbors, cosine", 0): 1,
        ("neighbors, cosine", 1): 1,
        ("linear probe", 0): 2,
        ("linear probe", 1): 2,
    }
    assert found.share["neighbors, cosine", 0] == pytest.approx(0.85)
    assert found.share["linear probe", 1] == 1


def test_patches_are_shown_at_the_layer_that_shows_most_on_other_seeds():
    rows = [
        {"step": step, "seed": seed, "kind": kind, "layer": layer, "source": a, "target": b, "change": change}
        for step in (0, 5)
        for seed in (0, 1, 2)
        for kind in ("part", "whole")
        for layer in (1, 2)
        for a in (0, 1)
        for b in (0, 1)
        # At the last step another class's part does harm after layer 2; before it, after layer 1.
        for change in [float(a != b and kind == "part" and layer == (2 if step else 1))]
    ]
    found = records.patch_effects(pd.DataFrame(rows))
    assert set(found.layer) == {2}
    means = found[found.kind == "part"].groupby(["step", "basis"]).change.mean()
    assert means.to_dict() == {(0, "another"): 0, (0, "own"): 0, (5, "another"): 1, (5, "own"): 0}


STEPS = np.arange(0, 1000, 100)


def jumping(at):
    """A series [seed, step, class] that jumps from 0 to 1 at these steps, for each seed and class; nan: never."""
    index = pd.MultiIndex.from_product([range(len(at)), STEPS, range(len(at[0]))], names=["seed", "step", "class"])
    return pd.Series([float(step >= at[seed][z]) for seed, step, z in index], index)


def test_change_points_of_every_seed_and_class():
    td, error = jumping([[200, 400], [300, np.nan]]), -jumping([[500, 700], [400, 800]])
    found = records.coupled(td, error)
    assert [list(at) for at in found.td_at] == [[150, 350], [250]]
    assert [list(at) for at in found.error_at] == [[450, 650], [350, 750]]
    assert found.lag[0] == -300
    assert found.own[0] == 0 < found.other[0]
    assert records.median_step(found.td_at) == 250
    assert records.median_step(found.error_at) == 550


def test_where_td_jumps_and_how_far_the_error_is_by_then():
    td, error = jumping([[200, 400], [300, 300]]), jumping([[500, 700], [400, 800]])
    means = pd.concat({0: pd.Series(np.exp(-STEPS / 250.0), STEPS), 1: pd.Series(1.0, STEPS)}, names=["seed", "step"])
    table = records.jump_table(records.coupled(td, error), means, 0.5)
    assert table.ratio.tolist() == pytest.approx([np.exp(-1) / 0.5, 2])  # at step 250, between two snapshots
    assert table.passes[0] == 200  # exp(-0.8) is the first below a half
    assert np.isnan(table.passes[1])


def test_means_over_units_in_words():
    index = pd.MultiIndex.from_product([["a", "b"], [0, 1, 2]], names=["kind", "seed"])
    shown = records.with_intervals(pd.Series([1.0, 2.0, 3.0, 0.5, 0.5, 0.5], index), "kind")
    assert shown.to_dict() == {"a": "2.00\u00a0[-0.48,\u00a04.48]", "b": "0.50"}


def test_bounds_are_ridge_above_bayes():
    found = records.bounds_of(SparseMixture(dim=4, rank=2, n_classes=2), 6)
    assert found["ridge"].shape == found["Bayes"].shape == (2, 7)
    assert found["Bayes"].mean() < found["ridge"].mean()
    assert found["Bayes"][:, -1].mean() < found["Bayes"][:, 0].mean() / 3


def test_the_bar_is_the_better_of_ridge_and_lasso_at_each_number_of_demonstrations():
    errors = {"ridge": [0.9, 0.2], "LASSO": [1.0, 0.1], "Bayes": [0.0, 0.0], "least squares": [0.5, 0.05]}
    rows = [{"learner": who, "demos": i, "error": e} for who, values in errors.items() for i, e in enumerate(values)]
    assert records.bar_of(pd.DataFrame(rows)).tolist() == [0.9, 0.1]


def test_pairs_in_groups():
    mixture = SparseMixture(dim=8, rank=2, n_classes=8, groups=2)  # a group: four inputs, neighbors share one
    table = records.pair_kinds(mixture).set_index(["row", "column"])
    assert table.kind.value_counts().to_dict() == {
        "the same": 8,
        "of two groups": 32,
        "of one group, no input shared": 8,
        "of one group, inputs shared": 16,
    }
    assert table.kind[0, 2] == "of one group, no input shared"
    assert table.kind[3, 0] == "of one group, inputs shared"
    assert table.kind[3, 4] == "of two groups"
    assert table.member.sum() == 24
    assert not table.member[1, 1]


def test_a_film_shows_every_class_in_both_kinds():
    generator = torch.Generator().manual_seed(0)
    states = {f"{step:07d}": 5 * torch.randn(12, 2, 3, generator=generator).half() + 7 for step in (0, 10)}
    maps = {step: torch.randn(12, 2, generator=generator).half() for step in states}
    table = records.film(states, maps, layer=2, names=["a", "b"])
    assert len(table) == 48
    first = table[(table.kind == "principal components") & (table.frame == 1)]
    assert first["class"].tolist() == ["a"] * 6 + ["b"] * 6
    assert first.step.unique() == [10]
    assert first[["x", "y"]].mean().abs().max() < 1e-5
    corner = np.corrcoef(first.x, states["0000010"][:, 1, 0].float())
    assert corner[0, 1] == pytest.approx(1)
    assert np.allclose(table[table.kind == "t-SNE"].x[:12], maps["0000000"][:, 0].float())
    assert len(records.film(states, maps, 1, ["a", "b"], most=20)) == 16


@pytest.mark.parametrize(
    ("values", "words"), [([4, 1, 3], "4, 1 and 3"), (["+0.1", "-0.2"], "+0.1 and -0.2"), ([5], "5")]
)
def test_values_in_words(values, words):
    assert records.listed(values) == words
