"""Kill, fill the disk under, and start twice what takes long; then let the same command run again.

    python tests/faults/kills.py --trials 30 --seed 0

Each kind of work is tried in a folder of its own, which is also its home and its folder for temporary files. Afterwards
the folder must hold, to the bit but for dates, what work that was left alone leaves, and no file or process more.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(folder) for folder in (HERE, HERE.parent, HERE.parent / "lm", HERE.parent / "records")]

import works  # noqa: E402
from works import WORKS, Work  # noqa: E402

NOISE = ("__pycache__", "log", "metadata", "build.lock", ".ipython", ".cache", "ballast")  # folders or files
GIVE_UP = 300  # seconds


class Whole(NamedTuple):
    """Work that nothing happened to: the files that it leaves, its seconds, and about the bytes that it writes."""

    contents: dict[str, object]
    seconds: float
    n_bytes: int


class Outcome(NamedTuple):
    """Of a trial: whether it was hit, and what the same command led to afterwards."""

    hit: bool
    resumed: bool
    identical: bool
    leftovers: tuple[str, ...]


def start(work: Work, home: Path) -> int:
    """A process that does the work in its home: its id."""
    if pid := os.fork():
        return pid
    os.setsid()
    with suppress(BaseException):
        log = os.open(home.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(home)
        os.environ |= {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONPATH": os.pathsep.join(sys.path)}
        tempfile.tempdir = None
        try:
            work.run(home)
            os._exit(0)
        except SystemExit as stop:
            os._exit(stop.code)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
    os._exit(1)


def ended(pid: int) -> int:
    """Its exit code, or minus the signal's number; killed where it takes too long."""
    until = time.monotonic() + GIVE_UP
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def processes(home: Path) -> list[int]:
    """Those that work in the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if Path(os.readlink(entry / "cwd")).is_relative_to(home) and (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def contents(home: Path) -> dict[str, object]:
    """What is in each file, without dates and seconds."""
    return {
        str(path.relative_to(home)): works.content(path)
        for path in sorted(home.rglob("*"))
        if not set(path.relative_to(home).parts) & set(NOISE) and not path.is_dir()
    }


def prepared(work: Work, home: Path) -> Path:
    (home / "tmp").mkdir(parents=True)
    work.prepare(home)
    return home


def judged(work: Work, home: Path, expected: dict[str, object], hit: bool) -> Outcome:
    """Run the same command again, and compare."""
    code = ended(start(work, home))
    time.sleep(0.1)
    found = contents(home)
    more = [f"process {pid}" for pid in processes(home)] + sorted(found.keys() - expected.keys())
    same = {name: value for name, value in found.items() if name in expected} == expected
    return Outcome(hit, code == 0, same, tuple(more))


def killed(work: Work, home: Path, whole: Whole) -> Outcome:
    """SIGKILL at a random moment, to the process itself or to one that it started."""
    pid = start(work, prepared(work, home))
    time.sleep(random.uniform(0, whole.seconds))
    victims = [victim for victim in processes(home) if works.is_victim(victim)] if work.processes else [pid]
    with suppress(ProcessLookupError):
        os.kill(random.choice(victims or [pid]), signal.SIGKILL)
    return judged(work, home, whole.contents, ended(pid) != 0)


def filled(work: Work, home: Path, whole: Whole) -> Outcome:
    """On a small file system with less room than the work needs; then there is room."""
    with small_file_system(home):
        prepared(work, home)
        room = random.randrange(whole.n_bytes)
        (home / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(home).free - room)))
        code = ended(start(work, home))
        (home / "ballast").unlink()
        return judged(work, home, whole.contents, code != 0)


@contextmanager
def small_file_system(home: Path) -> Iterator[None]:
    home.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", home], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", home], check=True)


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_file_system(Path(folder, "small")):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def twice(work: Work, home: Path, whole: Whole) -> Outcome:
    """Two processes at once: each ends well, or refuses in a line that names the other; then the same command again."""
    prepared(work, home)
    one = start(work, home)
    time.sleep(random.uniform(0, whole.seconds))
    codes = [ended(start(work, home)), ended(one)]
    log = home.with_suffix(".log").read_text()
    refused = len(re.findall(r"^(?:[\w.]+: )?another (?:build|process) (?!.*waiting)", log, flags=re.MULTILINE))
    outcome = judged(work, home, whole.contents, 0 in codes)
    return outcome._replace(resumed=outcome.resumed and codes.count(0) + refused >= 2)


TABLES: dict[str, Callable[..., Outcome]] = {"killed": killed, "disk full": filled, "two at once": twice}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30, help="of each table, over all kinds of work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=WORKS, nargs="*", default=list(WORKS))
    asked = parser.parse_args(arguments)
    random.seed(asked.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as root:
        whole = {name: left_alone(WORKS[name], Path(root, name.replace(" ", "_"))) for name in asked.only}
        for title, fault in TABLES.items():
            if fault is filled and not can_mount():
                print(f"\n{title}: not tried, no file system can be mounted here")
                continue
            print(f"\n{'what':<22}{title:>14}{'resumed':>10}{'identical':>11}{'leftovers':>11}", flush=True)
            for number, name in enumerate(whole):
                n = len(range(number, asked.trials, len(whole)))
                found = []
                while sum(outcome.hit for outcome in found) < n and len(found) < 3 * n:
                    home = Path(root, f"{title}-{name}-{len(found)}".replace(" ", "_"))
                    found.append(fault(WORKS[name], home, whole[name]))
                    failures += tell(found[-1], home)
                    shutil.rmtree(home, ignore_errors=True)
                print(f"{name:<22}{row(found)}", flush=True)
    return failures


def row(found: list[Outcome]) -> str:
    of, left = len(found), sum(len(outcome.leftovers) for outcome in found)
    hit, resumed, identical = (sum(outcome[place] for outcome in found) for place in range(3))
    return f"{hit:>14}{f'{resumed}/{of}':>10}{f'{identical}/{of}':>11}{left:>11}"


def left_alone(work: Work, home: Path) -> Whole:
    prepared(work, home)
    before = n_bytes(home)
    started = time.monotonic()
    pid = start(work, home)
    if code := ended(pid):
        sys.exit(f"{home.name} ended with {code}:\n{home.with_suffix('.log').read_text()}")
    seconds = time.monotonic() - started
    return Whole(contents(home), seconds, max(20_000, n_bytes(home) - before))


def n_bytes(home: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in home.rglob("*") if path.is_file())


def tell(outcome: Outcome, home: Path) -> int:
    """What went wrong, and 1 if something did."""
    if outcome.resumed and outcome.identical and not outcome.leftovers:
        return 0
    log = home.with_suffix(".log")
    print(f"{home.name}: {json.dumps(outcome)}\n{log.read_text()[-2000:] if log.exists() else ''}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(bool(main()))
