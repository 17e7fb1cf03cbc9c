import json

import pytest
from notebook_files import write_notebook

from task_vectors.pages import parameters
from task_vectors.pages.parameters import (
    ParameterError,
    check_values,
    find_notebook,
    is_default,
    parse_assignments,
    read_parameters,
)

LINES = """\
n_demos: int = 10  # demonstrations in a prompt
rate: float = 1  # learning rate # of the first step
model: str = "a # b"  # which model

recompute: bool = False  # ignore records
seeds: list = [0, 1]  # one run for each; each at least 0"""


@pytest.fixture
def notebook(tmp_path):
    return write_notebook(tmp_path / "notebooks" / "07_seven.ipynb", LINES)


@pytest.fixture
def known(notebook):
    return read_parameters(notebook)


@pytest.fixture
def project(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(parameters, "project_root", lambda: tmp_path)
    return tmp_path


def test_reads_names_types_defaults_and_help(known):
    assert [(item.name, item.type, item.default) for item in known.values()] == [
        ("n_demos", "int", 10),
        ("rate", "float", 1.0),
        ("model", "str", "a # b"),
        ("recompute", "bool", False),
        ("seeds", "list", [0, 1]),
    ]
    assert known["rate"].help == "learning rate # of the first step"
    assert known["model"].help == "which model"


@pytest.mark.parametrize(
    "line",
    [
        "n = 3  # no type",
        "n: int = 3",
        "n: int = 3 + 4  # computed",
        "n: int  # no value",
        "n: int = 'three'  # not its type",
        "n: int = True  # a bool is no int",
        "n: int | None = 3  # two types",
        "n: int = 3; m: int = 4  # two on one line",
        "# only a comment",
        "import os  # not an assignment",
        "seeds: list = [0,  # goes on",
    ],
)
def test_another_form_is_an_error_that_shows_the_line(tmp_path, line):
    path = write_notebook(tmp_path / "a.ipynb", "fine: int = 1  # good\n" + line)
    with pytest.raises(ParameterError, match="line 2 of the cell tagged `parameters`") as error:
        read_parameters(path)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_default_outside_its_own_range_is_an_error(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "n: int = 0  # how many; at least 1")
    with pytest.raises(ParameterError, match="a.ipynb, its own default: parameter 'n' must be int, at least 1, got 0"):
        read_parameters(path)


def test_a_name_given_twice_is_an_error(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "n: int = 1  # one\nn: int = 2  # two")
    with pytest.raises(ParameterError, match="line 2 .*gives 'n' a second time"):
        read_parameters(path)


def test_the_tagged_cell_must_be_the_only_one(notebook):
    content = json.loads(notebook.read_text())
    content["cells"] *= 2
    notebook.write_text(json.dumps(content))
    with pytest.raises(ParameterError, match="has 2 cells tagged"):
        read_parameters(notebook)


def test_a_file_that_is_no_notebook_is_an_error(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text("n: int = 1")
    with pytest.raises(ParameterError, match="is not a notebook"):
        read_parameters(path)


def test_texts_become_values_of_the_declared_type(known):
    given = ["n_demos=20", "rate=1e-3", "model=007", "recompute=TRUE", "seeds=[3, 4]"]
    values = parse_assignments(given, known)
    assert values == {"n_demos": 20, "rate": 0.001, "model": "007", "recompute": True, "seeds": [3, 4]}


def test_lists_of_words_need_no_quotes(tmp_path):
    known = read_parameters(write_notebook(tmp_path / "a.ipynb", 'tasks: list = ["copy"]  # which'))
    assert parse_assignments(["tasks=[antonym, copy]"], known) == {"tasks": ["antonym", "copy"]}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("n_demo=20", r"unknown parameter 'n_demo'; did you mean 'n_demos' \(int\)\?; all: n_demos \(int\), "),
        ("zzz=1", r"unknown parameter 'zzz'; all: "),
        ("n_demos=ten", "parameter 'n_demos' must be int, got 'ten'"),
        ("n_demos=2.0", "parameter 'n_demos' must be int, got '2.0'"),
        ("rate=fast", "parameter 'rate' must be float, got 'fast'"),
        ("recompute=1", "parameter 'recompute' must be bool, got '1'"),
        ("seeds=3", "parameter 'seeds' must be list of int, each at least 0, got 3"),
        ("seeds=[1, two]", "parameter 'seeds' must be list of int, each at least 0, got the element 'two'"),
        ("seeds=[1, -1]", r"parameter 'seeds' must be list of int, each at least 0, got \[1, -1\]"),
        ("seeds=[]", r"parameter 'seeds' must be list of int, each at least 0, got \[\]"),
        ("seeds=[" + "9" * 4000 + "]", "parameter 'seeds' takes finite numbers"),
        ("n_demos=" + "9" * 4000, "parameter 'n_demos' takes finite numbers"),
        ("rate=nan", "parameter 'rate' takes finite numbers"),
        ("rate=inf", "parameter 'rate' takes finite numbers"),
        ("n_demos=" + "9" * 10_000, "parameter 'n_demos' must be int, got '99"),
        ("n_demos", "'n_demos' must be written name=value; names: n_demos"),
    ],
)
def test_bad_assignments_name_what_would_be_right(known, assignment, message):
    with pytest.raises(ParameterError, match=message) as error:
        parse_assignments([assignment], known)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["[2020-01-01]", "[{1, 2}]", "[b'x']", "[1j]", "[...]", "&a [*a]", "[{a: 1}]", "[.nan]"]
)
def test_a_list_holds_what_a_record_can_be_named_by(text, tmp_path):
    known = read_parameters(write_notebook(tmp_path / "a.ipynb", "tasks: list = []  # which"))
    with pytest.raises(ParameterError, match="parameter 'tasks' takes finite numbers, texts and booleans") as error:
        parse_assignments([f"tasks={text}"], known)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_values_keep_types_apart(known):
    assert check_values({"rate": 2}, known) == {"rate": 2.0}
    assert isinstance(check_values({"rate": 2}, known)["rate"], float)
    for name, value in [("n_demos", True), ("n_demos", 2.0), ("rate", False), ("recompute", 0), ("model", 7)]:
        with pytest.raises(ParameterError, match=f"{name!r} must be"):
            check_values({name: value}, known)


def test_a_notebook_is_found_by_name_number_and_path(project, notebook):
    assert find_notebook("07_seven") == find_notebook("07") == find_notebook(str(notebook)) == notebook
    with pytest.raises(ParameterError, match="no notebook '07_sevn'; did you mean '07_seven'"):
        find_notebook("07_sevn")
    with pytest.raises(ParameterError, match="no notebook at 08.ipynb"):
        find_notebook("08.ipynb")
    write_notebook(project / "notebooks" / "07_other.ipynb", LINES)
    with pytest.raises(ParameterError, match="there are: 07_other, 07_seven"):
        find_notebook("07")


def test_default_means_every_value_is_the_default(project):
    values = {"n_demos": 10, "rate": 1.0, "model": "a # b", "recompute": False, "seeds": [0, 1], "something": object()}
    assert is_default("07_seven", values)
    assert not is_default("07_seven", values | {"seeds": [0]})
    with pytest.raises(ParameterError, match=r"missing: \['rate'\]"):
        is_default("07_seven", {name: value for name, value in values.items() if name != "rate"})
