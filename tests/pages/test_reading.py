import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notebook_files import write_notebook

from task_vectors.pages.parameters import parse_assignments, read_parameters
from task_vectors.pages.reading import ParameterError, read_cells, read_yaml


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "!!python/name:os.system ''",
        "!!python/object/apply:os.system [echo]",
        "!!bool x",
        "!!timestamp x",
        "!!int ''",
        "2020-13-45",
        "<<: 3",
        "? [a]\n: 1",
        "a: 1\na: 2",
        "a: {b: 1, b: 2}",
        "a: 1\nb: 2\na: 3",
        "\0",
        "[" * 20_000,
        "9" * 5000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_yaml_that_cannot_be_read_is_one_kind_of_error_in_one_line(text):
    with pytest.raises(ValueError, match=".") as caught:
        read_yaml(text)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) <= 200


def test_yaml_is_read_into_plain_values():
    assert read_yaml("a: [1, x, 0.5, true]\nb: {}") == {"a": [1, "x", 0.5, True], "b": {}}
    assert read_yaml("a: &base {x: 1, y: 2}\nb: {<<: *base, y: 3}")["b"] == {"x": 1, "y": 3}


def test_a_list_with_a_tag_that_does_not_fit_is_refused(tmp_path):
    known = read_parameters(write_notebook(tmp_path / "a.ipynb", "tasks: list = ['a']  # which"))
    with pytest.raises(ParameterError, match="'tasks' must be list of str, got '!!bool x'"):
        parse_assignments(["tasks=!!bool x"], known)


CELL = {"cell_type": "code", "source": "n: int = 1  # many", "metadata": {"tags": ["parameters"]}, "outputs": []}


def changed(**parts):
    return {"nbformat": 4, "cells": [CELL | parts]}


@pytest.mark.parametrize(
    "content",
    [
        [],
        3,
        {},
        {"nbformat": 3, "worksheets": []},
        {"nbformat": 4, "cells": {"a": 1}},
        {"nbformat": 4, "cells": [3]},
        {"nbformat": 4, "cells": [None]},
        {"nbformat": 4, "cells": [{}]},
        changed(cell_type="chart"),
        changed(source=3),
        changed(source=["a", 3]),
        changed(metadata=[]),
        changed(metadata=None),
        changed(metadata={"tags": 3}),
        changed(metadata={"tags": None}),
        changed(metadata={"tags": [["parameters"]]}),
        changed(outputs={"a": 1}),
        changed(outputs=["a"]),
        changed(outputs=[{"metadata": 3}]),
        changed(outputs=[{"data": []}]),
    ],
    ids=str,
)
def test_a_notebook_that_is_none_is_refused_in_one_line_that_names_the_file(content, tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(content), encoding="utf-8")
    for read in (read_cells, read_parameters):
        with pytest.raises(ParameterError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"nbformat": 4}'], ids=lambda b: b[:5])
def test_a_file_that_is_no_json_is_refused(content, tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match="is not a notebook of format 4"):
        read_cells(path)
    with pytest.raises(ParameterError, match="is not a notebook of format 4"):
        read_cells(tmp_path)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.text(max_size=5),
    lambda part: st.lists(part, max_size=2) | st.dictionaries(st.sampled_from([*CELL, "tags", "data"]), part),
    max_leaves=6,
)


@given(st.sampled_from(["nbformat", "cells", *CELL]), PLAIN)
def test_whatever_a_notebook_holds_it_is_read_or_refused(tmp_path_factory, name, value):
    content = changed(**{name: value}) if name in CELL else changed() | {name: value}
    path = tmp_path_factory.mktemp("a") / "a.ipynb"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        found = read_parameters(path)
    except ParameterError:
        return
    assert list(found) in (["n"], [])
