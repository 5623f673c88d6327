"""Child processes: spawned by one long-lived thread, signalled and measured with their children.

A parent-death signal fires when the *thread* that spawned the child ends, not the process. So all
children of a stack come from one `Spawner` thread that lives as long as the stack.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import psutil

from scalelab.lab.servers import logs
from scalelab.lab.servers.account import Account
from scalelab.lab.servers.errors import ServerFailed, evidence

_LAUNCHER = Path(__file__).with_name("launch.py")
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)

StopSteps = Sequence[tuple[signal.Signals, float]]
"""Signals to try in turn, each with the seconds to wait for the end; then comes SIGKILL."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One command line and the conditions it runs under. `env` is the whole environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    account: Account | None = None
    death_signal: signal.Signals = signal.SIGKILL
    data_limit_mb: int | None = None
    """Cap on private writable memory (RLIMIT_DATA), MiB; an allocation beyond it fails."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process and its children, bytes. pss counts shared pages by their share."""

    rss_bytes: int
    pss_bytes: int


def wrapped(launch: Launch) -> list[str]:
    """The command line through the exec wrapper; only this process may spawn it."""
    account = launch.account
    limit = launch.data_limit_mb
    return [
        sys.executable,
        "-I",
        "-S",
        str(_LAUNCHER),
        str(os.getpid()),
        str(int(launch.death_signal)),
        f"{account.uid}:{account.gid}" if account else "-",
        str(limit * 1024 * 1024) if limit else "-",
        *launch.argv,
    ]


def spawn_here(launch: Launch) -> subprocess.Popen[bytes]:
    """Start the command from the calling thread; the child dies when this thread ends."""
    with logs.opened(launch.log) as log:
        return subprocess.Popen(
            wrapped(launch),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(launch.env),
            cwd=launch.cwd,
            start_new_session=True,  # a Ctrl-C in the terminal reaches the parent only
        )


def run(launch: Launch, *, timeout_s: float, what: str) -> None:
    """Run a short command to its end; ServerFailed with the end of its log if it fails."""
    process = spawn_here(launch)
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise ServerFailed(
            f"{what} did not end within {timeout_s:.0f} s. {evidence(launch.log)}"
        ) from error
    finally:
        if process.poll() is None:
            kill_tree(process)
    if code != 0:
        raise ServerFailed(f"{what} failed with exit code {code}. {evidence(launch.log)}")


def family(pid: int) -> list[psutil.Process]:
    """The process and all its living descendants, parent first; empty if it is gone."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except _GONE:
        return []


def signal_family(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and its descendants, parent first."""
    for member in family(pid):
        with contextlib.suppress(*_GONE):
            member.send_signal(number)


def freeze_family(pid: int, *, within_s: float = 10.0) -> None:
    """SIGSTOP a process and its descendants; returns when they stand still, or after `within_s`.

    The signal alone is not enough: on a busy machine the thread that has to carry it out waits for
    its turn, and the others go on answering until then.
    """
    signal_family(pid, signal.SIGSTOP)
    deadline_s = time.monotonic() + within_s
    while any(_moves(member) for member in family(pid)) and time.monotonic() < deadline_s:
        time.sleep(0.005)


def _moves(member: psutil.Process) -> bool:
    """Whether any thread of it is not stopped. Where the kernel does not tell: the process."""
    try:
        threads = list(Path(f"/proc/{member.pid}/task").iterdir())
        states = {(one / "stat").read_text().rpartition(") ")[2][:1] for one in threads}
    except OSError:
        try:
            return member.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        except _GONE:
            return False
    return bool(states - set("TtZX"))


def kill_tree(process: subprocess.Popen[bytes], *, within_s: float = 10.0) -> None:
    """SIGKILL a process with all its descendants and wait until all are gone.

    Children are included because a server whose parent alone was killed may hold its port and its
    data folder for a while longer, and the restart would fail.
    """
    members = family(process.pid)
    for member in members:
        with contextlib.suppress(*_GONE):
            member.kill()
    process.wait(within_s)
    await_end(members, within_s=within_s)


def stop(process: subprocess.Popen[bytes], steps: StopSteps) -> None:
    """Ask politely, step by step, then SIGKILL; returns when the whole family is gone."""
    members = family(process.pid)
    for number, wait_s in steps:
        if process.poll() is not None:
            break
        # A stopped process takes no signal but SIGKILL; let a paused one run again first.
        signal_family(process.pid, signal.SIGCONT)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
    if process.poll() is None:
        kill_tree(process)
    for member in await_end(members, within_s=2.0):
        with contextlib.suppress(*_GONE):
            member.kill()


def await_end(members: Sequence[psutil.Process], *, within_s: float) -> list[psutil.Process]:
    """Wait until the processes are gone and return those that are not.

    A zombie counts as gone: it holds nothing, and the reaper of orphans may take its time.
    """
    deadline_s = time.monotonic() + within_s
    left = list(members)
    while left := [member for member in left if _holds_on(member)]:
        if time.monotonic() > deadline_s:
            return left
        time.sleep(0.01)
    return []


def _holds_on(member: psutil.Process) -> bool:
    try:
        return member.is_running() and member.status() != psutil.STATUS_ZOMBIE
    except _GONE:
        return False


def memory(pid: int) -> Memory:
    """Memory of a process and its children. Zero for one that is gone.

    Where the kernel does not tell the proportional share (not Linux), pss equals rss.
    """
    rss = pss = 0
    for member in family(pid):
        with contextlib.suppress(psutil.Error):
            full = member.memory_full_info()
            rss += full.rss
            pss += getattr(full, "pss", 0) or full.rss
    return Memory(rss, pss)


class Spawner:
    """One thread that spawns every child of a stack and ends only after the last of them.

    `spawn` may be called from any thread. After `close` it raises ServerFailed.
    """

    def __init__(self, name: str = "spawner") -> None:
        self._orders: queue.SimpleQueue[tuple[Launch, Future[subprocess.Popen[bytes]]] | None] = (
            queue.SimpleQueue()
        )
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def spawn(self, launch: Launch) -> subprocess.Popen[bytes]:
        """Start a child; raises OSError if the program cannot be started at all."""
        answer: Future[subprocess.Popen[bytes]] = Future()
        with self._lock:
            if self._closed:
                raise ServerFailed(f"The stack is closed; {launch.argv[0]} was not started.")
            self._orders.put((launch, answer))
        return answer.result()

    def close(self) -> None:
        """End the thread. Children that still live get their death signal."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._orders.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            launch, answer = order
            try:
                answer.set_result(spawn_here(launch))
            except BaseException as error:  # noqa: BLE001 -- it belongs to the caller of spawn
                answer.set_exception(error)
