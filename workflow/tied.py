"""tied.py PID COMMAND…: run a command that ends where the process PID does, the scheduler, or the shell between them.

A scheduler that is killed takes nothing with it: what it had started would work on, beside the next build. Linux only;
elsewhere the command just runs.
"""

import os
import select
import signal
import sys
from contextlib import suppress


def main(scheduler: str, *command: str) -> None:
    with suppress(AttributeError, OSError):  # a system without
        this, *above = map(os.pidfd_open, (os.getpid(), os.getppid(), int(scheduler)))
        if os.fork() == 0:
            watch(this, above)
    os.execvp(command[0], command)


def watch(this: int, above: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command itself is told
    ended, _, _ = select.select([this, *above], [], [])
    if this not in ended:
        signal.pidfd_send_signal(this, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
