"""A pid alone names nobody: the kernel gives it out again. A pid and its start time do."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

# The start time is counted in clock ticks from a boot time that a clock step can shift a little.
_SAME_START_S = 2.0


def started_at_s(pid: int) -> float:
    """Start time of a living process in seconds since the epoch, 0.0 when there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def is_alive(pid: int, started_s: float) -> bool:
    """True if this very process lives. A zombie does not: it only waits to be counted."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(float(process.create_time()) - started_s) <= _SAME_START_S
    except psutil.Error:
        return False


def send_signal(pid: int, started_s: float, number: signal.Signals) -> bool:
    """Signal this very process; False if it is gone."""
    if not is_alive(pid, started_s):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def end_all(processes: Iterable[tuple[int, float]], *, grace_s: float) -> list[int]:
    """SIGTERM, wait up to grace_s, SIGKILL what is left. Returns the pids that were alive."""
    living = [(pid, start) for pid, start in processes if is_alive(pid, start)]
    for pid, start in living:
        send_signal(pid, start, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(is_alive(pid, start) for pid, start in living):
        time.sleep(0.05)
    for pid, start in living:
        send_signal(pid, start, signal.SIGKILL)
    return [pid for pid, _ in living]


def users_of(folders: Sequence[Path]) -> list[tuple[int, str]]:
    """Other processes, parents aside, whose command line names something in one of `folders`."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    markers = [str(folder) + os.sep for folder in folders]
    found: list[tuple[int, str]] = []
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        command: list[str] = process.info["cmdline"] or []
        if process.info["pid"] not in mine and any(
            marker in word for marker in markers for word in command
        ):
            found.append((process.info["pid"], process.info["name"] or "?"))
    return found
