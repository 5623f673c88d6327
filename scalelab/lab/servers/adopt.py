"""Exec wrapper of a server that lets its children go: whoever it leaves behind becomes ours.

Patroni starts PostgreSQL so that it outlives Patroni; the orphan would go to init, out of reach of
whoever kills, pauses or measures the server's family. This process asks the kernel to be given
the orphans below it (a subreaper), so they stay in one tree:

    python -I -S adopt.py PROGRAM ARGS...

    SIGTERM, SIGINT   go on to the program; what it leaves behind is left alone, unless it has
                      ended already: then SIGQUIT to every child
    the end           when no child lives any more, with the program's exit code
    parent gone       the launcher's death signal is SIGTERM here; SIGKILL to this process makes
                      the kernel send the program SIGTERM
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def children() -> list[int]:
    """The living children of this process, adopted ones included. Linux's own list."""
    try:
        with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        return []


def start(program: list[str]) -> int:
    """Fork and exec the program, which is told when this process dies. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
            _prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
            os.execvp(program[0], program)
        finally:
            os._exit(127)
    return pid


def main(program: list[str]) -> int:
    """Run the program and whatever it leaves behind; the program's exit code."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    child = start(program)
    ended: int | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if ended is None:
            os.kill(child, number)
        else:
            for orphan in children():
                os.kill(orphan, signal.SIGQUIT)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    code = 0
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return code
        if pid == child:
            ended = pid
            code = os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    found = main(sys.argv[1:])
    sys.exit(found if found >= 0 else 128 - found)
