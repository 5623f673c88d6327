"""The demo's fault: what it kills, and when it says that the victim is back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from month6_capstone.demo.fault import kill_and_wait
from month6_capstone.demo.report import Fault
from scalelab.clock import ManualClock
from scalelab.errors import Unavailable
from scalelab.lab.runtime import ProcessStatus, Runtime

BEFORE, AFTER = 100, 200


@dataclass(slots=True)
class Stack:
    """A stack of one process: time passes with each look, and `then` is what a look shows."""

    clock: ManualClock
    then: Iterator[tuple[int | None, str]]
    step_s: float
    calls: list[str] = field(default_factory=list[str])

    def kill(self, name: str) -> None:
        self.calls.append(f"kill {name}")

    def restart(self, name: str) -> None:
        self.calls.append(f"restart {name}")

    def status(self) -> list[ProcessStatus]:
        if self.calls:
            self.clock.advance(self.step_s)
        pid, state = next(self.then) if self.calls else (BEFORE, "running")
        return [ProcessStatus("worker", pid, 1, None, None, None, cast("Any", state), Path("log"))]


def stack(*then: tuple[int | None, str], step_s: float = 1.5) -> tuple[Runtime, Stack, ManualClock]:
    """The stack, as a runtime and as itself; the last look repeats for ever."""
    clock = ManualClock()

    def looks() -> Iterator[tuple[int | None, str]]:
        yield from then
        while True:
            yield then[-1]

    made = Stack(clock, looks(), step_s)
    return cast("Runtime", made), made, clock


async def test_a_fault_ends_when_another_process_runs() -> None:
    """The dying process, and one that is not ready yet, do not count as back."""
    runtime, made, clock = stack(
        (BEFORE, "running"), (None, "dead"), (AFTER, "starting"), (AFTER, "running")
    )
    fault = await kill_and_wait(runtime, "worker", 0.0, clock)
    assert fault == Fault("SIGKILL", "worker", at_s=0.0, back_s=6.0)
    assert made.calls[0] == "kill worker"


async def test_a_victim_that_stays_away_is_named() -> None:
    """A minute later the run is red."""
    runtime, _, clock = stack((None, "dead"), step_s=25.0)
    with pytest.raises(Unavailable, match="worker was killed and is not back"):
        await kill_and_wait(runtime, "worker", 0.0, clock)
