"""What killed processes left is removed by the next ones, and never what a living one works in."""

import subprocess
import sys
from pathlib import Path

import pytest

from task_vectors.records import scratch
from task_vectors.records.scratch import alone, remove, scratch_folder, sweep

HOLDER = """
import sys, time
from pathlib import Path
from task_vectors.records.scratch import alone, scratch_folder
home = Path(sys.argv[1])
with scratch_folder(home) as folder, alone(home / "work"):
    (folder / "half").write_text("written")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """A living process with a folder of its own, and that folder."""
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], text=True, **pipes) as process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_folder_is_hidden_and_gone_afterwards(tmp_path):
    home = tmp_path / "below" / "home"
    with scratch_folder(home) as one, scratch_folder(home) as other:
        assert one != other
        assert one.parent == other.parent == home
        assert one.name.startswith(".")
        (one / "file").touch()
    assert list(home.iterdir()) == []
    with pytest.raises(OSError, match="full"), scratch_folder(home):
        raise OSError("full")
    assert list(home.iterdir()) == []


def test_only_what_dead_processes_left_is_removed(holder, tmp_path):
    process, folder = holder
    with scratch_folder(tmp_path):
        sweep(tmp_path)
        assert (folder / "half").exists()
    assert (tmp_path / ".work.lock").exists()
    process.kill()
    process.wait()
    with scratch_folder(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]


def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    make, made = scratch.tempfile.mkdtemp, []

    def swept_at_once(**where):
        made.append(make(**where))
        if len(made) == 1:
            sweep(tmp_path)
        return made[-1]

    monkeypatch.setattr(scratch.tempfile, "mkdtemp", swept_at_once)
    with scratch_folder(tmp_path) as folder:
        assert folder.is_dir()
        sweep(tmp_path)
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_removed_as_a_whole(tmp_path, monkeypatch):
    (tmp_path / "work" / "below").mkdir(parents=True)
    with monkeypatch.context() as killed:
        killed.setattr(scratch.shutil, "rmtree", lambda *arguments, **more: None)
        remove(tmp_path / "work")
    assert not (tmp_path / "work").exists()
    remove(tmp_path / "work")
    assert list(tmp_path.iterdir()) == []


def test_one_waits_for_the_other(holder, tmp_path, monkeypatch):
    process, _ = holder

    def told(text, **where):
        assert text == f"another process works in {tmp_path / 'work'}: waiting for it"
        print(file=process.stdin, flush=True)  # it may end now

    monkeypatch.setattr(scratch, "print", told, raising=False)
    with alone(tmp_path / "other") as waited:
        assert not waited
    with alone(tmp_path / "work") as waited:
        assert waited
    process.wait()
    assert list(tmp_path.iterdir()) == []
