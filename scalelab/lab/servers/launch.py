"""Exec wrapper of every child: become the account, ask to die with the parent, become the server.

Run as a script by path, isolated and without site packages, so that it costs about 15 ms:

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID:GID|- DATA_BYTES|- PROGRAM ARGS...

The order matters. The kernel clears the parent-death signal when a process changes its user, so
the signal is asked for afterwards; a parent that died in between is noticed by asking for its pid
once more. `preexec_fn` would do this inside a forked copy of a threaded process, where any lock
may be held for ever; a fresh interpreter has no such locks.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def become(account: str) -> None:
    """Drop every group and the user for `UID:GID`; `-` keeps them."""
    if account == "-":
        return
    uid, gid = (int(part) for part in account.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent_pid: int, death_signal: int) -> None:
    """Have the kernel send `death_signal` when the spawning thread ends. Linux only; else no-op."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit(f"launch: the parent {parent_pid} is gone")


def main(argv: list[str]) -> None:
    """Change this process as told, then exec; returns only by raising."""
    parent_pid, death_signal, account, data_bytes, program, *arguments = argv
    if data_bytes != "-":
        resource.setrlimit(resource.RLIMIT_DATA, (int(data_bytes), int(data_bytes)))
    become(account)
    die_with(int(parent_pid), int(death_signal))
    # This interpreter ignores SIGPIPE and SIGXFSZ; ignored signals would survive the exec.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    os.execvp(program, [program, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
