"""Processes that hold locks, told step by step, stopped and killed from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from month5_kvstore.experiments import lock_worker
from month5_kvstore.experiments.lock_worker import Bed

_ROOT = Path(__file__).parents[2]


class LockWorker:
    """One process; a context manager, at whose end it is gone. Blocking; no threads."""

    def __init__(self, bed: Bed) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", lock_worker.__name__, json.dumps(asdict(bed))],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def ask(self, step: str) -> Any:
        """Have a step carried out; its answer."""
        self.tell(step)
        return self.answer()

    def tell(self, step: str) -> None:
        """Write a step down for the process, which may stand still."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{step}\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """To the oldest step that was not answered."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a holder of locks has died; see its output above")
        return json.loads(line)

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self._process.kill()
        self._process.wait()
