"""Start processes that die at a named point, one after the other, and hear how each ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from month3_messaging.experiments import mortal_process
from month3_messaging.experiments.mortal_process import Bed, Role

KILLED = -signal.SIGKILL
_ROOT = Path(__file__).parents[2]


class Mortals:
    """One parent that has loaded the code, and a forked child per `run`. Blocking; no threads.

    A context manager: at its end the parent is gone, and with it a child that still runs.
    """

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._parent: subprocess.Popen[str] | None = None
        self._child: int | None = None

    def __enter__(self) -> Self:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", mortal_process.__name__, json.dumps(asdict(self._bed))],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        parent = self._running()
        self.kill()
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.close()
        parent.stdout.close()
        parent.kill()
        parent.wait()
        self.kill()

    def start(self, role: Role, point: str = "none", passage: int = 1) -> None:
        """A process in that role that dies at the so-manieth passage of `point`."""
        parent = self._running()
        assert parent.stdin is not None
        parent.stdin.write(f"{role.__name__} {point} {passage}\n")
        parent.stdin.flush()
        self._child = int(self._line())

    def end(self) -> int:
        """Wait until the process has ended; -9 if it was killed, 0 if its role was over."""
        code = int(self._line())
        self._child = None
        return code

    def run(self, role: Role, point: str = "none", passage: int = 1) -> int:
        """`start`, then `end`."""
        self.start(role, point, passage)
        return self.end()

    def kill(self) -> None:
        """SIGKILL the process that runs, if one does."""
        if self._child is not None:
            with suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)

    def run_until(self, role: Role, holds: Callable[[], bool]) -> None:
        """A process in that role, killed once `holds()`."""
        self.start(role)
        try:
            while not holds():
                time.sleep(0.02)
        finally:
            self.kill()
            self.end()

    def _line(self) -> str:
        parent = self._running()
        assert parent.stdout is not None
        line = parent.stdout.readline()
        if not line:
            raise RuntimeError("the parent of the mortal processes has died; see its output above")
        return line

    def _running(self) -> subprocess.Popen[str]:
        if self._parent is None:
            raise RuntimeError("not started")
        return self._parent
