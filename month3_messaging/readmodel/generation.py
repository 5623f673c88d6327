"""Generations: when a rebuilt read model may take the place of the one that is read. Pure.

Theory of operation
    A generation is one reading of the log from its start, into a table of its own. It remembers
    the next offset of every partition, and a target: where the log ended when it was begun. It may
    go live once it has reached its targets and stands nowhere behind the live one. What is compared
    are two rows of one database in one transaction; how far the log has gone on since is no matter.

Invariants (tests cite them)
    G1  A reader never sees less after a swap than before it: for each partition the new
        generation has folded at least the records that the old one had.
    G2  The first generation goes live only when it holds what the log held as it was begun.
    G3  A record is folded into a generation once: what lies before its next offset is dropped.
    G4  A record that is missing is noticed: a generation never goes on behind a gap.

G4 holds for logs that are neither compacted nor written in transactions: their offsets are dense.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scalelab.clients.kafka_records import Record
from scalelab.errors import CorruptData


class State(StrEnum):
    """Where a generation is in its life. The values are stored."""

    BUILDING = "building"
    LIVE = "live"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Place:
    """How far one partition is folded. target: see G2. unreadable: records without a meaning."""

    next_offset: int
    target: int
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """One reading of the log. number: 1, 2, 3 … places: by partition; all partitions of the log."""

    number: int
    state: State
    places: Mapping[int, Place]


def may_go_live(building: Generation, live: Generation | None) -> bool:
    """Whether readers lose nothing by the change (G1, G2); live is None before the first."""
    others: Mapping[int, Place] = {} if live is None else live.places
    return others.keys() <= building.places.keys() and all(
        place.next_offset >= place.target
        and (partition not in others or place.next_offset >= others[partition].next_offset)
        for partition, place in building.places.items()
    )


def unseen(records: Sequence[Record], next_offset: int) -> list[Record]:
    """Those of one partition's records that are not folded yet (G3).

    records: offsets ascend. Raises CorruptData code `log_has_a_gap` if one is missing (G4).
    """
    left: list[Record] = []
    for record in records:
        if record.offset < next_offset:
            continue
        if record.offset > next_offset:
            raise CorruptData(
                f"{record.topic}/{record.partition} goes on at {record.offset},"
                f" expected {next_offset}: the log does not hold everything any more",
                code="log_has_a_gap",
            )
        left.append(record)
        next_offset += 1
    return left
