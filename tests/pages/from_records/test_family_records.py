"""Outcomes of each prompt from a record of td_of_families."""

import hashlib

import numpy as np
import pandas as pd
import torch

from task_vectors.pages.from_records.families import family_facts, outcomes, td_by_layer


class Recorded:
    """Two tasks and Null, two groups, two layers: the first layer names the tasks, the second takes all for Null."""

    def table(self, name):
        right = [True, False, False, False, False, True]
        return {"prompts": pd.DataFrame({"class": [0, 0, 1, 1, 2, 2], "group": [0, 1] * 3, "right": right})}[name]

    def tensors(self, name):
        named = torch.tensor([[0, 2], [1, 2], [1, 2], [1, 2], [0, 2], [0, 2]], dtype=torch.int8)
        return {"votes": {"euclidean": named, "cosine": named.flip(1)}}[name]


def test_outcomes_are_by_task_and_group():
    named, right = outcomes(Recorded())
    assert named[:, :, 0].tolist() == [[True, False], [True, True], [False, False]]
    assert named[:, :, 1].tolist() == [[False, False], [False, False], [True, True]]
    assert right.tolist() == [[True, False], [False, False], [False, True]]
    assert np.array_equal(outcomes(Recorded(), "cosine").named, named[:, :, ::-1])


def test_td_leaves_null_out():
    assert td_by_layer(Recorded()).tolist() == [0.75, 0]


def test_a_treebank_is_told_by_what_it_holds(tmp_path):
    (tmp_path / "bank.conllu").write_text("# a treebank\n")
    path = str(tmp_path / "bank.conllu")
    facts = family_facts(4, path)
    assert facts["bitwise"] == {"family": "bitwise", "options": {"digits": 4}, "source": ""}
    assert facts["pos"]["options"] == {"conllu": path}
    assert facts["pos"]["source"] == hashlib.sha256(b"# a treebank\n").hexdigest()
    assert family_facts(4)["pos"] == {"family": "pos", "options": {}, "source": ""}
