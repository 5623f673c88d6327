"""Request ids and instants for the log, without asking the operating system for each.

A request's instant is the monotonic clock's, which is read anyway, plus the distance to the wall
clock, which is read once a sweep: a step of the wall clock shows within that time. An id is a
UUIDv7 of that instant, so ids of later requests sort later. Its 32 digits are also the trace id of
a request that brought none, and its last 16 the span's: one draw of random bits for all three, and
who has the id of an answer has found its trace.

Source: RFC 9562 section 5.7; W3C Trace Context level 2, whose 56 random bits at the end are there.
"""

from __future__ import annotations

from random import Random

from scalelab.clock import Clock


class Stamps:
    """random: for the ids; seeded in tests."""

    __slots__ = ("_clock", "_dashed_prefix", "_ms", "_offset_s", "_prefix", "_random_bits")

    def __init__(self, clock: Clock, random: Random) -> None:
        self._clock = clock
        self._random_bits = random.getrandbits
        self._ms = -1
        self._prefix = ""
        self._dashed_prefix = ""
        self._offset_s = 0.0
        self.resync()

    def resync(self) -> None:
        """Read the wall clock."""
        self._offset_s = self._clock.now().timestamp() - self._clock.monotonic_s()

    def at_s(self, monotonic_s: float) -> float:
        """Unix seconds of an instant of the monotonic clock."""
        return monotonic_s + self._offset_s

    def new_id(self, monotonic_s: float) -> tuple[str, str]:
        """A UUIDv7 as it is usually written, and its 32 digits without the dashes."""
        ms = int((monotonic_s + self._offset_s) * 1000)
        if ms != self._ms:
            self._ms = ms
            digits = f"{ms & 0xFFFF_FFFF_FFFF:012x}"
            self._prefix = digits + "7"
            self._dashed_prefix = f"{digits[:8]}-{digits[8:]}-7"
        tail = f"{self._random_bits(72):018x}"
        first, rest = tail[:3], tail[6:]
        second = "8" + tail[3:6]
        return (
            f"{self._dashed_prefix}{first}-{second}-{rest}",
            f"{self._prefix}{first}{second}{rest}",
        )
