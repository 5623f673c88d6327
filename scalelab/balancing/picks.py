"""Which of several equal servers gets the next request. Pure picks over plain values.

    round robin         each in turn; even in count, blind to how long requests take
    least connections   the one with the fewest requests in flight; needs a view of all
    two choices         the better of two drawn at random: nearly as even as least connections,
                        without a herd when many clients share one stale view

The last two weigh: the load of a server is (in_flight + 1) / weight, so one of weight 2 carries
twice as much before it counts as busier. A server that is not available is never picked. All
return an index into `backends`, or None when no server is available. Nothing is allocated.
Cost: O(n) at most; two choices is O(1) when the two drawn are available.
Source: Mitzenmacher 2001, "The power of two choices in randomized load balancing".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Candidate(Protocol):
    """One server as the picker sees it: a `Backend`, or a pool's own record of a live server."""

    @property
    def name(self) -> str:
        """Different from the others' names."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests it has not answered yet."""
        ...

    @property
    def available(self) -> bool:
        """Whether it may be picked."""
        ...

    @property
    def weight(self) -> float:
        """What it may carry against the others, > 0."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """A server's state at one instant. in_flight: requests it has not answered yet."""

    name: str
    in_flight: int = 0
    available: bool = True
    weight: float = 1.0


RandomBelow = Callable[[int], int]
"""Takes n >= 1, returns a uniform integer in 0..n-1 (the shape of random.randrange)."""


def round_robin(backends: Sequence[Candidate], turn: int) -> int | None:
    """The first available server at or after place `turn`; pass turn + 1 the next time."""
    count = len(backends)
    for step in range(count):
        index = (turn + step) % count
        if backends[index].available:
            return index
    return None


def least_connections(backends: Sequence[Candidate], turn: int = 0) -> int | None:
    """The available server with the least load; ties go to the first from `turn` on."""
    count = len(backends)
    found: int | None = None
    least = 0.0
    for step in range(count):
        index = (turn + step) % count
        backend = backends[index]
        if backend.available:
            load = (backend.in_flight + 1) / backend.weight
            if found is None or load < least:
                found, least = index, load
    return found


def two_choices(backends: Sequence[Candidate], random_below: RandomBelow) -> int | None:
    """The less loaded of two different available servers drawn at random."""
    count = len(backends)
    if count >= 2:
        first = random_below(count)
        second = (first + 1 + random_below(count - 1)) % count
        if backends[first].available and backends[second].available:
            return _lighter(backends, first, second)
    able = [index for index, backend in enumerate(backends) if backend.available]
    if len(able) < 2:
        return able[0] if able else None
    first = random_below(len(able))
    second = (first + 1 + random_below(len(able) - 1)) % len(able)
    return _lighter(backends, able[first], able[second])


def _lighter(backends: Sequence[Candidate], first: int, second: int) -> int:
    one, other = backends[first], backends[second]
    one_carries = (one.in_flight + 1) * other.weight
    return first if one_carries <= (other.in_flight + 1) * one.weight else second
