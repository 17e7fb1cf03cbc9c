"""`import task_vectors as tv` costs nothing, and gives every public name; what a notebook uses of them is known."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module

import pytest

import task_vectors as tv
from task_vectors.paths import project_root
from task_vectors.records.dependencies import dependencies

STUB = project_root() / "src" / "task_vectors" / "__init__.pyi"
HOMES = {alias.name: line.module for line in ast.parse(STUB.read_text()).body for alias in line.names}


def test_the_import_is_light():
    code = """
import sys
before = set(sys.modules)
import task_vectors as tv
dir(tv), tv.Task, tv.list_tasks()
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
sys.exit(repr(loaded) if loaded & {"torch", "transformers", "pandas", "altair"} else 0)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("name", HOMES)
def test_a_public_name_is_that_of_its_module(name):
    home = HOMES[name]
    if home is None:
        assert getattr(tv, name) is import_module(f"task_vectors.{name}")
    else:
        assert getattr(tv, name) is getattr(import_module(f"task_vectors.{home}"), name)
    assert name in dir(tv)


def test_operations_are_there_without_an_import():
    for name in ("knn_vote", "linear_attention"):
        assert callable(getattr(getattr(tv.kernels, name), name))
    assert callable(tv.kernels.saliency.head_saliency)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="nothing"):
        tv.nothing  # noqa: B018


def rests_on(tmp_path, code):
    (tmp_path / "probe.py").write_text(code)
    return dependencies(tmp_path / "probe.py", root=project_root())


@pytest.mark.parametrize(
    "code",
    [
        "import task_vectors as tv\ntv.capture(tv.load_model(), [])",
        "import task_vectors\ntask_vectors.capture",
        "from task_vectors import capture as read",
    ],
)
def test_what_is_used_through_the_package_is_rested_on(tmp_path, code):
    found = rests_on(tmp_path, code)
    assert found == rests_on(tmp_path, "import task_vectors.lm.interventions, task_vectors.lm.models")
    assert "src/task_vectors/lm/interventions.py" in found
    assert "src/task_vectors/lm/saliency.py" not in found


def test_an_operation_that_is_used_through_the_package_is_rested_on(tmp_path):
    found = rests_on(tmp_path, "import task_vectors as tv\ntv.kernels.saliency.head_saliency(q, k, v, d)")
    assert found == rests_on(tmp_path, "import task_vectors.kernels.saliency")
    assert not any("knn_vote" in path for path in found)


def test_nothing_used_is_nothing_rested_on(tmp_path):
    assert rests_on(tmp_path, "import task_vectors as tv\nother.capture") == ["src/task_vectors/__init__.py"]


FUNCTIONS = [name for name in HOMES if inspect.isfunction(getattr(tv, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_functions_documentation_says_what_each_argument_is(name):
    function = getattr(tv, name)
    text = inspect.getdoc(function)
    known = {"lm", "parameters"}  # the model, and what an experiment takes
    for argument in inspect.signature(function).parameters.keys() - known:
        assert re.search(rf"\b{argument}\b", text), argument


def test_the_api_page_has_every_public_name():
    page = (project_root() / "book" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: task_vectors\.(\S+?)(?:\(\))?$", page, re.MULTILINE)
    own = {f"{home}.{name}" for name, home in HOMES.items() if home}
    assert set(listed) >= own
    assert [name for name in set(listed) - own if not name.startswith("kernels.")] == []
