"""Which edge point is the near one: a decision over what was measured. Values in, decision out.

Theory of operation
    Real networks send a client to the near edge by DNS (an answer for each region) or by anycast
    (the shortest route wins). Here a client measures round trips and takes the shortest, with a
    table of regions for the time before the first measurement. An edge that failed twice in a row
    is left out until it answers again. A client changes edges only for a gain that is worth a cold
    connection.

Invariants (tests cite them)
    N1  An edge that is down is never chosen while another is up.
    N2  Once all have been measured, the chosen edge's round trip is at most 1 / (1 - GAIN) times
        the shortest.
    N3  Two edges that are equally near never make a client go back and forth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scalelab.errors import InvalidInput, Unavailable

DOWN_AFTER = 2
"""Failures in a row."""
GAIN = 0.2
"""Share of the round trip that a change must save."""
_WEIGHT = 0.3
"""Of the newest measurement: the smoothing TCP uses is half as quick (Jacobson 1988: 1/8)."""


@dataclass(frozen=True, slots=True)
class EdgePoint:
    """url: base address, without a slash at the end. region: where it stands."""

    name: str
    url: str
    region: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client knows of an edge. rtt_s: smoothed round trip, None before the first answer."""

    rtt_s: float | None = None
    failures: int = 0

    @property
    def is_down(self) -> bool:
        """Failed too often in a row."""
        return self.failures >= DOWN_AFTER


def answered(seen: Seen, rtt_s: float) -> Seen:
    """After an answer that took `rtt_s`. One after an outage counts alone: the way may be new."""
    if rtt_s < 0:
        raise InvalidInput("a round trip takes no negative time", field="rtt_s")
    if seen.rtt_s is None or seen.is_down:
        return Seen(rtt_s)
    return Seen(seen.rtt_s + _WEIGHT * (rtt_s - seen.rtt_s))


def failed(seen: Seen) -> Seen:
    """After no answer, or a bad one."""
    return Seen(seen.rtt_s, seen.failures + 1)


def nearest(
    points: Sequence[EdgePoint],
    seen: Mapping[str, Seen],
    *,
    current: str | None = None,
    regions: Sequence[str] = (),
) -> EdgePoint:
    """The edge to use. regions: the client's own first, then the next; for unmeasured edges.

    Raises Unavailable (`no_edge`) if all are down.
    """
    up = [point for point in points if not seen.get(point.name, Seen()).is_down]
    if not up:
        raise Unavailable("no edge point answers", code="no_edge")
    best = min(up, key=lambda point: _distance(point, seen, regions))
    stay = next((point for point in up if point.name == current), None)
    if stay is None or stay is best:
        return best
    here, there = (seen.get(point.name, Seen()).rtt_s for point in (stay, best))
    if here is None or there is None:
        return best if here is None else stay
    return best if there < here * (1 - GAIN) else stay


def _distance(
    point: EdgePoint, seen: Mapping[str, Seen], regions: Sequence[str]
) -> tuple[int, float, int]:
    """Measured ones first, by round trip; the others by region."""
    place = regions.index(point.region) if point.region in regions else len(regions)
    rtt_s = seen.get(point.name, Seen()).rtt_s
    return (1, 0.0, place) if rtt_s is None else (0, rtt_s, place)
