"""Work that is killed in the middle: for each line on standard input a fresh process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any


def die_at(last: str) -> Callable[[str], None]:
    """What work is to call at each of its steps: SIGKILL for this process at the step `last`."""

    def at(step: str) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def fork_for_each_line(work: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Run `work(line)` in a process forked before anything was opened, and tell how each ended.

    On standard output: -9 for a kill, 0 for work that came to its end, 1 for an error.
    """
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(work(line.strip()))
            except BaseException:  # noqa: BLE001 - told, and this process ends
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
