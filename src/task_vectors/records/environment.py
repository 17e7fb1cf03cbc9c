"""Where and when something was computed, in words: what a record and a benchmark say of their origin."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version

from task_vectors.paths import project_root

DATE = "%Y-%m-%d %H:%M UTC"
DIRTY = " with uncommitted changes"
PACKAGES = ("torch", "transformers", "numpy", "altair")


def environment() -> dict[str, str]:
    """Date, commit, processor and package versions of this run, in words."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    return {
        "date": datetime.now(UTC).strftime(DATE),
        "commit": _commit(),
        "processor": f"{_processor()}, {device}",
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _commit() -> str:
    """The commit, and whether a file of it has been changed since, other than records and what is built."""
    results = (":(exclude)data/recorded", ":(exclude)runs", ":(exclude)executed")
    try:
        head = _git("rev-parse", "--short", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *results)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (DIRTY if changes else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(project_root()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
