"""The supervisor itself: lock, start the stack, publish its state, stop on a signal.

Guarantees
    G1  At most one supervisor per stack and clone lives at a time (flock on supervisor.lock).
    G2  Every server is a child of this process and dies with it, SIGKILL included (the Runtime
        asks the kernel for that where the kernel can; elsewhere the next start ends leftovers).
    G3  The published state is at most one poll interval old while the supervisor lives.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from scalelab.errors import ScalelabError
from scalelab.lab.course.months import Month, find_month
from scalelab.lab.supervisor import identity
from scalelab.lab.supervisor.state import (
    Phase,
    ProcessView,
    StackPaths,
    StackState,
    publish,
    read,
)

if TYPE_CHECKING:
    from scalelab.lab.runtime import ProcessStatus, Progress, Runtime

# Exit code that tells the launching command "another one has the lock: attach to it".
ALREADY_RUNNING = 75
_POLL_STARTING_S = 0.2
_POLL_READY_S = 1.0


class StopRequested(BaseException):
    """Raised by the signal handler in the main thread while the stack still starts."""


def take_lock(paths: StackPaths, *, patience_s: float = 1.0) -> TextIO | None:
    """Hold the stack's lock, or None if another process holds it.

    A command that only looks takes a shared lock for an instant, hence the patience.
    """
    paths.folder.mkdir(parents=True, exist_ok=True)
    handle = paths.lock.open("a", encoding="utf-8")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                handle.close()
                return None
            time.sleep(0.05)
        else:
            return handle


class Supervisor:
    """Runs one stack in this process. The caller holds the lock and stays in the main thread."""

    def __init__(self, paths: StackPaths, month: Month) -> None:
        pid = os.getpid()
        self._paths = paths
        self._month = month
        self._state = StackState(
            month.name, "starting", "starting", pid, identity.started_at_s(pid)
        )
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._interruptible = False
        self._runtime: Runtime | None = None

    def run(self) -> int:
        """Start, serve until a stop signal, stop. Returns the process's exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._clear_leftovers()
        self._paths.pid.write_text(f"{self._state.pid} {self._state.started_at_s}\n")
        self._set("starting", "starting")
        poller = threading.Thread(target=self._poll, name="publish-state", daemon=True)
        poller.start()
        try:
            self._serve()
        except StopRequested:
            pass
        except Exception as error:  # noqa: BLE001 - the edge of a process: reported, not hidden
            traceback.print_exc()
            self._fail(error)
            return 1
        finally:
            self._stop.set()
            poller.join()
            self._runtime = None
        # The names stay, so that the logs of an ended stack can still be asked for.
        ended = tuple(
            replace(
                view, pid=None, started_at_s=0.0, rss_bytes=None, pss_bytes=None, state="stopped"
            )
            for view in self._state.processes
        )
        self._state = replace(self._state, processes=ended, links=())
        self._set("stopped", "stopped")
        return 0

    def _serve(self) -> None:
        from scalelab.lab.runtime import Runtime

        stack = importlib.import_module(f"{self._month.package}.stack")
        with Runtime(self._paths.folder, private=False, observer=_tell) as runtime:
            self._runtime = runtime
            try:
                self._interruptible = True
                if self._stop.is_set():
                    raise StopRequested
                links: Iterable[tuple[str, str]] = stack.start(runtime) or ()
                self._interruptible = False
                self._publish_processes()
                self._state = replace(
                    self._state,
                    links=tuple((str(label), without_password(str(url))) for label, url in links),
                )
                self._set("ready", "ready")
                self._stop.wait()
            finally:
                self._interruptible = False
                # A failed start must leave its evidence: what ran, and where its log is.
                self._publish_processes()
                self._set("stopping", "stopping its servers")

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stop.set()
        if self._interruptible:
            self._interruptible = False
            raise StopRequested

    def _poll(self) -> None:
        while not self._stop.wait(
            _POLL_STARTING_S if self._state.phase == "starting" else _POLL_READY_S
        ):
            if self._state.phase in ("starting", "ready"):
                self._publish_processes()

    def _publish_processes(self) -> None:
        runtime = self._runtime
        if runtime is None:
            return
        views = tuple(_view(status) for status in runtime.status())
        with self._guard:
            self._state = replace(self._state, processes=views)
            publish(self._paths.state, self._state)

    def _set(self, phase: Phase, message: str) -> None:
        with self._guard:
            self._state = replace(self._state, phase=phase, message=message)
            publish(self._paths.state, self._state)

    def _fail(self, error: Exception) -> None:
        code = error.stable_code if isinstance(error, ScalelabError) else "internal"
        text = (
            str(error) if isinstance(error, ScalelabError) else f"{type(error).__name__}: {error}"
        )
        self._state = replace(self._state, error_code=code)
        self._set("failed", " ".join(text.split()))

    def _clear_leftovers(self) -> None:
        """End what a dead supervisor left where the kernel could not end it (see G2)."""
        before = read(self._paths.state)
        if before is not None:
            views = [(view.pid, view.started_at_s) for view in before.processes if view.pid]
            identity.end_all(views, grace_s=10.0)


def without_password(url: str) -> str:
    """The link as it may be printed and kept: a password in it is left out."""
    return re.sub(r"(://[^/@\s:]*):[^/@\s]*@", r"\1@", url)


def _tell(progress: Progress) -> None:
    """One line per event of a server in the supervisor's log."""
    detail = f": {progress.detail}" if progress.detail else ""
    sys.stderr.write(f"{progress.seconds:7.2f} s  {progress.name} {progress.stage}{detail}\n")


def _view(status: ProcessStatus) -> ProcessView:
    """A published view of one of the Runtime's process statuses."""
    return ProcessView(
        name=status.name,
        pid=status.pid,
        started_at_s=identity.started_at_s(status.pid) if status.pid else 0.0,
        port=status.port,
        version=status.version,
        rss_bytes=status.rss_bytes,
        pss_bytes=status.pss_bytes,
        state=status.state,
        log=str(status.log),
    )


def main(arguments: list[str]) -> int:
    """`python -m scalelab.lab.supervisor ROOT MONTH`; started by `control.launch`."""
    root, name = Path(arguments[0]), arguments[1]
    paths = StackPaths(root, name)
    lock = take_lock(paths)
    if lock is None:
        return ALREADY_RUNNING
    with lock:
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        return Supervisor(paths, find_month(root, name)).run()
