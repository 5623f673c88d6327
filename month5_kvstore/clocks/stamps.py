"""What a write is stamped with, so that nodes which never met can order two writes alike. Pure.

A write happens after another one if its writer had seen that one ("happened before", Lamport 1978).
    wall      the node's clock: orders by luck as soon as clocks differ
    lamport   a counter above all that was seen: after what it saw, always
    hybrid    the wall's time, or just above what was seen: as lamport, and near the time of day
    vector    a counter for each node: tells "after" from "neither saw the other"
The first three are total orders: of two writes that never met one is thrown away, and they cannot
even say so. Times are whole numbers of whatever unit the caller counts in.

Sources: Lamport 1978, "Time, clocks, and the ordering of events in a distributed system"; Mattern
1988, "Virtual time and global states of distributed systems"; Kulkarni et al. 2014, "Logical
physical clocks" (hybrid).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """A place in a total order: time first, then a counter, then the node, so no two are equal."""

    time: int
    counter: int
    node: int


Vector = Mapping[int, int]
"""Writes of each node that are known; a node that is missing has none."""


def lamport(node: int, seen: Stamp | None) -> Stamp:
    """The next stamp of `node` after it has seen `seen`, the highest one; no clock is asked."""
    return Stamp(1 if seen is None else seen.time + 1, 0, node)


def hybrid(node: int, now: int, seen: Stamp | None) -> Stamp:
    """The wall's `now`, unless what was seen is not below it; then just above that.

    Its time is never above the highest wall clock of those whose stamps were seen.
    """
    if seen is None or now > seen.time:
        return Stamp(now, 0, node)
    return Stamp(seen.time, seen.counter + 1, node)


def ticked(vector: Vector, node: int) -> Vector:
    """One more write of `node`, after all that `vector` knows."""
    return {**vector, node: vector.get(node, 0) + 1}


def merged(one: Vector, other: Vector) -> Vector:
    """All that either knows."""
    return {node: max(one.get(node, 0), other.get(node, 0)) for node in {*one, *other}}


def precedes(one: Vector, other: Vector) -> bool:
    """Whether `other` happened after `one`. Neither way round: the two never met."""
    return dict(one) != dict(other) and all(
        count <= other.get(node, 0) for node, count in one.items()
    )
