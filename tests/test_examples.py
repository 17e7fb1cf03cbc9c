"""What README and book show as code runs as it stands."""

import re

import pytest

import task_vectors as tv
from task_vectors.paths import project_root

PAGES = ("README.md", "book/api.md")


def examples(page):
    text = (project_root() / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_the_example_runs(page, tiny_llama, monkeypatch):
    monkeypatch.setattr(tv, "load_model", lambda name: tiny_llama)
    [example] = examples(page)
    assert len(example.splitlines()) <= 12
    names = {}
    exec(example, names)
    assert names["vectors"].shape == (16, 3, 32)
    assert names["accuracy"].shape == (3,)


@pytest.mark.slow
def test_the_example_finds_a_task_vector(gemma, monkeypatch, capsys):
    monkeypatch.setattr(tv, "load_model", lambda name: gemma)
    [example] = examples("README.md")
    exec(example, {})
    found = re.fullmatch(
        r"best after layer (\d+): (\d+)% of queries, with no example in the prompt", capsys.readouterr().out.strip()
    )
    assert 5 < int(found[1]) < 15
    assert int(found[2]) > 60


def test_the_examples_on_tasks_run(monkeypatch, tmp_path):
    """But for the models of other people and the reader's own treebank, which are not here."""
    code = "".join(examples("book/models_and_data.md"))
    lines = [line for line in code.splitlines() if "load_model" not in line and "my-treebank" not in line]
    names = {}
    exec("\n".join(lines), names)
    assert names["both"].category == "bijection"
    assert names["family"].tasks[-1] == "Null"
