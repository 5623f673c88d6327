"""The demo's fault: SIGKILL for one process in the middle of the load, and its way back."""

from __future__ import annotations

import asyncio

from month6_capstone.demo.report import Fault
from scalelab.clock import Clock
from scalelab.errors import Unavailable
from scalelab.lab.runtime import Runtime

_BACK_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.1


async def kill_and_wait(runtime: Runtime, target: str, after_s: float, clock: Clock) -> Fault:
    """SIGKILL `target` after `after_s` seconds and wait until its supervisor has it back.

    Raises Unavailable if it is not back within a minute: the run is then red.
    """
    await asyncio.sleep(after_s)
    before = _pid(runtime, target)
    killed_s = clock.monotonic_s()
    await asyncio.to_thread(runtime.kill, target)
    await asyncio.to_thread(runtime.restart, target)
    while clock.monotonic_s() - killed_s < _BACK_WITHIN_S:
        pid = _pid(runtime, target)
        if pid is not None and pid != before:
            back_s = round(clock.monotonic_s() - killed_s, 1)
            return Fault("SIGKILL", target, round(after_s, 1), back_s)
        await asyncio.sleep(_LOOK_EVERY_S)
    raise Unavailable(f"{target} was killed and is not back after {_BACK_WITHIN_S:.0f} s")


def _pid(runtime: Runtime, target: str) -> int | None:
    for status in runtime.status():
        if status.name == target and status.state == "running":
            return status.pid
    return None
