"""Reading a log back: every frame in order, the torn end found, any other damage refused.

Nothing is changed here. What must be cut comes back as a value; the opening cuts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from month5_kvstore.log.disk import Disk
from month5_kvstore.log.errors import DamagedLog
from month5_kvstore.log.frame import Damaged, Frame, Place, Torn, read
from month5_kvstore.log.group_trail import GroupTrail, Ledger
from month5_kvstore.log.records import (
    Appended,
    Record,
    SegmentHead,
    SnapshotTaken,
    StateChanged,
    decode,
)
from month5_kvstore.raft import Entry, HardState, Snapshot

_NAME = re.compile(r"^([0-9a-f]{16})\.wal$")


@dataclass(frozen=True, slots=True)
class GroupLog:
    """What a group finds when its node starts. entries: in a row, behind the snapshot."""

    hard_state: HardState
    snapshot: Snapshot | None
    entries: tuple[Entry, ...]


@dataclass(slots=True)
class Replay:
    """All segments read. entries: by group. segments: numbers in order, without an unfinished one.

    unfinished: a last segment whose creation a crash broke off. size: bytes that hold of the last
    segment; last_frame: the last of them; is_torn: more than that are there. next_number: of the
    next frame.
    """

    ledger: Ledger = field(default_factory=Ledger)
    entries: dict[int, list[Entry]] = field(default_factory=dict)
    segments: list[int] = field(default_factory=list)
    unfinished: int | None = None
    size: int = 0
    last_frame: bytes = b""
    is_torn: bool = False
    next_number: int = 0


def segment_name(number: int) -> str:
    """Sorted by number."""
    return f"{number:016x}.wal"


def segment_numbers(names: Sequence[str]) -> list[int]:
    """Of the segments among these files, in order."""
    return sorted(int(match.group(1), 16) for name in names if (match := _NAME.match(name)))


def replay(disk: Disk, store_id: bytes) -> Replay:
    """Read everything. Raises DamagedLog: nothing is guessed, nothing was changed."""
    numbers = segment_numbers(disk.names())
    found = Replay()
    if not numbers:
        raise DamagedLog("there is no segment", code="segment_missing")
    if numbers != list(range(numbers[0], numbers[-1] + 1)):
        raise DamagedLog(f"of segments {numbers} some are missing", code="segment_missing")
    for number in numbers:
        _read_segment(disk, found, number, store_id, is_last=number == numbers[-1])
    for group, trail in found.ledger.trails.items():
        _check_whole(group, trail, found.entries.get(group, []))
    return found


def _read_segment(
    disk: Disk, found: Replay, number: int, store_id: bytes, *, is_last: bool
) -> None:
    data = disk.read(segment_name(number))
    begun = at = 0
    if not found.next_number:
        found.next_number = _first_number(data)
    while True:
        read_frame = read(data, Place(number, at), found.next_number)
        if isinstance(read_frame, Damaged):
            raise _damage(number, read_frame.offset, read_frame.why)
        if not isinstance(read_frame, Frame):
            break
        _take(found, decode(read_frame.body), number, store_id, is_head=at == 0)
        begun, at = at, read_frame.end
        found.next_number += 1
    if at == 0 and is_last and found.segments:
        found.unfinished = number  # nothing was acknowledged in it
        return
    if at == 0 or (isinstance(read_frame, Torn) and not is_last):
        raise _damage(number, at, "it ends too early, and a later segment is there")
    found.segments.append(number)
    found.size, found.is_torn = at, isinstance(read_frame, Torn)
    found.last_frame = data[begun:at]


def _first_number(data: bytes) -> int:
    """The frame number that the oldest segment begins with; its checksum is judged later."""
    return int.from_bytes(data[8:16], "little") or 1


def _damage(segment: int, offset: int, why: str) -> DamagedLog:
    return DamagedLog(
        f"{segment_name(segment)} cannot be read at byte {offset}: {why}. Acknowledged records may "
        f"be behind it, so nothing was cut. Give this node a new id and a new folder, or restore."
    )


def _take(
    found: Replay, records: Iterable[Record], segment: int, store_id: bytes, *, is_head: bool
) -> None:
    for position, record in enumerate(records):
        if isinstance(record, SegmentHead):
            if (record.segment, record.store_id) != (segment, store_id):
                raise DamagedLog(
                    f"{segment_name(segment)} is of another folder", code="foreign_segment"
                )
        elif is_head and position == 0:
            raise DamagedLog(f"{segment_name(segment)} has no head", code="unknown_record")
        elif isinstance(record, Appended):
            _take_entry(found, record, segment)
        elif isinstance(record, StateChanged):
            trail = found.ledger.get(record.group, {})
            found.ledger.trails[record.group] = GroupTrail(
                record.state, trail.snapshot, trail.last_index, trail.spans
            )
        else:
            _take_snapshot(found, record)


def _take_entry(found: Replay, record: Appended, segment: int) -> None:
    """Replace from its index on. The oldest segments are gone: a group may begin anywhere."""
    index = record.entry.index
    entries = found.entries.setdefault(record.group, [])
    trail = found.ledger.get(record.group, {})
    if entries:
        keep = index - entries[0].index
        if keep > len(entries):
            raise DamagedLog(f"group {record.group} has a gap before entry {index}", code="log_gap")
        del entries[max(0, keep) :]
    entries.append(record.entry)
    found.ledger.trails[record.group] = trail.with_entries(index, index, segment)


def _take_snapshot(found: Replay, record: SnapshotTaken) -> None:
    trail = found.ledger.get(record.group, {})
    if record.mark.index <= trail.snapshot_index:
        return  # the head of a segment says again what an earlier one said
    entries = found.entries.get(record.group, [])
    if record.mark.resets:
        entries.clear()
    else:
        entries[:] = [entry for entry in entries if entry.index > record.mark.index]
    found.ledger.trails[record.group] = trail.with_snapshot(record.mark)


def _check_whole(group: int, trail: GroupTrail, entries: Sequence[Entry]) -> None:
    """T1 at the end of the log, and what it says of itself."""
    begins = entries[0].index if entries else trail.last_index + 1
    if begins > trail.snapshot_index + 1:
        raise DamagedLog(
            f"group {group} begins at entry {begins}, its snapshot ends at {trail.snapshot_index}",
            code="log_gap",
        )
    if trail.hard_state.commit > trail.last_index:
        raise DamagedLog(
            f"group {group} had entry {trail.hard_state.commit} committed, and {trail.last_index} "
            f"is its last one here",
            code="log_gap",
        )
