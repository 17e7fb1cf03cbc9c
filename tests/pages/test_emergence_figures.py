"""Figures of chapters 2 and 3 hold their data and can be drawn."""

import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert

from task_vectors.pages import emergence_figures as figures


def drawn(chart):
    """The specification and the picture; the data of every part must be in it."""
    spec = chart.to_dict()
    return spec, vl_convert.vegalite_to_svg(spec)


def grid(**columns):
    return pd.MultiIndex.from_product(columns.values(), names=columns).to_frame(index=False)


def test_block_weights_have_a_cell_for_each_input():
    spec, _ = drawn(figures.block_weights(torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.5, 3.0]]), ["basis 1", "basis 2"]))
    [rows] = spec["datasets"].values()
    assert [row["size"] for row in rows] == [1, 2, 0, 0, 0.5, 3]


def test_a_menu_shows_one_seed():
    errors = grid(seed=[0, 1], step=[0, 10], demos=[3, 4], **{"class": [0, 1]}).assign(error=lambda t: 0.1 + t.seed)
    spec, svg = drawn(figures.errors_by_basis(errors, {"ridge": 0.2}, 4, "Error of each basis."))
    [rows] = spec["datasets"].values()
    assert {row["demos"] for row in rows} == {4}
    [menu] = [param for param in spec["params"] if param["name"] == "which_seed"]
    assert menu["bind"]["options"] == ["seed 0", "seed 1"]
    assert ">ridge</text>" in svg


def test_a_slider_shows_one_step_and_all_learners():
    model = grid(step=[0, 10, 20], demos=[0, 1]).assign(error=0.5)
    learners = grid(learner=["ridge", "Bayes"], demos=[0, 1]).assign(error=0.2)
    spec, svg = drawn(figures.errors_at_step(model, learners, 10))
    [slider] = [param for param in spec["params"] if param["name"] == "at_step"]
    assert slider["value"] == 10
    assert slider["bind"]["max"] == 20
    assert svg.count('aria-roledescription="line mark"') == 3  # the model at one step, and two learners


@pytest.mark.parametrize(
    ("chart", "panels"),
    [
        (
            lambda: figures.td_over_training(
                grid(reading=["token", "mean"], layer=[1, 2], step=[0, 5]).assign(td=0.4), {"chance": 0.5}
            ),
            ["token", "mean"],
        ),
        (
            lambda: figures.changes_by_layer(
                grid(place=["here", "there"], basis=["own", "another"], layer=[1, 2]).assign(change=0.1),
                ["here", "there"],
            ),
            ["here", "there"],
        ),
        (lambda: figures.swaps_by_step(grid(step=[0, 5], source=[0, 1], target=[0, 1]).assign(change=0.1)), ["0", "5"]),
        (
            lambda: figures.states_on_a_map(
                grid(kind=["a kind", "t-SNE"], frame=[0, 1], **{"class": ["b1", "b2"]}).assign(x=0.1, y=0.2)
            ),
            ["a kind", "t-SNE"],
        ),
        (
            lambda: figures.damage_by_head(
                {"one": torch.zeros(2, 2), "two": torch.ones(2, 3)}, {"one": "ab", "two": "cde"}, 2
            ),
            ["one", "two"],
        ),
    ],
)
def test_a_panel_for_each(chart, panels):
    spec, svg = drawn(chart())
    assert all(f">{panel}</text>" in svg for panel in panels)
    assert spec["description"]


def test_error_above_decodability_each_with_its_jump():
    series = pd.Series(0.5, pd.MultiIndex.from_product([[0, 10, 20], [0, 1]], names=["step", "class"]))
    kinds = {"ours": series, "theirs": 0.9 * series}
    chart = figures.error_above_td(
        kinds, kinds, {"ours": (5, 15), "theirs": (10, 10)}, ({"ridge": 0.1}, {"chance": 0.5})
    )
    spec, svg = drawn(chart)
    assert len(spec["vconcat"]) == 2
    assert [{row["tokens"]: row["jump"] for row in data} for data in spec["datasets"].values()] == [
        {"ours": 5, "theirs": 10},
        {"ours": 15, "theirs": 10},
    ]
    assert svg.count(">ridge</text>") == svg.count(">chance</text>") == 2


def test_what_is_told_stands_beside_what_is_used():
    pairs = grid(draw=[0, 1], row=[0, 1], column=[0, 1]).query("row != column").assign(td=lambda t: 0.6 + 0.2 * t.draw)
    swaps = grid(seed=[0, 1], source=[0, 1], target=[0, 1]).assign(change=lambda t: 1.0 * (t.source != t.target))
    spec, svg = drawn(figures.told_and_used(pairs, swaps, ["A", "B"], "basis"))
    told, used = (spec["datasets"][part["data"]["name"]] for part in spec["hconcat"])
    assert {(row["row"], row["column"]): row["td"] for row in told} == {
        ("A", "B"): pytest.approx(0.7),
        ("B", "A"): pytest.approx(0.7),
    }
    assert {(row["source"], row["target"]): row["change"] for row in used}["A", "B"] == 1
    assert ">Basis put in</text>" in svg


def test_one_point_a_model_beside_learners():
    models = pd.DataFrame({"model": ["LSTM", "LSTM", "pairs"], "td": [1.0, 0.9, 0.3], "error": [0.1, 0.1, 0.2]})
    _, svg = drawn(figures.error_against_td(models, {"ridge": 0.05}, 20))
    assert svg.count('aria-roledescription="point"') == 3
    assert ">ridge</text>" in svg


def test_shares_and_errors_over_demonstrations():
    shares = grid(what=["posterior", "model, seed 0"], demos=[1, 2]).assign(share=0.5)
    assert ">chance</text>" in drawn(figures.shares_by_demos(shares, 0.25))[1]
    errors = grid(learner=["the model, trained", "ridge"], demos=[1, 2]).assign(error=np.float64(0.5))
    assert ">the model, trained</text>" in drawn(figures.errors_by_demos(errors, "Errors."))[1]


def test_what_lies_beyond_the_weights_is_shown_by_model_beside_its_floors():
    table = pd.DataFrame({"seed": [0, 0, 1, 1], "layer": [1, 2, 1, 2], "r2": [0.1, 0.4, 0.0, 0.5]})
    text = figures.beyond_by_layer(table, {"sizes": 0.39}).to_json()
    assert all(name in text for name in ("seed 0", "seed 1", "sizes", "0.39"))
