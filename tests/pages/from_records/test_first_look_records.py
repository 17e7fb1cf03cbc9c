"""What chapter 1 shows of its records, counted from their tables by hand."""

import numpy as np
import pandas as pd
import torch

from task_vectors.measures.statistics import clustered_mean
from task_vectors.pages.from_records.first_look import (
    answer_tokens_by_layer,
    by_layer,
    by_shots,
    compared,
    gain,
    leaning,
    printable,
)

L = 3


class FakeRecord:
    """The tables and tensors of a record of first_look with eight prompts and three layers."""

    parameters = {"task": "english_to_french", "template": "{x} → {y}"}

    def __init__(self, tokens=range(100, 104)):
        prefix, group = [0] * 4 + [1] * 4, [0, 1, 2, 3, 0, 1, 2, 4]
        right = np.arange(8) % 4 > 0
        prompts = {"prefix": prefix, "group": group}
        self.tables = {
            "shots": pd.concat([pd.DataFrame(prompts | {"n_demos": n, "right": right & (n > 0)}) for n in (0, 2)]),
            "answers": pd.DataFrame(
                prompts
                | {"zero_right": np.arange(8) == 0, "icl_right": True, "vector_right": right, "vector_word": ~right}
            ),
            "layers": pd.DataFrame({"rule": ["right", "word"], "layer": [1, 2]}),
            "lens": pd.DataFrame(
                {
                    "layer": np.repeat(np.arange(L), 4),
                    "token": list(tokens) * L,
                    "answer": [True] + [False] * 4 + [True] * 3 + [False] * 4,
                }
            ),
        }

    def table(self, name):
        return self.tables[name]

    def tensors(self, name):
        exact = torch.tensor([[False, True, False], [False, True, True]])
        return {"exact": exact, "first_token": ~exact}


def test_icl_by_number_of_demonstrations():
    table = by_shots([FakeRecord()])
    assert table.demonstrations.tolist() == [0, 2]
    assert table["mean"].tolist() == [0, 0.75]
    prompts = FakeRecord().table("answers")
    expected = clustered_mean(prompts.vector_right, prompts.prefix, prompts.group)
    assert tuple(table.iloc[1][["mean", "low", "high"]]) == expected[:3]
    assert set(table.task) == {"english → french"}


def test_a_ring_stands_at_the_chosen_layer_of_each_rule():
    table = by_layer([FakeRecord()]).set_index(["measure", "layer"])
    assert table.accuracy["exact answer"].tolist() == [0, 1, 0.5]
    assert table.accuracy["beginning"].tolist() == [1, 0, 0.5]
    rings = table.test.dropna()
    assert rings.to_dict() == {("exact answer", 1): 0.75, ("beginning", 2): 0.25}


def test_the_gain_is_that_over_the_query_alone():
    assert gain(FakeRecord()) == 0.75 - 0.125
    row = compared([FakeRecord()]).loc[("{x} → {y}", "english → french")]
    assert row["No demonstrations"] == "0.12"
    assert row["ICL"].startswith("1.00")
    assert row["Layer"] == 1


def test_the_share_of_tokens_that_begin_an_answer():
    table = answer_tokens_by_layer([FakeRecord()])
    assert table.share.tolist() == [0.25, 0.75, 0]
    assert table.chosen.dropna().to_dict() == {1: 0.75}


def test_a_token_is_printed_as_it_reads(gemma):
    ids = {text: gemma.tokenizer(text, add_special_tokens=False).input_ids[-1] for text in (" Paris", "\n", "了")}
    assert printable(gemma, ids[" Paris"]) == "Paris"
    assert printable(gemma, ids["了"]) == "了"
    assert printable(gemma, ids["\n"]) == repr("\n")
    half = gemma.tokenizer.convert_tokens_to_ids("<0xE2>")  # a byte, of which no letter can be made
    assert printable(gemma, half) == "'<0xE2>'"


def test_the_lens_is_read_at_three_layers(gemma, monkeypatch):
    words = [" one", " two", " three", " four"]
    record = FakeRecord([gemma.tokenizer(word, add_special_tokens=False).input_ids[0] for word in words])
    monkeypatch.setattr(type(gemma), "n_layers", property(lambda lm: L))
    table = leaning(gemma, [record], shown=3)
    assert table.loc[("english → french", "1 (chosen)"), "It leans towards"] == "one · two · three"
    assert [layer for _, layer in table.index] == ["1 (chosen)", "2 (two later)", "2 (last)"]
