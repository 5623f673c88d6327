"""Waves: the order in which a batch of outbox rows may be handed to a broker.

Theory of operation
    A batch is cut into waves. Wave n holds the n-th row of every lane (topic, key) in the batch.
    All rows of a wave are sent together; the next wave starts when each of them is acknowledged
    or has failed. A lane with a failure is blocked: its later rows in this batch are not sent.

Invariants (tests cite them)
    W1  A row is sent only after the row before it in its lane was acknowledged.
    W2  Every row is in exactly one wave, and rows of a lane are in ascending waves.
    W3  The acknowledged rows of a lane are a prefix of the lane.

W1 does not lean on what the broker's client does with its buffers after an error, nor on there
being one relay: if two relays read the same rows, each sends a row after its predecessor was
acknowledged to itself or marked by the other. So on the topic the *first* copies of a key's events
stand in order; later copies are duplicates.

The price: a lane moves at one row per acknowledgement, about a hundred a second. That suits
aggregates with a handful of events; one key for everything would crawl.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from typing import Protocol

Lane = tuple[str, str]
"""Topic and key: what has an order of its own."""


class InLane(Protocol):
    """What a wave is made of: something with a topic and a key."""

    @property
    def topic(self) -> str: ...
    @property
    def key(self) -> str: ...


def lane_of(row: InLane) -> Lane:
    """The lane of `row`."""
    return row.topic, row.key


def cut_into_waves(rows: Sequence[InLane]) -> list[list[int]]:
    """Positions in `rows`, wave by wave. `rows` is ordered as each lane must be. Cost: O(n)."""
    depth: defaultdict[Lane, int] = defaultdict(int)
    waves: list[list[int]] = []
    for position, row in enumerate(rows):
        lane = lane_of(row)
        if depth[lane] == len(waves):
            waves.append([])
        waves[depth[lane]].append(position)
        depth[lane] += 1
    return waves


def sendable(wave: Sequence[int], rows: Sequence[InLane], blocked: Set[Lane]) -> list[int]:
    """The positions of `wave` whose lane is not blocked by an earlier failure."""
    return [position for position in wave if lane_of(rows[position]) not in blocked]
