"""Tables of records: what all have in common stands once, what differs in each line."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from task_vectors.pages import provenance
from task_vectors.pages.provenance import counted, record_lists, record_table
from task_vectors.records.environment import PACKAGES
from task_vectors.records.store import Record

FACTS = {
    "experiment": "emergence",
    "seconds": 60.0,
    "date": "2026-01-03 10:00 UTC",
    "commit": "abc1234 with uncommitted changes",
    "processor": "an abacus",
    "python": "3.11",
    **dict.fromkeys(PACKAGES, "1.0"),
}


@pytest.fixture(autouse=True)
def code(monkeypatch):
    monkeypatch.setattr(provenance, "code_of", lambda record: "computed with this code")


@pytest.fixture
def records(tmp_path):
    """Three of the same task, with other layers, rates and seeds."""
    changes = [{"layers": [0, 1, 2, 3], "rate": 0.1}, {"layers": [4, 9], "rate": 0.1}, {"layers": [4, 9], "rate": 0.2}]
    found = []
    for number, change in enumerate(changes):
        (folder := tmp_path / f"key{number}").mkdir()
        parameters = {
            "tuning": change | {"steps": 5},
            "text": "<b>" + "x" * 100,
            "seeds": [number, 5],
            "tests": [{"n": 2}] * 30,
        }
        found.append(Record(folder, FACTS | {"parameters": parameters}))
    return found


def test_a_line_says_what_differs(records):
    table = record_table(records)
    assert table["Parameters"].tolist() == [
        "tuning.layers = 0 to 3, tuning.rate = 0.1, seeds = [0, 5]",
        "tuning.layers = [4, 9], tuning.rate = 0.1, seeds = [1, 5]",
        "tuning.layers = [4, 9], tuning.rate = 0.2, seeds = [2, 5]",
    ]
    assert table["Record"].tolist() == ["key0", "key1", "key2"]
    assert set(table["Commit"]) == {"abc1234 +"}
    assert record_table(records[:1])["Parameters"].item() == "as above"


def test_a_parameter_that_some_do_not_have_differs(records):
    more = records[0].provenance["parameters"] | {"pictures": True}
    records[0] = replace(records[0], provenance=records[0].provenance | {"parameters": more})
    told = record_table(records)["Parameters"]
    assert told.str.contains("pictures = true").tolist() == [True, False, False]


def test_what_is_shared_stands_once_and_a_list_unfolds(records):
    page = record_lists(records)
    assert page.count("<details>") == page.count("</details>") == 1
    assert "<b>emergence</b>: 3 records, 3 minutes" in page
    assert page.count("tuning.steps = 5") == 1
    assert "an abacus, with python 3.11" in page
    assert "Train one seed" in page  # what its run does
    assert "text = &lt;b&gt;" in page
    assert len(re.search(r"text = &lt;b&gt;(x+)…", page).group(1)) < 100
    assert page.count("<tr") == 4


def test_experiments_have_lists_of_their_own(records):
    other = replace(
        records[0], folder=Path(records[0].folder), provenance=records[0].provenance | {"experiment": "bijections"}
    )
    page = record_lists([*records, other])
    assert page.count("<details>") == 2
    assert "<b>bijections</b>: 1 record," in page


def test_words_are_counted_where_they_differ():
    assert counted(["same", "same"]) == "same"
    assert counted(["b", "a", "b"]) == "1 a; 2 b"
