"""Which of several equal servers gets the next request. Pure picks over plain values.

    round robin         each in turn; even in count, blind to how long requests take
    least connections   the one with the fewest requests in flight; needs a view of all
    two choices         the better of two drawn at random: nearly as even as least connections,
                        without a herd when many clients share one stale view

A server that is not available is never picked. All return an index into `backends`, or None when
no server is available. Cost: O(n) at most; two choices is O(1) when all are available.
Source: Mitzenmacher 2001, "The power of two choices in randomized load balancing".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backend:
    """One server as the picker sees it. in_flight: requests it has not answered yet."""

    name: str
    in_flight: int = 0
    available: bool = True


RandomBelow = Callable[[int], int]
"""Takes n >= 1, returns a uniform integer in 0..n-1 (the shape of random.randrange)."""


def round_robin(backends: Sequence[Backend], turn: int) -> int | None:
    """The first available server at or after place `turn`; pass turn + 1 the next time."""
    count = len(backends)
    for step in range(count):
        index = (turn + step) % count
        if backends[index].available:
            return index
    return None


def least_connections(backends: Sequence[Backend], turn: int = 0) -> int | None:
    """The available server with the fewest requests in flight; ties go to the first from `turn`."""
    count = len(backends)
    order = ((turn + step) % count for step in range(count))
    able = (index for index in order if backends[index].available)
    return min(able, key=lambda index: backends[index].in_flight, default=None)


def two_choices(backends: Sequence[Backend], random_below: RandomBelow) -> int | None:
    """The less loaded of two different available servers drawn at random."""
    able = [index for index, backend in enumerate(backends) if backend.available]
    if len(able) < 2:
        return able[0] if able else None
    first = random_below(len(able))
    second = (first + 1 + random_below(len(able) - 1)) % len(able)
    return min(able[first], able[second], key=lambda index: backends[index].in_flight)
