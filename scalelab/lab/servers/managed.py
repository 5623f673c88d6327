"""One server of a runtime through its life: brought up, watched, broken, stopped.

States: new → starting → running ⇄ paused; running → dead (by itself or killed) → starting (again);
starting → failed; any → stopped on request. All changes happen under the entry's own lock.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scalelab.lab.servers import processes
from scalelab.lab.servers.base import Server
from scalelab.lab.servers.errors import NotReady, ServerFailed, evidence, next_step
from scalelab.lab.servers.processes import Spawner

State = Literal["new", "starting", "running", "paused", "stopped", "dead", "failed"]
Stage = Literal["preparing", "starting", "ready", "failed", "died", "stopped"]

_RESTART_WAITS_S = (0.1, 0.5, 1.0, 2.0, 5.0)
_LONG_LIFE_S = 30.0
_ABANDON_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Something happened to a server. seconds: since its start was asked for. detail: text."""

    name: str
    stage: Stage
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One server as it is now. Memory in bytes with children; None where nothing runs.

    state: `dead` ended by itself or was killed; `failed` never became ready; `stopped` on request.
    """

    name: str
    pid: int | None
    port: int
    version: str | None
    rss_bytes: int | None
    pss_bytes: int | None
    state: State
    log: Path


class GivenUp(ServerFailed):
    """Not a cause: this start was given up because of another server or because of `close`."""


class Managed:
    """A server, its process and its state. Safe to use from several threads."""

    def __init__(
        self,
        server: Server,
        *,
        group: int,
        spawner: Spawner,
        closing: threading.Event,
        observer: Callable[[Progress], None],
    ) -> None:
        self.server = server
        self.group = group
        self.state: State = "new"
        self._process: subprocess.Popen[bytes] | None = None
        self._spawner = spawner
        self._closing = closing
        self._observer = observer
        self._lock = threading.RLock()
        self._settled = threading.Event()
        self._asked_s = time.monotonic()
        self._revive_at_s: float | None = None
        self._quick_deaths = 0

    @property
    def pid(self) -> int | None:
        """The living process, or None."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def bring_up(
        self, others: Sequence[Managed] = (), abort: threading.Event | None = None
    ) -> None:
        """Wait for `others`, prepare, spawn, wait until ready. Sets `abort` when it fails.

        Raises ServerMissing, ServerFailed, or GivenUp when `abort` was set by someone else.
        """
        signal_to_stop = abort or threading.Event()
        with self._lock:
            self._asked_s = time.monotonic()
            self._settled.clear()
            self._revive_at_s = None
            try:
                self._await(others, signal_to_stop)
                self.state = "starting"
                self._start(signal_to_stop)
                self.state = "running"
                self._tell("ready", self.server.version or "")
            except BaseException as error:
                self.state = "failed"
                signal_to_stop.set()
                self._tell("failed", str(error))
                raise
            finally:
                self._settled.set()

    def kill(self) -> None:
        """SIGKILL the process and its children and wait until they are gone."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                self._revive_at_s = None
                processes.kill_tree(self._process)
                self._died("killed on request")

    def stop(self) -> None:
        """Stop as the server wants to be stopped, at last by SIGKILL. Repeatable."""
        with self._lock:
            was_alive = self.pid is not None
            if self._process is not None:
                processes.stop(self._process, self.server.stop_steps)
            self.state = "stopped"
            if was_alive:
                self._tell("stopped")

    def abandon(self) -> None:
        """End it as the kernel would when its owner dies: no drain, no last checkpoint."""
        with self._lock:
            number = self.server.death_signal
            if self._process is not None:
                steps = () if number == signal.SIGKILL else ((number, _ABANDON_S),)
                processes.stop(self._process, steps)
            self.state = "stopped"

    def restart(self) -> None:
        """Stop if it runs, then bring up again on the same port and data."""
        with self._lock:
            self.stop()
            self.bring_up()

    def pause(self) -> None:
        """SIGSTOP the process and its children; returns when they stand still."""
        with self._lock:
            processes.freeze_family(self._living())
            self.state = "paused"

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        with self._lock:
            processes.signal_family(self._living(), signal.SIGCONT)
            self.state = "running"

    def watch(self) -> None:
        """Notice a death; bring the server back when its turn has come. Never waits."""
        if self.state not in ("running", "paused", "dead", "failed"):
            return
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self.state in ("running", "paused") and self.pid is None:
                self._died(f"exit code {self._process.returncode if self._process else '?'}")
            if self._revive_at_s is not None and time.monotonic() >= self._revive_at_s:
                self._revive()
        finally:
            self._lock.release()

    def status(self) -> ProcessStatus:
        """The server as it is now; does not wait for a start or stop in progress."""
        pid = self.pid
        state = self.state
        if pid is None and state in ("running", "paused"):
            state = "dead"
        used = processes.memory(pid) if pid is not None else None
        return ProcessStatus(
            name=self.server.name,
            pid=pid,
            port=self.server.port,
            version=self.server.version,
            rss_bytes=used.rss_bytes if used else None,
            pss_bytes=used.pss_bytes if used else None,
            state=state,
            log=self.server.log,
        )

    def _await(self, others: Sequence[Managed], abort: threading.Event) -> None:
        for other in others:
            while not other._settled.wait(0.05):
                self._check(abort)
            if other.pid is None:
                why = f"{other.server.name} is not running"
                raise GivenUp(f"{self.server.name} was not started because {why}.")

    def _start(self, abort: threading.Event) -> None:
        server = self.server
        self._tell("preparing")
        launch = server.prepare()
        self._check(abort)
        self._tell("starting", server.version or "")
        self._process = self._spawner.spawn(launch)
        deadline_s = time.monotonic() + server.ready_within_s
        pause_s = 0.02
        while not self._answers(self._process, deadline_s):
            self._check(abort)
            abort.wait(pause_s)
            pause_s = min(0.1, pause_s * 1.3)

    def _answers(self, process: subprocess.Popen[bytes], deadline_s: float) -> bool:
        """Probe once. False: not yet. Raises ServerFailed when it cannot become ready any more."""
        server = self.server
        problem = ""
        try:
            server.probe()
        except NotReady as answer:
            problem = " ".join(str(answer).split())
        where = f"127.0.0.1:{server.port}"
        if process.poll() is not None:
            raise ServerFailed(
                f"{server.name} ended with code {process.returncode} before it was ready on "
                f"{where}. {evidence(server.log)} {next_step(server.name)}"
            )
        if problem and time.monotonic() > deadline_s:
            raise ServerFailed(
                f"{server.name} is not ready after {server.ready_within_s:.0f} s on {where} "
                f"({problem}). {evidence(server.log)} {next_step(server.name)}"
            )
        return not problem

    def _check(self, abort: threading.Event) -> None:
        if abort.is_set() or self._closing.is_set():
            raise GivenUp(f"The start of {self.server.name} was given up.")

    def _died(self, detail: str) -> None:
        self.state = "dead"
        if self.server.restart:
            if time.monotonic() - self._asked_s > _LONG_LIFE_S:
                self._quick_deaths = 0
            wait_s = _RESTART_WAITS_S[min(self._quick_deaths, len(_RESTART_WAITS_S) - 1)]
            self._quick_deaths += 1
            self._revive_at_s = time.monotonic() + wait_s
        self._tell("died", detail)

    def _revive(self) -> None:
        try:
            self.bring_up()
        except ServerFailed as error:
            if not isinstance(error, GivenUp):
                self._died(f"restart failed: {error}")

    def _living(self) -> int:
        pid = self.pid
        if pid is None:
            raise ServerFailed(f"{self.server.name} is not running.")
        return pid

    def _tell(self, stage: Stage, detail: str = "") -> None:
        seconds = time.monotonic() - self._asked_s
        self._observer(Progress(self.server.name, stage, seconds, detail))
