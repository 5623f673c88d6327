"""A deadline: one instant that all parts of a call share. Pure.

A time-out per step adds up: three tries of 2 s are 6 s. A deadline does not. It is an instant on
a monotonic clock, and whatever starts later has less time left.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalelab.errors import DeadlineExceeded


@dataclass(frozen=True, slots=True)
class Deadline:
    """at_s: seconds on the process's monotonic clock."""

    at_s: float

    @classmethod
    def after(cls, timeout_s: float, *, now_s: float) -> Deadline:
        """The deadline `timeout_s` seconds from now."""
        return cls(now_s + timeout_s)

    def remaining_s(self, *, now_s: float) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - now_s)

    def leaves_room_for(self, seconds: float, *, now_s: float) -> bool:
        """Whether `seconds` can pass with time to spare."""
        return seconds < self.at_s - now_s

    def earlier(self, other: Deadline | None) -> Deadline:
        """The stricter of two deadlines: a callee never gets more time than its caller has."""
        return self if other is None or self.at_s <= other.at_s else other

    def check(self, what: str, *, now_s: float) -> None:
        """Raise DeadlineExceeded if no time is left to begin `what`."""
        if now_s >= self.at_s:
            raise DeadlineExceeded(f"no time is left for {what}")
