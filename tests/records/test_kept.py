import os
import signal
import subprocess
import sys

import pytest
from trial import TRIAL

from task_vectors.records import environment, kept
from task_vectors.records.kept import keep_records, missing, write_manifest
from task_vectors.records.store import RecordError, all_records, recorded


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """All is computed from a clean commit."""
    monkeypatch.setattr(environment, "_commit", lambda: "abc1234")


@pytest.fixture
def project(monkeypatch, tmp_path):
    """Records in their usual places."""
    monkeypatch.delenv("TASK_VECTORS_RECORDS")
    return tmp_path


def test_kept_records_move_to_data(project):
    computed = recorded(TRIAL, size=3)
    assert computed.folder.is_relative_to(project / "runs" / "recorded")
    assert keep_records() == [project / "data" / "recorded" / "trial" / computed.key]
    assert recorded(TRIAL, size=3).folder.is_relative_to(project / "data" / "recorded")
    assert recorded(TRIAL, size=3, recompute=True).folder.is_relative_to(project / "runs" / "recorded")
    keep_records()
    assert len(list(all_records())) == 1


def test_records_of_a_named_folder_can_be_kept(project, monkeypatch):
    monkeypatch.setenv("TASK_VECTORS_RECORDS", str(project / "fresh"))
    key = recorded(TRIAL, size=3).key
    assert keep_records() == [project / "data" / "recorded" / "trial" / key]
    assert list(all_records()) == []


def test_a_manifest_lists_what_was_kept(project):
    records = {record.key: record.seal for record in (recorded(TRIAL, size=size) for size in (3, 4))}
    keep_records()
    lines = (project / "data" / "recorded" / "trial.manifest").read_text().splitlines()
    assert dict(line.split() for line in lines) == records
    assert lines == sorted(lines)


def test_a_manifest_tells_what_is_missing(project):
    key = recorded(TRIAL, size=3).key
    recorded(TRIAL, size=4)
    [_, folder] = sorted(keep_records(), key=lambda folder: folder.name != key)
    home = project / "data" / "recorded"
    assert missing(home) == []
    folder.rename(project / "elsewhere")
    write_manifest(home / "trial")
    assert missing(home) == [f"trial/{folder.name}"]


def test_what_no_commit_has_the_code_of_is_kept_only_when_asked(project, monkeypatch):
    recorded(TRIAL, size=3)
    monkeypatch.setattr(environment, "_commit", lambda: "abc1234 with uncommitted changes")
    dirty = recorded(TRIAL, size=4)
    with pytest.raises(RecordError, match=f"trial/{dirty.key}: computed with uncommitted changes"):
        keep_records()
    assert not (project / "data").exists()
    assert len(keep_records(allow_dirty=True)) == 2


def test_only_changes_to_what_a_commit_holds_count(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(environment, "project_root", lambda: tmp_path)

    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    for name in ("code.py", "data/recorded/a.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    git("init")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    (tmp_path / "untracked.txt").touch()
    (tmp_path / "data/recorded/a.csv").write_text("x")
    clean = environment.environment()["commit"]
    assert clean.isalnum()
    (tmp_path / "code.py").write_text("x = 1")
    assert environment.environment()["commit"] == clean + environment.DIRTY


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from task_vectors.records import kept, store

store.project_root = lambda: Path(sys.argv[1])
die = lambda *arguments, **more: os.kill(os.getpid(), signal.SIGKILL)
setattr(*{"copy": (shutil, "copytree"), "rename": (kept, "put"), "delete": (shutil, "rmtree")}[sys.argv[2]], die)
kept.keep_records(allow_dirty=True)
"""


@pytest.mark.parametrize("step", ["copy", "rename", "delete"])
def test_a_kill_while_records_are_kept_loses_none(project, step):
    recorded(TRIAL, size=3)
    keep_records()
    recorded(TRIAL, size=3, recompute=True)
    command = [sys.executable, "-c", KILLED, str(project), step]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    home = project / "data" / "recorded"
    assert len(list(all_records(home))) == len(list(all_records(project / "runs" / "recorded"))) == 1
    keep_records()
    assert len(list(all_records(home))) == 1
    assert list(all_records(project / "runs" / "recorded")) == []


def test_two_that_write_a_manifest_at_once_lose_no_line(project, monkeypatch):
    for size in (3, 4):
        recorded(TRIAL, size=size)
    keep_records()
    home, replace = project / "data" / "recorded", kept.replace_text
    lines = (home / "trial.manifest").read_text()

    def too_late(path, text):
        """Another one, that saw one record only, writes after us."""
        monkeypatch.setattr(kept, "replace_text", replace)
        replace(path, text.splitlines(keepends=True)[0])

    (home / "trial.manifest").unlink()
    monkeypatch.setattr(kept, "replace_text", too_late)
    write_manifest(home / "trial")
    assert (home / "trial.manifest").read_text() == lines
