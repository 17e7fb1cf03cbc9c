"""Trainings that are killed at a random moment, or stopped while a file is put in place."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from task_vectors import checkpoints


def start(code: str, folder: Path) -> subprocess.Popen:
    """A process of its own that runs code, which finds the folder in sys.argv[1] and imports what the tests do."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], env=environment)


def kill_at_a_random_moment(code: str, folder: Path) -> None:
    """Let a process train from where the folder is until it has written two checkpoints, and kill it.

    Two, since the first may be that of step 0.
    """
    file, seen = folder / checkpoints.CHECKPOINT, {0}
    if file.exists():
        seen = {file.stat().st_mtime_ns}
    process = start(code, folder)
    try:
        give_up = time.monotonic() + 120
        while len(seen) < 3:  # what was there, or was not, and two more
            assert process.poll() is None
            assert time.monotonic() < give_up
            with suppress(FileNotFoundError):  # the next one is being put in place
                seen.add(file.stat().st_mtime_ns)
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.3))
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@contextmanager
def stopped_at_file(moment: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What runs inside is interrupted when it would put the file of this number, from 0, in place."""
    put, calls = os.replace, count()

    def interrupted(*args):
        if next(calls) == moment:
            raise KeyboardInterrupt
        put(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield
