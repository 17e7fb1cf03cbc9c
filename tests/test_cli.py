import json
import os
import subprocess
import sys
import time

import nbformat
import pytest
import yaml
from notebook_files import write_notebook

from task_vectors import cli
from task_vectors.pages import parameters, scoreboard

PARAMETERS = "n: int = 1  # how many; at least 1\nname: str = 'a'  # what it is called"
CELLS = ("# Work", "import sys\nprint(n, name)\nprint('a noise', file=sys.stderr)", "# End", "assert n < 5, 'too many'")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for module in (cli, parameters):
        monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    write_notebook(tmp_path / "notebooks" / "07_seven.ipynb", PARAMETERS, *CELLS)
    presets = tmp_path / "workflow" / "presets"
    presets.mkdir(parents=True)
    (presets / "smoke.yaml").write_text("07_seven: {n: 2, name: small}\n")
    (presets / "wrong.yaml").write_text("07_seven: {n: many}\n")
    return tmp_path


@pytest.fixture
def run(project, capfd):
    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main(["run", *map(str, arguments)])
        return stop.value.code, *capfd.readouterr()

    return call


def outputs(path):
    cells = json.loads(path.read_text())["cells"]
    return [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["07", "-p", "m=2"], "unknown parameter 'm'"),
        (["07", "-p", "n=two"], "parameter 'n' must be int, at least 1, got 'two'"),
        (["07", "-p", "n=0"], "parameter 'n' must be int, at least 1, got 0"),
        (["07", "-p", "n=" + "9" * 4000], "parameter 'n' takes finite numbers"),
        (["08"], "no notebook '08'"),
        (["07", "--preset", "smoky"], "unknown preset 'smoky'; there are: smoke, wrong"),
        (
            ["07", "--preset", "wrong"],
            "wrong.yaml, 07_seven: parameter 'n' must be int, at least 1, got 'many'",
        ),
        (["07", "--preset", "a" * 5000], "unknown preset 'aaa"),
        (["a" * 5000], "no notebook 'aaa"),
        (["a" * 5000 + ".ipynb"], "no notebook at aaa"),
        (["07", "-p", "a" * 5000], "must be written name=value"),
        (["07", "-p", "a" * 5000 + "=1"], "unknown parameter 'aaa"),
        (["07", "--to", "a" * 250 + ".ipynb"], "cannot be written: File name too long"),
        (["07", "--to", "out.html"], "that ends in .ipynb, got 'out.html'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(run, project, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert len(err) < 400
    assert not (project / "runs").exists()


def test_the_source_is_never_overwritten(run, project):
    source = project / "notebooks" / "07_seven.ipynb"
    before = source.read_bytes()
    code, _, err = run("07", "--to", source)
    assert code == 2
    assert "would overwrite a notebook's source" in err
    assert source.read_bytes() == before
    (project / "link.ipynb").hardlink_to(source)
    for target, message in (
        (write_notebook(project / "notebooks" / "06_six.ipynb", PARAMETERS), "would overwrite a notebook's source"),
        (project / "link.ipynb", "would overwrite a notebook's source"),
        (project / "notebooks" / "new.ipynb", "would stand among the notebooks' sources"),
        (project / "link.ipynb" / "below.ipynb", "cannot be written"),
    ):
        code, out, err = run("07", "--to", target)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    (project / "folder.ipynb").mkdir()
    assert "is a folder" in run("07", "--to", project / "folder.ipynb")[2]
    assert source.read_bytes() == before


LIST = """
import sys
from pathlib import Path
from task_vectors import cli
from task_vectors.pages import parameters
for module in (cli, parameters):
    module.project_root = lambda: Path(sys.argv[1])
cli.main(["run", "08", "--list"])
"""


def test_a_terminal_without_unicode_is_no_reason_to_stop(project):
    write_notebook(project / "notebooks" / "08_eight.ipynb", "arrow: str = '→'  # before an answer, as in x → y")
    for encoding in ("ascii", "cp1252"):
        environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        done = subprocess.run([sys.executable, "-c", LIST, project], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert b"\\u2192" in done.stdout


def test_checking_loads_no_heavy_package():
    heavy = "{'torch', 'transformers', 'papermill', 'nbformat', 'altair', 'pandas', 'numpy'}"
    code = f"import sys, task_vectors.cli; print(sorted({heavy} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_list_shows_what_may_be_set(run):
    code, out, _ = run("07", "--list")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["name", "type", "default", "help"],
        ["n", "int", "1", "how", "many;", "at", "least", "1"],
        ["name", "str", "'a'", "what", "it", "is", "called"],
    ]


def test_a_run_becomes_a_page_named_by_its_values(run, project):
    code, out, err = run("07", "--preset", "smoke", "-p", "n=3")
    assert code == 0, err
    folder = project / "runs" / "07_seven" / cli.run_key("07_seven", {"n": 3, "name": "small"})
    assert out.strip() == str(folder / "07_seven.html")
    assert sorted(path.name for path in folder.iterdir()) == ["07_seven.html", "07_seven.ipynb", "parameters.yaml"]
    assert yaml.safe_load((folder / "parameters.yaml").read_text()) == {"n": 3, "name": "small"}
    assert "3 small" in (folder / "07_seven.html").read_text()
    streams = [(output["name"], output["text"]) for output in outputs(folder / "07_seven.ipynb")]
    assert streams == [("stdout", ["3 small\n"])]
    assert "a noise" in err
    finished = [line.split()[-1] for line in err.splitlines() if line.startswith("07_seven [")]
    assert finished[-2:] == ["Work", "End"]
    assert "[ 4/4]" in err


RUN = """
import sys
from pathlib import Path
from task_vectors import cli
from task_vectors.pages import parameters
for module in (cli, parameters):
    module.project_root = lambda: Path(sys.argv[1])
cli.main(["run", "08", "--to", sys.argv[2], "-p", f"seconds={sys.argv[3]}"])
"""


def test_a_killed_run_leaves_no_kernel_and_the_next_one_no_file(project):
    cell = "import time\nfor i in range(10 * seconds):\n    print(i, file=open('work', 'a'))\n    time.sleep(0.1)"
    write_notebook(project / "notebooks" / "08_eight.ipynb", "seconds: int = 0  # to work", cell)
    target, temporary, work = project / "out" / "08.ipynb", project / "tmp", project / "work"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    start = [sys.executable, "-c", RUN, project, target]
    with subprocess.Popen([*start, "100"], cwd=project, env=environment) as process:
        while not work.exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.kill()
    time.sleep(3)  # the kernel looks for its parent every second
    done = work.stat().st_size
    time.sleep(2)
    assert work.stat().st_size == done
    assert len(list(target.parent.iterdir())) == 1
    subprocess.run([*start, "0"], cwd=project, env=environment, check=True)
    assert list(target.parent.iterdir()) == [target]
    assert list(temporary.iterdir()) == []


def test_the_key_follows_names_and_values():
    keys = {
        cli.run_key("07_seven", {"n": 3, "name": "a"}),
        cli.run_key("07_seven", {"name": "a", "n": 3}),
        cli.run_key("07_seven", {"n": 3, "name": "b"}),
        cli.run_key("08_eight", {"n": 3, "name": "a"}),
    }
    assert len(keys) == 3


def test_a_failed_run_leaves_the_target_and_keeps_the_rest(run, tmp_path):
    target = tmp_path / "out" / "seven.ipynb"
    target.parent.mkdir()
    target.write_text("an earlier result")
    code, _, err = run("07", "--to", target, "-p", "n=7")
    assert code == 1
    assert target.read_text() == "an earlier result"
    failed = target.with_name("seven.failed.ipynb")
    assert err.splitlines()[-1] == (
        f"task-vectors: 07_seven.ipynb, section 'End': AssertionError: too many; the notebook up to there: {failed}"
    )
    assert any(output["output_type"] == "error" for output in outputs(failed))
    assert run("07", "--to", target)[0] == 0
    assert [path.name for path in target.parent.iterdir()] == ["seven.ipynb"]
    assert outputs(target)[0]["text"] == ["1 a\n"]


@pytest.fixture
def found(project, monkeypatch, capsys):
    """A chapter that was executed with one finding, whose estimate is given; what `findings` says to it."""
    monkeypatch.setattr(scoreboard, "project_root", lambda: project)
    (project / "data").mkdir()
    (project / "data/findings.csv").write_text(",".join(scoreboard.COLUMNS) + "\n", encoding="utf-8")

    def call(mean, *options, default=True):
        row = dict.fromkeys(scoreboard.COLUMNS, "") | {"chapter": "07_seven", "key": "effect", "verdict": "holds"}
        row |= {"mean": mean, "low": 0.2, "high": 0.4, "p": 0.01, "default": default}
        data = {"application/papermill.record/text/plain": repr(json.dumps([row]))}
        output = nbformat.v4.new_output("display_data", data, metadata={"scrapbook": {"name": "findings"}})
        path = write_notebook(project / "executed" / "07_seven.ipynb", PARAMETERS)
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[0].outputs = [output]
        nbformat.write(notebook, path)
        with pytest.raises(SystemExit) as stop:
            cli.main(["findings", *options])
        return stop.value.code, capsys.readouterr().out.splitlines()

    return call


def test_findings_that_moved_are_named_until_they_are_accepted(found):
    where = "1 findings of 1 chapters at their default parameters"
    assert found(0.3) == (1, ["07_seven  effect: is new", f"{where}, 1 not as accepted"])
    assert found(0.3, "--accept") == (0, ["07_seven  effect: is new", f"{where}, 1 not as accepted until now"])
    assert found(0.3) == (0, [f"{where}, 0 not as accepted"])
    assert found(0.35) == (1, ["07_seven  effect: mean 0.3 is 0.35", f"{where}, 1 not as accepted"])


def test_findings_at_other_parameters_are_not_compared(found):
    assert found(0.3, default=False) == (0, ["0 findings at default parameters, 0 not as accepted"])


def test_findings_of_a_run_that_was_killed_are_not_counted(found, project):
    found(0.3, "--accept")
    left = project / "executed/.07_seven.partial.ipynb"
    left.write_bytes((project / "executed/07_seven.ipynb").read_bytes())
    assert found(0.3) == (0, ["1 findings of 1 chapters at their default parameters, 0 not as accepted"])


@pytest.mark.parametrize(
    "data",
    [{}, {"a": "1", "b": "2"}, {"a": "x"}, {"a": "'x'"}, {"a": "3"}, {"a": "'[3]'"}, {"a": "'[{}]'"}, {"a": 3}],
    ids=str,
)
def test_findings_that_cannot_be_read_are_told_in_one_line(found, project, capsys, data):
    found(0.3, "--accept")
    path = project / "executed/07_seven.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["outputs"][0]["data"] = data
    path.write_text(json.dumps(notebook))
    with pytest.raises(SystemExit) as stop:
        cli.main(["findings"])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err == f"task-vectors: {path}: the findings that it keeps cannot be read; execute the notebook again\n"


def test_an_executed_notebook_that_is_none_is_told_in_one_line(found, project, capsys):
    found(0.3, "--accept")
    path = project / "executed/07_seven.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "cells": [3]}))
    with pytest.raises(SystemExit) as stop:
        cli.main(["findings"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"task-vectors: {path}: its cell 0 (from 0) is neither code nor Markdown\n"
