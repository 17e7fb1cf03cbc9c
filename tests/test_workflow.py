import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_files import write_notebook

from task_vectors.paths import project_root
from task_vectors.records.dependencies import dependencies

FILES = {
    "src/task_vectors/__init__.py": "",
    "src/task_vectors/paths.py": "def project_root(): ...",
    "src/task_vectors/low.py": "x = 1",
    "src/task_vectors/lists/__init__.py": "from .read import read",
    "src/task_vectors/lists/read.py": (
        "from task_vectors.paths import project_root\n"
        "def read(name): return project_root() / 'data' / 'lists' / f'{name}.csv'"
    ),
    "src/task_vectors/unused.py": "from task_vectors import low",
    "src/task_vectors/trials.py": "TRIAL = Experiment('trial', 1)\nOTHER = Experiment(version=1, name='other')",
    "src/task_vectors/experiments/trial.py": "from task_vectors import deep",
    "src/task_vectors/deep.py": "y = 1",
    "data/lists/a.csv": "x,y",
    "data/lists/README.md": "About",
    "data/published/table.csv": "x,y",
    "benchmarks/results/step.csv": "x,y",
    "data/recorded/trial.manifest": "0 seal",
    "data/recorded/trial/0/a.csv": "x,y",
    "data/recorded/other.manifest": "0 seal",
    "data/recorded/other/0/a.csv": "x,y",
    "data/recorded/verified.csv": "experiment,key",
    "book/index.md": "# A book",
    "_config.yml": "title: A book",
    "_toc.yml": "root: book/index",
}
RECORDS_PAGE = "90_what_was_computed_where"
PACKAGE = "src/task_vectors/__init__.py"
LISTS = ["src/task_vectors/lists/__init__.py", "src/task_vectors/lists/read.py", "src/task_vectors/paths.py"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small project under the real workflow, with a stand-in for the slow jupyter-book."""
    root = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shutil.copytree(project_root() / "workflow", root / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "workflow/presets/smoke.yaml").write_text("01_one: {n: 2, names: [a, b c]}")
    (root / "workflow/presets/default.yaml").write_text("01_one: {n: 3, names: [a, b c]}")
    parameters = "n: int = 1  # how many\nnames: list = ['z']  # which"
    write_notebook(root / "notebooks/01_one.ipynb", parameters, "%pwd", "if n > 5:\n    import task_vectors.lists")
    cell = "if n > 5:\n    from task_vectors import low\n    from task_vectors.trials import TRIAL"
    write_notebook(root / "notebooks/02_two.ipynb", parameters, cell, "n")
    write_notebook(root / f"notebooks/{RECORDS_PAGE}.ipynb", parameters, "n")
    builder = root / "bin" / "jupyter-book"
    builder.parent.mkdir()
    builder.write_text("#!/bin/sh\nmkdir -p _build/html && echo built > _build/html/index.html\n")
    builder.chmod(0o755)
    return root


@pytest.fixture(scope="module")
def snakemake(project):
    tools = Path(sys.executable).parent

    def call(*arguments, preset="smoke", code=0):
        command = [sys.executable, "workflow/build.py", *arguments, "--config", f"preset={preset}"]
        path = f"{project / 'bin'}:{tools}:/usr/bin:/bin"
        environment = {"PATH": path, "HOME": str(project), "PYTHONPATH": str(project_root() / "src")}
        result = subprocess.run(command, cwd=project, env=environment, text=True, capture_output=True)
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr

    return call


@pytest.fixture(scope="module")
def built(snakemake):
    return snakemake()


def planned(output):
    """The files that a dry run would make."""
    return set(re.findall(r"^ +output: (.+)$", output, flags=re.MULTILINE))


def test_the_closure_follows_imports_and_data(project):
    assert dependencies("notebooks/01_one.ipynb", root=project) == ["data/lists/a.csv", PACKAGE, *LISTS]
    low, trials = "src/task_vectors/low.py", "src/task_vectors/trials.py"
    found = ["data/recorded/trial.manifest", PACKAGE, low, trials]
    assert dependencies("notebooks/02_two.ipynb", root=project) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import importlib\nimportlib.import_module('task_vectors.low')", "src/task_vectors/low.py"),
        ("open('data/published/table.csv')", "data/published/table.csv"),
        ("from task_vectors.trials import OTHER", "data/recorded/other.manifest"),
        ("from task_vectors import trials\ntrials.TRIAL", "data/recorded/trial.manifest"),
        ("folder = 'data/recorded'", "data/recorded/other.manifest"),
        ("folder = 'data/recorded'", "data/recorded/verified.csv"),
        ("open(f'data/lists/{1}.csv')", "data/lists/a.csv"),
        ("folder = 'benchmarks/results'", "benchmarks/results/step.csv"),
        ("root() / 'benchmarks' / 'results' / name", "benchmarks/results/step.csv"),
        ("data = root() / 'data'\nother = data / 'lists'", "data/published/table.csv"),
    ],
)
def test_the_closure_reads_names_in_texts(project, code, found):
    (project / "probe.py").write_text(code)
    assert found in dependencies("probe.py", root=project)


def test_only_records_of_the_experiments_in_use_count(project):
    (project / "probe.py").write_text("from task_vectors.trials import TRIAL")
    found = dependencies("probe.py", root=project)
    assert [path for path in found if path.startswith("data/")] == ["data/recorded/trial.manifest"]


def test_a_manifest_stands_for_the_files_of_its_records(project):
    (project / "probe.py").write_text("folder = 'data/recorded'\nhome = root() / 'data'")
    found = [path for path in dependencies("probe.py", root=project) if path.startswith("data/recorded/")]
    assert found == [f"data/recorded/{name}" for name in ("other.manifest", "trial.manifest", "verified.csv")]


def test_a_chooser_counts_without_what_it_chooses_from(project):
    (project / "probe.py").write_text("from task_vectors import lists")
    read = "src/task_vectors/lists/read.py"
    found = dependencies("probe.py", root=project, choosers=[read])
    assert found == [PACKAGE, "src/task_vectors/lists/__init__.py", read]


def test_the_closure_leaves_out_what_is_not_there(project):
    code = "'task_vectors.nowhere'\n'task_vectors, as prose'\nopen('data/nowhere/a.csv')\n1 / 2"
    (project / "probe.py").write_text(code)
    assert dependencies("probe.py", root=project) == [PACKAGE]


def test_a_chapter_rests_on_the_records_of_its_own_experiments():
    records = {
        path.stem: {name for name in dependencies(path, root=project_root()) if name.startswith("data/recorded/")}
        for path in (project_root() / "notebooks").glob("*.ipynb")
    }
    every = records.pop(RECORDS_PAGE)
    assert "data/recorded/verified.csv" in every or not (project_root() / "data/recorded/verified.csv").exists()
    assert records["04_prediction"] == {"data/recorded/prediction.manifest"}
    assert "data/recorded/band_tuning.manifest" in records["07_early_layer_finetuning"]
    for found in records.values():
        assert not [name for name in found if not name.endswith(".manifest")]
        assert len(found) < len(every) / 2


def test_the_workflow_makes_the_book_and_shows_progress(built, project):
    assert (project / "_build/html/index.html").read_text() == "built\n"
    assert re.search(r"^02_two \[ 3/3\] +[\d.]+ s", built, flags=re.MULTILINE)
    assert "01_one [ 4/4]" in (project / "executed/.logs/01_one.log").read_text()
    assert "n = 2\\n" in (project / "executed/01_one.ipynb").read_text()
    assert '\\"b c\\"' in (project / "executed/01_one.ipynb").read_text()


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    ("changed", "preset", "remade"),
    [
        (["src/task_vectors/unused.py", "data/published/table.csv", "data/lists/README.md"], "smoke", set()),
        (["src/task_vectors/lists/read.py"], "smoke", {"executed/01_one.ipynb", "_build/html/index.html"}),
        (["data/recorded/other.manifest", "data/recorded/trial/0/a.csv"], "smoke", set()),
        (["data/recorded/trial.manifest"], "smoke", {"executed/02_two.ipynb", "_build/html/index.html"}),
        (["src/task_vectors/deep.py"], "smoke", {f"executed/{RECORDS_PAGE}.ipynb", "_build/html/index.html"}),
        (["book/index.md"], "smoke", {"_build/html/index.html"}),
        ([], "default", {"executed/01_one.ipynb", "_build/html/index.html"}),
    ],
)
def test_only_what_changed_is_made_again(project, snakemake, changed, preset, remade):
    try:
        for name in changed:
            (project / name).write_text(FILES[name] + "\n# changed")
        assert planned(snakemake("--dry-run", "--quiet", "host", preset=preset)) == remade
    finally:
        for name in changed:
            (project / name).write_text(FILES[name])


def test_an_unknown_preset_is_named(snakemake):
    known = ", ".join(sorted(path.stem for path in (project_root() / "workflow" / "presets").glob("*.yaml")))
    assert f"unknown preset 'smoky'; there are: {known}" in snakemake(preset="smoky", code=1)


def test_a_preset_that_is_wrong_is_told_before_anything_runs(project, snakemake):
    wrong = project / "workflow/presets/wrong.yaml"
    wrong.write_text("01_on: {n: 2}")
    try:
        output = snakemake(preset="wrong", code=1)
    finally:
        wrong.unlink()
    assert "workflow/presets/wrong.yaml: no notebook '01_on'; did you mean '01_one'?" in output
    assert "Traceback" not in output
