"""Folders of a process's own, for what is put in place when it is whole; those of dead processes are removed by others.

A living process holds a lock in its folder, and the operating system takes the lock from a dead one.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

SUFFIX = ".scratch"
LOCK = ".lock"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new, hidden folder in `parent` that is gone afterwards; what dead processes left there goes first."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder, lock = _claimed(parent)
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove what processes left in `parent` when they were killed."""
    for folder in parent.glob(f".*{SUFFIX}"):
        with suppress(Timeout, OSError), FileLock(folder / LOCK).acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    for file in parent.glob(f".*{LOCK}"):
        with suppress(Timeout, OSError), FileLock(file).acquire(timeout=0):
            file.unlink()


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """While inside, no other process is here for the same folder; True where one was, and had to be waited for."""
    lock, waited = FileLock(folder.with_name(f".{folder.name}{LOCK}")), False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process works in {folder}: waiting for it", file=sys.stderr, flush=True)
        waited = bool(lock.acquire())
    try:
        yield waited
    finally:
        with suppress(OSError):  # where an open file cannot be deleted, releasing it does so
            Path(lock.lock_file).unlink()
        lock.release()


def remove(folder: Path) -> None:
    """Remove a folder as a whole: a kill leaves no part of it under its name."""
    with scratch_folder(folder.parent) as scratch, suppress(FileNotFoundError):
        folder.rename(scratch / folder.name)


def _claimed(parent: Path) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=".", suffix=SUFFIX, dir=parent))
        lock = FileLock(folder / LOCK)
        with suppress(Timeout, FileNotFoundError):  # another process swept it before it was locked
            lock.acquire(timeout=0)
            return folder, lock
