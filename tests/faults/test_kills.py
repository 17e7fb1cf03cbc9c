"""A small part of kills.py: one kill, one full disk and one pair of each kind of work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="processes that are left are read in /proc")
KINDS = ["recorded runs", "regression training", "fine-tuning", "conversion", "records --keep"]


def check(kinds: list[str]) -> None:
    """A process of its own, which can fork before anything has started a thread."""
    command = [sys.executable, Path(__file__).with_name("kills.py"), "--trials", str(len(kinds)), "--only", *kinds]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if "not tried" in done.stdout:
        pytest.skip("full disks: no file system can be mounted here")


def test_the_same_command_ends_well_after_a_fault():
    check(KINDS)


@pytest.mark.slow
def test_a_build_ends_well_after_a_fault():
    check(["smoke build"])
