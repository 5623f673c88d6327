"""How two versions of a row become one, wherever they meet and in whatever order. Pure.

Theory of operation
    Every local write stamps what it changes with (instant, node). The instant is never older than
    what is overwritten (a wall clock that steps back counts as standing still), and the node
    breaks ties, so all stamps of a row are in one total order that every node agrees on.

    last write wins   the row with the later stamp stays, whole; the other write is gone
    by column         each column has its own stamp; only two writes to one column collide
    counter           each node adds to its own two numbers and to no other's; the value is the
                      sum of all, and nothing collides (a PN-counter)

Invariants (tests cite them)
    I1  Each merge is commutative, associative and idempotent: copies that met the same versions
        are equal, in any order and with duplicates.
    I2  A merge invents nothing: every column it gives was one of the two.
    I3  stamp() is later than the stamp it follows.

`schema.sql` says the same in triggers; the integration tests hold the two together.
Source: Shapiro et al. 2011, "Conflict-free replicated data types".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """When and where something was written. at_us: microseconds of that node's wall clock."""

    at_us: int
    node: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One column's value and its stamp."""

    value: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Row:
    """A row under last-write-wins. is_deleted: a tombstone; a row that is truly gone knows no
    stamp, and an older update would bring it back."""

    columns: tuple[str, ...]
    is_deleted: bool
    stamp: Stamp


def stamp(wall_us: int, node: str, *, after: Stamp | None) -> Stamp:
    """The stamp of a write that overwrites what `after` stamped (I3)."""
    return Stamp(wall_us if after is None else max(wall_us, after.at_us + 1), node)


def last_write(one: Row, other: Row) -> Row:
    """The version with the later stamp. What the other one said is lost."""
    return one if one.stamp >= other.stamp else other


def by_column(one: Mapping[str, Cell], other: Mapping[str, Cell]) -> dict[str, Cell]:
    """For each column the version with the later stamp."""
    merged = dict(one)
    for name, cell in other.items():
        if name not in merged or cell.stamp > merged[name].stamp:
            merged[name] = cell
    return merged


@dataclass(frozen=True, slots=True)
class Tally:
    """What one node has added and taken away so far; both only grow."""

    added: int = 0
    taken: int = 0


Counter = Mapping[str, Tally]
"""A PN-counter: each node's tally, written by that node alone."""


def merged(one: Counter, other: Counter) -> dict[str, Tally]:
    """For each node the greater of both numbers: the tally that knows more."""
    nodes = sorted({*one, *other})
    pairs = {node: (one.get(node, Tally()), other.get(node, Tally())) for node in nodes}
    return {
        node: Tally(max(a.added, b.added), max(a.taken, b.taken)) for node, (a, b) in pairs.items()
    }


def value(counter: Counter) -> int:
    """What the counter says."""
    return sum(tally.added - tally.taken for tally in counter.values())
