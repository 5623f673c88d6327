"""A node's life on a disk that dies under it, and what must be true of the disk afterwards.

Three groups append, replace suffixes, vote, and take snapshots. `Acknowledged` is what the log has
returned for; the judge compares it with what the next opening finds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from month5_kvstore.log import (
    Disk,
    Identity,
    NotInitialised,
    SegmentedLog,
    Submission,
    initialise,
    write_snapshot,
)
from month5_kvstore.raft import Configuration, Entry, EntryKind, HardState, Snapshot

MEMBERS = Configuration((1, 2, 3))
GROUPS = (1, 2, 3)


@dataclass(slots=True)
class Group:
    """entries: index to (term, data). snapshot: index of the last one. state: the hard state."""

    entries: dict[int, tuple[int, bytes]] = field(default_factory=dict[int, tuple[int, bytes]])
    snapshot: int = 0
    state: HardState = field(default_factory=HardState)

    def copy(self) -> Group:
        return Group(dict(self.entries), self.snapshot, self.state)

    @property
    def last(self) -> int:
        return max(self.entries, default=self.snapshot)


@dataclass(slots=True)
class Acknowledged:
    """sure: groups as of the last return. possible: as they would be after the call under way."""

    sure: dict[int, Group] = field(default_factory=lambda: {g: Group() for g in GROUPS})
    possible: dict[int, Group] = field(default_factory=lambda: {g: Group() for g in GROUPS})


def identity(number: int = 0) -> Identity:
    return Identity("crash", 1, f"{number:032x}")


def open_or_make(disk: Disk, *, segment_bytes: int) -> SegmentedLog:
    """As a node's start script would: made on purpose the first time."""
    try:
        return SegmentedLog.open(disk, cluster_id="crash", node_id=1, segment_bytes=segment_bytes)
    except NotInitialised:
        initialise(disk, identity())
        return SegmentedLog.open(disk, cluster_id="crash", node_id=1, segment_bytes=segment_bytes)


def live(
    log: SegmentedLog,
    disk: Disk,
    told: Acknowledged,
    chance: Random,
    steps: int,
    on_acknowledged: Callable[[], None] = lambda: None,
) -> None:
    """So many batches, until the disk ends it."""
    for _ in range(steps):
        chosen = chance.sample(GROUPS, chance.randint(1, len(GROUPS)))
        batch = [step(disk, number, told.possible[number], chance) for number in chosen]
        outcomes = log.persist(batch)
        assert outcomes == [None] * len(batch)
        told.sure = {number: group.copy() for number, group in told.possible.items()}
        on_acknowledged()


def step(disk: Disk, number: int, group: Group, chance: Random) -> Submission:
    """One submission of a group; `group` is changed as if it were written."""
    if group.state.commit > group.snapshot and chance.random() < 0.15:
        index = chance.randint(group.snapshot + 1, group.state.commit)
        term = group.entries[index][0]
        data = b"state %d" % index
        mark = write_snapshot(disk, number, Snapshot(index, term, MEMBERS, data), resets=False)
        group.snapshot = index
        group.entries = {i: entry for i, entry in group.entries.items() if i > index}
        return Submission(number, snapshot=mark)
    term, vote = group.state.term, group.state.vote
    if chance.random() < 0.2 or not term:
        term, vote = term + 1, chance.choice((0, 1, 2))
    settled = max(group.state.commit, group.snapshot)
    first = group.last + 1 if chance.random() < 0.8 else chance.randint(settled + 1, group.last + 1)
    entries = [
        Entry(index, term, EntryKind.COMMAND, payload(chance))
        for index in range(first, first + chance.randint(0, 4))
    ]
    if entries:
        group.entries = {i: entry for i, entry in group.entries.items() if i < first}
        group.entries |= {entry.index: (entry.term, entry.data) for entry in entries}
    group.state = HardState(term, vote, chance.randint(group.state.commit, group.last))
    return Submission(number, entries, group.state)


def payload(chance: Random) -> bytes:
    """Some with the zeros that a torn write leaves, too."""
    size = chance.choice((0, 10, 90, 700, 1500))
    return bytes(size) if chance.random() < 0.3 else chance.randbytes(size)


def lost(log: SegmentedLog, told: Acknowledged) -> list[str]:
    """What was acknowledged and is not there, or is there and was never asked for."""
    found = {number: read_back(log, number) for number in GROUPS}
    if found in (told.sure, told.possible):
        return []
    return [
        f"group {number}: {found[number]} is neither {told.sure[number]} nor {group}"
        for number, group in told.possible.items()
        if found[number] not in (told.sure[number], group)
    ] or ["one batch came back in part"]


def read_back(log: SegmentedLog, number: int) -> Group:
    group = log.groups.get(number)
    if group is None:
        return Group()
    snapshot = group.snapshot
    if snapshot is not None:
        assert snapshot.data == b"state %d" % snapshot.index
    return Group(
        {entry.index: (entry.term, entry.data) for entry in group.entries},
        0 if snapshot is None else snapshot.index,
        group.hard_state,
    )


def adopt(log: SegmentedLog, told: Acknowledged) -> None:
    """Go on from what was found: it is sure from now on."""
    told.sure = {number: read_back(log, number) for number in GROUPS}
    told.possible = {number: group.copy() for number, group in told.sure.items()}
