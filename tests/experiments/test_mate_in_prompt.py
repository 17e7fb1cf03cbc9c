"""Prompts that hold the mate of their query are the recorded ones of the bijection with one demonstration exchanged."""

import pytest

from task_vectors.experiments.bijections import in_form
from task_vectors.experiments.mate_in_prompt import EVERY, MATE_IN_PROMPT, ROOM, _prompts, _sample, verify
from task_vectors.lm.interventions import continue_greedily
from task_vectors.lm.models import load_model
from task_vectors.prompts.few_shot import few_shot_prompts
from task_vectors.records.store import Record, recorded

SIZES = {"n_demos": 4, "n_prompts": 12, "seed": 1, "template": "Example:{x} → {y}"}


@pytest.fixture
def record(tiny_facts):
    return recorded(MATE_IN_PROMPT, **tiny_facts, task="present_to_gerund", **SIZES)


def test_one_line_of_a_prompt_is_exchanged_for_the_mate():
    prompts = few_shot_prompts(in_form("present_to_gerund", "X ↔ Y"), 4, 12, 1, queries_per_prefix=4)
    rows = _prompts(_sample("present_to_gerund", **SIZES))
    assert rows.prompt.tolist() == list(range(0, 12, EVERY))
    for row in rows.itertuples():
        lines, before = row.text.split("\n"), prompts.texts[row.prompt].split("\n")
        assert lines[0] == f"Example:{row.answer} → {row.query}"
        assert lines[1:] == before[1:]
        assert lines[0] not in before


def test_the_answers_are_those_of_these_prompts(record):
    lm, answers = load_model(record.parameters["model"]), record.table("answers")
    rows = _prompts(_sample("present_to_gerund", **SIZES))
    # One token a byte: the longest answer, the space before it and the end of its line.
    room = 2 + max(map(len, _sample("present_to_gerund", **SIZES).answers))
    assert room > ROOM
    assert answers.icl.tolist() == [continue_greedily(lm, [text], max_tokens=room).texts[0] for text in rows.text]
    assert answers.icl_right.tolist() == [row.icl == row.answer for row in answers.itertuples()]


def test_what_is_computed_again_agrees(record):
    assert [(item.what, item.recorded) for item in verify(record) if item.agrees] == [
        ("texts that are the same", 4),
        ("share of right answers", record.table("answers").icl_right[:4].mean()),
    ]


def test_an_altered_text_is_found_out(record, monkeypatch):
    altered = record.table("answers")
    altered.loc[1, "icl"] = "made up"
    monkeypatch.setattr(Record, "table", lambda self, name: altered)
    [wrong] = [item for item in verify(record) if not item.agrees]
    assert (wrong.what, wrong.recorded, wrong.computed) == ("texts that are the same", 4, 3)
