"""Who waits for a place, who is let in next, and who is sent away. Pure.

Theory of operation
    A queue that is never empty is not a buffer any more: everybody in it waits, and in the end
    nobody is answered in time. So the room watches itself. While it has been empty within the last
    `patience_s`, callers are served in the order they came and may wait `patience_s`. When it has
    not, it is *crowded*: the newest goes first, whose caller is the least likely to have given up,
    and nobody stays for more than `crowded_s`.

    A more important caller goes before a less important one, and takes its seat when the room is
    full. SHEDDABLE callers never wait.

Invariants (tests cite them)
    Q1  Never more than `seats` callers wait.
    Q2  Nobody is let in while somebody more important waits.
    Q3  Whoever came in is let in, sent away or leaves, exactly once.
    Q4  Nobody is let in who has waited longer than `patience_s`.

Source: Maurer 2015, "Fail at scale" (adaptive LIFO, and controlled delay after Nichols and
Jacobson 2012); differs in: priorities.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """How much a caller matters when not all can be served; the smaller, the more."""

    CRITICAL = 0
    NORMAL = 1
    SHEDDABLE = 2


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """seats: callers that may wait. patience_s, crowded_s: how long, in good and in bad times."""

    seats: int = 64
    patience_s: float = 0.1
    crowded_s: float = 0.02

    def __post_init__(self) -> None:
        if self.seats < 0 or not 0 < self.crowded_s <= self.patience_s:
            raise ValueError(f"a room needs seats >= 0 and 0 < crowded_s <= patience_s: {self}")


@dataclass(frozen=True, slots=True)
class Waiting(Generic[T]):
    """One caller. since_s: when it came."""

    caller: T
    since_s: float


class WaitingRoom(Generic[T]):
    """For one dependency. Callers are any values with an identity of their own."""

    def __init__(self, policy: RoomPolicy, *, now_s: float) -> None:
        self._policy = policy
        self._rows: tuple[deque[Waiting[T]], deque[Waiting[T]]] = (deque(), deque())
        self._empty_at_s = now_s

    def __len__(self) -> int:
        return len(self._rows[0]) + len(self._rows[1])

    def crowded(self, now_s: float) -> bool:
        """It has not been empty for longer than patience allows."""
        return len(self) > 0 and now_s - self._empty_at_s > self._policy.patience_s

    def come_in(self, caller: T, priority: Priority, *, now_s: float) -> tuple[bool, list[T]]:
        """Whether the caller may wait, and who is sent away for it."""
        if priority is Priority.SHEDDABLE:
            return False, []
        away = self._send_away(now_s)
        if len(self) >= self._policy.seats:
            lower = self._rows[Priority.NORMAL]
            if priority is Priority.NORMAL or not lower:
                return False, away
            away.append(lower.popleft().caller)
        if not len(self):
            self._empty_at_s = now_s
        self._rows[priority].append(Waiting(caller, now_s))
        return True, away

    def next(self, *, now_s: float) -> tuple[T | None, list[T]]:
        """Who is let in, if anybody, and who is sent away, having waited too long."""
        away = self._send_away(now_s)
        newest_first = self.crowded(now_s)
        found: T | None = None
        for row in self._rows:
            if row:
                found = (row.pop() if newest_first else row.popleft()).caller
                break
        if not len(self):
            self._empty_at_s = now_s
        return found, away

    def leave(self, caller: T) -> bool:
        """The caller has given up; False if it does not wait here."""
        for row in self._rows:
            for one in row:
                if one.caller is caller:
                    row.remove(one)
                    return True
        return False

    def stays_s(self, now_s: float) -> float:
        """How long a caller that comes now may wait at most."""
        return self._policy.crowded_s if self.crowded(now_s) else self._policy.patience_s

    def _send_away(self, now_s: float) -> list[T]:
        stays_s = self.stays_s(now_s)
        away: list[T] = []
        for row in self._rows:
            while row and now_s - row[0].since_s > stays_s:
                away.append(row.popleft().caller)
        return away
