"""What the page on sizes makes of its records, counted by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert

from task_vectors.measures.prompt_surface import surface_level
from task_vectors.measures.statistics import Estimate, mean_over_units
from task_vectors.pages import size_figures as figures
from task_vectors.pages.findings import above
from task_vectors.pages.from_records import sizes
from task_vectors.pages.from_records.bijections import GATE
from task_vectors.prompts.families import family_prompts
from task_vectors.tasks.families.catalog import get_family

SMALL, LARGE = "maker-135m", "maker-1.5b"


class Look:
    """A record of first_look with 20 prompts of which so many are right, and four layers."""

    def __init__(self, model, task, icl, vector, word=0, layer=1, zero=0):
        self.parameters = {"model": model, "task": task}
        right = {"icl_right": icl, "icl_word": icl, "vector_right": vector, "vector_word": word, "zero_right": zero}
        answers = pd.DataFrame({name: np.arange(20) < count for name, count in right.items()})
        self.tables = {"answers": answers, "layers": pd.DataFrame({"rule": ["right", "word"], "layer": [layer, 0]})}

    def table(self, name):
        return self.tables[name]

    def tensors(self, name):
        return {"exact": torch.zeros(12, 4)}


def test_the_tasks_are_the_papers_and_a_task_and_its_inverse_are_of_one_family():
    assert (len(sizes.OF_PAPER), len(sizes.ONE_WAY)) == (33, 25)
    assert sizes.FAMILY.keys() == set(sizes.ONE_WAY)
    families = pd.Series(sizes.FAMILY)
    assert families["french_to_english"] == families["english_to_spanish"] == "translation"
    assert families["prev_letter"] == families["to_lower"] == "letters"
    assert families["list_first"] == families["list_last"] == "lists"
    assert families.nunique() == 10


def test_what_a_vector_holds_is_asked_of_tasks_that_are_done():
    table = sizes.looks(
        [
            Look(SMALL, "to_upper", 16, 8, word=12, layer=2, zero=2),
            Look(SMALL, "antonym", 12, 3, word=3),  # at the gate, but below the floor of the vector
            Look(SMALL, "to_lower", 11, 11, word=11),  # below the gate
        ]
    ).set_index("task")
    assert table.followed.tolist() == [True, True, False]
    assert table.share.tolist() == pytest.approx([0.5, 0.25, np.nan], nan_ok=True)
    assert table.share_word.tolist() == pytest.approx([0.75, 0.25, np.nan], nan_ok=True)
    assert table.gain.tolist() == pytest.approx([0.3, 0.15, np.nan], nan_ok=True)
    assert table.depth.tolist() == pytest.approx([0.75, np.nan, np.nan], nan_ok=True)
    assert table.category.tolist() == ["algorithmic", "linguistic", "algorithmic"]


@pytest.fixture
def table():
    """Two models; the larger one does all, the smaller one no translation."""
    done = ("to_upper", "antonym", "list_first", "country_to_capital")
    records = [Look(SMALL, task, 20, 10, word=10, layer=1) for task in done]
    records += [Look(LARGE, task, 20, 14 + i, word=20, layer=2) for i, task in enumerate(done)]
    records += [Look(SMALL, "english_to_french", 4, 4), Look(LARGE, "english_to_french", 20, 20, word=20)]
    records += [Look(SMALL, "english_and_french", 20, 20), Look(LARGE, "english_and_french", 20, 0)]
    return sizes.looks(records)


def test_models_are_compared_on_the_one_way_tasks_that_both_do(table):
    found = sizes.change(table, "share", SMALL, LARGE)
    assert found.to_dict() == pytest.approx(
        {"to_upper": 0.2, "antonym": 0.25, "list_first": 0.3, "country_to_capital": 0.35}
    )
    assert sizes.over_tasks(found) == pytest.approx(mean_over_units(found))
    every = sizes.change(table, "icl_right", SMALL, LARGE)
    assert every["english_to_french"] == pytest.approx(0.8)
    assert "english_and_french" not in every
    row = sizes.compared(table, [(SMALL, LARGE)]).loc["135M → 1.5B"]
    assert row["share of ICL in one vector"] == str(mean_over_units(found))
    assert row["the same, first word"] == "0.50"
    assert row["tasks that both do"] == 4


def test_a_family_counts_once_and_three_are_needed():
    values = pd.Series({"to_upper": 0.1, "prev_letter": 0.3, "antonym": 0.4, "list_last": 0.6})
    assert sizes.over_tasks(values) == mean_over_units([0.2, 0.4, 0.6])
    assert sizes.too_few(values) == ""
    assert sizes.too_few(values[:3]) == "below the gate in all families but 2"
    assert sizes.too_few(values[:0]) == "below the gate in all families"


def test_categories_stand_beside_the_published_ones(table):
    shown = sizes.by_category(table).set_index(["category", "place", "way"]).sort_index()
    mine = shown.loc[("algorithmic", "1.5B", "task vector, exact line")]
    assert mine["mean"] == pytest.approx((14 + 16) / 40)
    theirs = shown["mean"]["knowledge", "Llama-13B"]
    assert theirs.to_dict() == pytest.approx({"ICL": 0.848, "task vector, first word": 0.688})
    # Tables 2 and 7, Llama-13B, and Table 6, Pythia-12B; four categories each.
    vector = [0.6880, 0.8620, 0.7353, 0.8524, 0.6330, 0.8473, 0.6207, 0.8258]
    alone = [0.0690, 0.1560, 0.0700, 0.1244, 0.0660, 0.1407, 0.0860, 0.1253]
    assert sizes.published_gain() == pytest.approx(np.mean(vector) - np.mean(alone), abs=1e-4)


def test_every_task_stands_in_its_category_with_both_models(table):
    wide = sizes.every_task(table)
    assert wide.loc[("linguistic", "antonym"), ("1.5B", "vector")] == "0.75"
    assert wide.loc[("translation", "english → french"), ("135M", "ICL")] == "0.20"
    assert wide.loc[("algorithmic", "list first"), ("1.5B", "layer")] == 2
    assert list(wide.columns.get_level_values(0).unique()) == ["135M", "1.5B"]


def test_depths_are_counted_by_layer(table):
    points = sizes.depths(table)
    large = points[points.place == "1.5B"]
    assert large[large.tasks.notna()].set_index("depth").tasks.to_dict() == {0.75: 4, 0.5: 1}
    mean = large[large.tasks.isna()]
    # Of five families; the one of translation is at layer 1.
    assert mean.depth.item() == pytest.approx((4 * 0.75 + 0.5) / 5)
    assert mean.low.item() < mean.depth.item() < mean.high.item()


def test_a_bijection_is_done_in_both_directions_or_not_at_all():
    def answers(base, *right):
        rows = [(base, "X ↔ Y", "bijection", part, i < count) for part, count in enumerate(right) for i in range(10)]
        return pd.DataFrame(rows, columns=["base", "form", "kind", "part", "icl_right"])

    one_way = answers("to_upper", 0, 0).assign(kind="one way", form="X → Y")
    found = sizes.both_ways(
        {SMALL: answers("to_upper", 10, 5), LARGE: pd.concat([answers("to_upper", 10, 6), one_way])}
    ).set_index("place")
    assert found.outcome.to_dict() == {"135M": "not both ways", "1.5B": "both ways"}
    assert found.worse.to_dict() == {"135M": 0.5, "1.5B": 0.6}
    assert found["Y → X"].tolist() == [0.5, 0.6]
    assert GATE == 0.6


class Bitwise:
    """A record of bitwise arithmetic with two layers; right, named: [7, B]."""

    def __init__(self, right, named=None, n_prompts=20):
        self.parameters = {"model": LARGE, "family": "bitwise", "options": {"digits": 5}, "n_demos": 2}
        self.parameters |= {"n_prompts": n_prompts, "seed": 0}
        labels = np.repeat(np.arange(7), n_prompts)
        self.prompts = pd.DataFrame({"class": labels, "right": np.asarray(right).ravel()})
        votes = np.where(np.zeros((7, n_prompts), bool) if named is None else named, labels.reshape(7, -1), -1)
        self.votes = torch.tensor(np.stack([np.full(7 * n_prompts, -1), votes.ravel()], 1))

    def table(self, name):
        return self.prompts

    def tensors(self, name):
        return {"euclidean": self.votes}


def bitwise_prompts():
    return family_prompts(get_family("bitwise", {"digits": 5}), 2, 20, 0)


def test_an_operator_is_done_where_it_is_more_often_right_than_a_constant_answer():
    told = np.array(bitwise_prompts().completions).reshape(7, 20)
    right = np.zeros((7, 20), bool)
    right[0] = True
    constant = [row == pd.Series(row).mode()[0] for row in told]
    right[1] = constant[1]
    right[2] = constant[2] | (np.arange(20) == np.flatnonzero(~constant[2])[0])  # one more: no interval above 0
    found = sizes.operators(Bitwise(right)).set_index("operator")
    assert found.index.tolist() == ["AND", "NAND", "OR", "NOR", "XOR", "XNOR"]
    assert found.beats.tolist() == [True, False, False, False, False, False]
    assert found.accuracy["NAND"] == found.constant["NAND"] > 0
    assert found.accuracy["OR"] == pytest.approx(found.constant["OR"] + 0.05)
    points = sizes.operator_points(found.reset_index())
    constant = points[points.what == "constant answer"].set_index("operator").accuracy
    assert constant.to_dict() == found.constant.to_dict()
    assert points[points.what == "2 demonstrations"].accuracy.tolist() == found.accuracy.tolist()
    theirs = sizes.operator_points(found.reset_index().assign(demonstrations=4)).set_index(["place", "operator"])
    assert theirs.accuracy["Llama-3.1-8B (published)", "OR"] == pytest.approx(0.49)


def test_decodability_stands_beside_permuted_answers_and_the_surface():
    named = np.arange(140).reshape(7, 20) % 11 > 3
    found = sizes.decodability(Bitwise(named, named), Bitwise(named, ~named), 1)
    assert found["states"].tolist() == named[:6].astype(float).tolist()
    assert found["permuted"].tolist() == (~named[:6]).astype(float).tolist()
    assert {values.shape for values in found.values()} == {(6, 20)}
    assert found["surface"].mean() == pytest.approx(surface_level("bitwise", bitwise_prompts()))
    assert sizes.decodability(Bitwise(named, named), Bitwise(named), 0)["states"].max() == 0


def test_decodability_and_accuracy_on_one_line():
    counts = np.array([[2, 4, 6, 8, 10, 12], [4, 6, 8, 10, 12, 14]])  # right and named, by operator
    runs = [Bitwise(many, many) for many in (np.arange(20) < np.append(row, 0)[:, None] for row in counts)]
    table = sizes.fits({LARGE: runs}, {LARGE: 1}).set_index("place")
    assert table.r2["1.5B"] == pytest.approx(1)
    assert table.low["1.5B"] <= table.high["1.5B"]
    none = sizes.fits({LARGE: runs}, {LARGE: 0}).set_index("place")
    assert np.isnan(none.r2["1.5B"])  # no state is told there
    assert none.r2["Llama-3.1-70B"] == 0.324
    assert len(none) == 1 + 6


def test_the_overview_says_what_cannot_be_asked():
    cells = [
        sizes.done(LARGE, sizes.ONE_WAY_DONE, 24, 25),
        sizes.judged(LARGE, sizes.GAIN, Estimate(0.5, 0.4, 0.6), above(), ""),
        sizes.judged(LARGE, sizes.SHARE, Estimate(0.3, 0.2, 0.4), above(0.5), ""),
        sizes.judged(SMALL, sizes.GAIN, Estimate(0.5, 0.4, 0.6), above(), "below the gate"),
    ]
    assert [cell["text"] for cell in cells] == ["24", ".50", ".30", "–"]
    assert [cell["outcome"] for cell in cells] == [sizes.DONE, "holds", "against", sizes.NOT_ASKED]
    theirs = pd.DataFrame(sizes.published_cells()).set_index("question").text
    assert theirs[sizes.EXCESS] == ".20"
    assert sizes.SHARE not in theirs  # they count first words
    assert theirs[sizes.BITWISE_DONE] == ".26"
    chart = figures.overview(pd.DataFrame(cells + sizes.published_cells()), ["135M", "1.5B", sizes.PUBLISHED], "Cells.")
    assert marks(chart, "rect mark") == len(cells) + len(theirs) - 1  # what cannot be asked has no color


def marks(chart, kind):
    return vl_convert.vegalite_to_svg(chart.to_dict()).count(f'aria-roledescription="{kind}"')
