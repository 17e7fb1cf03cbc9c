"""Profiles, tokens and curves from records whose numbers are known."""

import numpy as np
import pandas as pd
import pytest

from task_vectors.pages.from_records.demonstration_weights import (
    against_curves,
    chosen_layers,
    comparison,
    fitted_weights,
    held_out_fits,
    judged,
    movements,
    tokens_of_others,
    weight_sizes,
)

LAYERS, N = 3, 4
CURVES = {"rising": np.arange(1.0, N + 1), "steep": 0.5 ** np.arange(N - 1.0, -1, -1), "flat": np.ones(N)}


class Given:
    def __init__(self, best, shifts, r2):
        """shifts [N] at the best layer (elsewhere all 9); r2 by token at the best layer, the same for both folds."""
        grid = [(layer, prompt, demo) for layer in range(LAYERS) for prompt in range(2) for demo in range(N)]
        moved = pd.DataFrame(grid, columns=["layer", "prompt", "demo"])
        # Two prompts, whose mean is what was asked for.
        moved["shift"] = [shifts[demo] + 2 * prompt - 1 if layer == best else 9 for layer, prompt, demo in grid]
        fits = [
            {"layer": layer, "token": token, "states": states, "fold": fold, "r2": value + fold - 0.5 - 0.1 * layer}
            for layer in range(LAYERS)
            for token, value in r2.items()
            for states in ("own", "shuffled")
            for fold in (0, 1)
        ]
        weights = [
            {"layer": layer, "token": token, "demo": demo, "weight": (-1) ** demo * (demo + 1 + 10 * layer + 100 * i)}
            for layer in range(LAYERS)
            for i, token in enumerate(r2)
            for demo in range(N)
        ]
        self.tables = {"layer": pd.DataFrame({"right": [best], "word": [0]}), "shifts": moved}
        self.tables |= {"fits": pd.DataFrame(fits), "weights": pd.DataFrame(weights).sample(frac=1, random_state=0)}

    def table(self, name):
        return self.tables[name]


RECORDS = {
    "a": Given(1, [2.0, 4, 6, 8], {"arrow": 0.9, "answer": 0.1}),
    "b": Given(2, [4.0, 4, 4, 4], {"arrow": 0.2, "answer": 0.3}),
    "c": Given(0, [8.0, 6, 4, 2], {"arrow": 0.3, "answer": 0.5}),
}
BEST = {"a": 1, "b": 2, "c": 0}


def test_movements_are_of_the_chosen_layer_over_their_mean():
    assert chosen_layers(RECORDS) == BEST
    profile = movements(RECORDS, BEST)
    assert profile.columns.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(profile.loc["a"], [0.4, 0.8, 1.2, 1.6])
    np.testing.assert_allclose(profile.loc["b"], 1)


def test_fits_are_means_over_folds():
    fits = held_out_fits(RECORDS).set_index(["task", "layer", "token", "states"]).r2
    assert fits["a", 2, "arrow", "own"] == pytest.approx(0.7)
    assert fits.index.is_unique


def test_a_token_is_chosen_on_the_other_tasks():
    r2 = pd.DataFrame({"arrow": [0.9, 0.2, 0.3], "answer": [0.1, 0.3, 0.5]}, index=list("abc"))
    # Without a, answers are the best; a itself, where arrows are, has no say in its own.
    assert tokens_of_others(r2) == {"a": "answer", "b": "arrow", "c": "arrow"}
    assert tokens_of_others(r2.iloc[:1]) == {"a": "arrow"}


def test_weights_are_of_the_chosen_layer_and_token():
    weights = fitted_weights(RECORDS, BEST, {"a": "arrow", "b": "answer", "c": "arrow"})
    assert weights.loc["a"].tolist() == [11, -12, 13, -14]
    assert weights.loc["b"].tolist() == [121, -122, 123, -124]
    np.testing.assert_allclose(weight_sizes(weights).loc["a"], np.array([11, 12, 13, 14]) / 12.5)


def test_a_curve_is_judged_by_its_error_and_by_the_order_of_places():
    errors, ranks = judged(movements(RECORDS, BEST), CURVES)
    assert errors.loc["a", "rising"] == pytest.approx(0, abs=1e-12)
    assert errors.loc["b", "flat"] == pytest.approx(0, abs=1e-12)
    assert ranks.columns.tolist() == ["rising", "steep"]  # a flat curve has no order
    assert ranks.rising[["a", "c"]].tolist() == pytest.approx([1, -1])


def test_the_table_compares_with_each_rival():
    errors = pd.DataFrame({"rising": [0.4, 0.5, 0.6], "flat": [0.1, 0.3, 0.2]})
    table = comparison(errors, pd.DataFrame({"rising": [0.1, 0.2, 0.3]}), against=["rising", "flat"])
    assert table["Less than the rising by"].tolist()[0] == ""
    assert table["Less than the rising by"].tolist()[1].startswith("0.30")
    assert table["Less than the flat by"].tolist()[0].startswith("-0.30")
    assert table["Rank correlation"].tolist()[1] == ""


def test_the_figure_has_each_curve_at_its_best_scale_and_a_point_for_each_place():
    spec = against_curves(movements(RECORDS, BEST), CURVES, "Movement", "what it shows").to_dict()
    tables = [rows for rows in spec["datasets"].values() if rows]
    lines = pd.DataFrame(next(rows for rows in tables if "curve" in rows[0]))
    points = pd.DataFrame(next(rows for rows in tables if "low" in rows[0]))
    assert points["mean"].tolist() == pytest.approx(movements(RECORDS, BEST).mean().tolist())
    rising = lines[lines.curve == "rising"].value.to_numpy()
    np.testing.assert_allclose(rising / rising[0], CURVES["rising"])
    assert spec["description"] == "what it shows"
