"""Outcomes of each prompt from a record of td_of_families."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from task_vectors.measures.td_and_accuracy import relation, resampled
from task_vectors.pages.from_records.families import TITLES, family_facts, outcomes, td_by_layer, td_profiles
from task_vectors.pages.from_records.td_of_families import (
    at_layer,
    by_task,
    log_probs,
    published_by_task,
    published_r2,
    published_relation,
    relation_table,
    with_intervals,
)


class Recorded:
    """Two tasks and Null, two groups, two layers: the first layer names the tasks, the second takes all for Null."""

    def table(self, name):
        right = [True, False, False, False, False, True]
        table = {"class": [0, 0, 1, 1, 2, 2], "group": [0, 1] * 3, "right": right, "log_prob": range(-6, 0)}
        return {"prompts": pd.DataFrame(table)}[name]

    def tensors(self, name):
        named = torch.tensor([[0, 2], [1, 2], [1, 2], [1, 2], [0, 2], [0, 2]], dtype=torch.int8)
        return {"votes": {"euclidean": named, "cosine": named.flip(1)}}[name]


def test_outcomes_are_by_task_and_group():
    named, right = outcomes(Recorded())
    assert named[:, :, 0].tolist() == [[True, False], [True, True], [False, False]]
    assert named[:, :, 1].tolist() == [[False, False], [False, False], [True, True]]
    assert right.tolist() == [[True, False], [False, False], [False, True]]
    assert np.array_equal(outcomes(Recorded(), "cosine").named, named[:, :, ::-1])


def test_log_probabilities_are_by_task_and_group_without_null():
    assert log_probs([Recorded(), Recorded()]).tolist() == [[[-6, -5], [-4, -3]]] * 2


def test_td_leaves_null_out():
    assert td_by_layer(Recorded()).tolist() == [0.75, 0]


def test_profiles_hold_a_row_for_each_layer():
    table = td_profiles({("a", 1): Recorded(), ("b", 4): Recorded()}, ["model", "shots"])
    assert table[table.model == "b"].values.tolist() == [["b", 4, 1, 0.75], ["b", 4, 2, 0]]
    assert len(table) == 4


def test_tables_by_task_read_each_family_at_its_own_layer():
    """Two records of the same votes, one of them read at a layer where only Null is named."""
    family = SimpleNamespace(tasks=("AND", "OR", "Null"))
    runs, layers = (
        {("a", "bitwise", 1): Recorded(), ("a", "pos", 1): Recorded()},
        {("a", "bitwise"): 0, ("a", "pos"): 1},
    )
    table = by_task(runs, layers, {"bitwise": family, "pos": family}).set_index(["family", "task"])
    assert table.td.tolist() == [0.5, 1, 0, 0, 0, 1]
    assert table.accuracy["tagging"].tolist() == [0.5, 0, 0.5]
    named, right = at_layer([Recorded(), Recorded()], 0)
    assert named.shape == right.shape == (2, 2, 2)
    assert named[1].mean(-1).tolist() == [0.5, 1]


def test_published_points_give_about_the_published_r2():
    points, printed = published_by_task(), published_r2()
    assert points.groupby("family").size().tolist() == [18, 18]
    for family in TITLES.values():
        mine = points[points.family == family]
        line = stats.linregress(mine.td, mine.accuracy)
        [llama] = printed[(printed.family == family) & (printed.model == "Llama-3.1-8B")].r2
        assert line.rvalue**2 == pytest.approx(llama, abs=0.07)  # the points are rounded


def test_intervals_of_a_relation_are_those_of_its_samples():
    """Tasks of one kind: what other tasks would give has no spread, and only other prompts make a difference."""
    rng = np.random.default_rng(0)
    hits = rng.random((2, 3, 1, 40)) < np.array([0.2, 0.5, 0.8])[:, None, None]
    named, right = hits.repeat(6, 2)  # [3, 6, 40] each
    found = relation(named.mean(-1), right.mean(-1))
    by_tasks, by_prompts = (resampled(named, right, units, 200) for units in ("tasks", "prompts"))
    shown = with_intervals(found, by_tasks, by_prompts)
    assert shown["R²"][:3] == pytest.approx([found.r2] * 3)
    assert shown["R², these tasks"].low < found.r2 - 0.005
    assert shown["slope"][:3] == pytest.approx([found.slope] * 3)
    assert shown["slope, these tasks"].low < found.slope - 0.005
    assert np.isnan(shown["mean rank"].mean)  # tasks do not differ


def test_a_table_of_relations_keeps_a_family_together():
    relations = {(model, family): published_relation(family) for model in ("a", "b") for family in ("pos", "bitwise")}
    table = relation_table(relations)
    assert table.index.tolist() == [("bitwise", "a"), ("bitwise", "b"), ("tagging", "a"), ("tagging", "b")]
    assert table.loc[("bitwise", "a"), "rank, by shots"] == ".81 .31 .60"
    assert table.loc[("tagging", "b"), "R²"] == f"{relations['b', 'pos']['R²'].mean:.2f}"  # no interval
    assert "[" in table.loc[("tagging", "b"), "slope in a task"]


def test_a_treebank_is_told_by_what_it_holds(tmp_path):
    (tmp_path / "bank.conllu").write_text("# a treebank\n")
    path = str(tmp_path / "bank.conllu")
    facts = family_facts(4, path)
    assert facts["bitwise"] == {"family": "bitwise", "options": {"digits": 4}, "source": ""}
    assert facts["pos"]["options"] == {"conllu": path}
    assert facts["pos"]["source"] == hashlib.sha256(b"# a treebank\n").hexdigest()
    assert family_facts(4)["pos"] == {"family": "pos", "options": {}, "source": ""}
