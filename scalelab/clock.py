"""Time as a value that is passed in, never taken.

Pure cores get `now_s` as an argument. Drivers hold a `Clock`. Tests hold a `ManualClock`, so no
test waits for the wall and none depends on its speed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for intervals inside a process, one for instants that leave it."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never steps back; meaningless in another process."""
        ...

    def now(self) -> datetime:
        """The current instant, aware, in UTC. May step in either direction."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic_s = staticmethod(time.monotonic)

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until `advance` is called. For tests and simulations."""

    def __init__(self, *, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic_s = 0.0

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds` >= 0."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back; use step_wall")
        self._monotonic_s += seconds
        self._now += timedelta(seconds=seconds)

    def step_wall(self, seconds: float) -> None:
        """Move only the wall clock, in either direction, as a time daemon would."""
        self._now += timedelta(seconds=seconds)
