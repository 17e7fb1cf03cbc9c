"""Run snakemake with these arguments, one at a time in this folder.

Its own lock outlives a build that was killed, and then wants a command to be typed. This one is the operating system's:
it goes with the process that holds it.
"""

import fcntl
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / "build.lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another build runs in this folder: wait for it, or stop it")
    os.set_inheritable(lock, True)  # snakemake takes this process's place, and the lock
    os.execvp("snakemake", ["snakemake", "--nolock", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
