"""Records: what a frame's body holds, of any number of Raft groups, as values and as bytes.

Bytes: docs/formats/write-ahead-log.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from month5_kvstore.log.errors import DamagedLog
from month5_kvstore.raft import Configuration, Entry, EntryKind, HardState
from scalelab.errors import InvalidInput

FORMAT = 1
MAX_ENTRY_BYTES = 64 << 20

_KIND = struct.Struct("<B")
_SEGMENT = struct.Struct("<BHQ16s")
_ENTRY = struct.Struct("<BIQQBI")
_STATE = struct.Struct("<BIQIQ")
_SNAPSHOT = struct.Struct("<BIQQBQQH")
_SEGMENT_KIND, _ENTRY_KIND, _STATE_KIND, _SNAPSHOT_KIND = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """The first record of a segment. store_id: 16 bytes, of the folder it was written in."""

    segment: int
    store_id: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """An entry of a group. It replaces the group's entries from its index on."""

    group: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A group's hard state."""

    group: int
    state: HardState


@dataclass(frozen=True, slots=True)
class SnapshotMark:
    """A snapshot that lies in a file of its own, whole and synced.

    resets: it came from a leader, and the group's entries do not belong behind it: all are void.
    size_bytes, checksum: of the file.
    """

    index: int
    term: int
    configuration: Configuration
    size_bytes: int
    checksum: int
    resets: bool = False


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """A group's snapshot is in place of all its entries up to the mark's index."""

    group: int
    mark: SnapshotMark


Record = SegmentHead | Appended | StateChanged | SnapshotTaken


def encode(record: Record) -> bytes:
    """One record's bytes. Raises InvalidInput for an entry over 64 MiB."""
    match record:
        case Appended(group, entry):
            return encode_entry(group, entry)
        case StateChanged(group, state):
            return _STATE.pack(_STATE_KIND, group, state.term, state.vote, state.commit)
        case SnapshotTaken(group, mark):
            members = mark.configuration.encode()
            head = _SNAPSHOT.pack(
                _SNAPSHOT_KIND,
                group,
                mark.index,
                mark.term,
                mark.resets,
                mark.size_bytes,
                mark.checksum,
                len(members),
            )
            return head + members
        case SegmentHead(segment, store_id):
            return _SEGMENT.pack(_SEGMENT_KIND, FORMAT, segment, store_id)
        case _:
            assert_never(record)


def encode_entry(group: int, entry: Entry) -> bytes:
    """`encode` for the record there is most of."""
    data = entry.data
    if len(data) > MAX_ENTRY_BYTES:
        raise InvalidInput(f"an entry of {len(data)} bytes is over {MAX_ENTRY_BYTES}", field="data")
    return _ENTRY.pack(_ENTRY_KIND, group, entry.index, entry.term, entry.kind, len(data)) + data


def decode(body: bytes) -> Iterator[Record]:
    """The records of a frame's body, in order. Raises DamagedLog for bytes that are none.

    The frame's checksum held, so this is another version's file, or a mistake of ours.
    """
    at = 0
    try:
        while at < len(body):
            record, at = _decode_one(body, at)
            yield record
    except (struct.error, ValueError, KeyError) as error:
        raise DamagedLog(f"a record cannot be read: {error}", code="unknown_record") from error


def _decode_one(body: bytes, at: int) -> tuple[Record, int]:
    (kind,) = _KIND.unpack_from(body, at)
    if kind == _ENTRY_KIND:
        _, group, index, term, what, length = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        if at + length > len(body):
            raise ValueError("an entry ends behind its frame")
        return Appended(group, Entry(index, term, EntryKind(what), body[at : at + length])), (
            at + length
        )
    if kind == _STATE_KIND:
        _, group, term, vote, commit = _STATE.unpack_from(body, at)
        return StateChanged(group, HardState(term, vote, commit)), at + _STATE.size
    if kind == _SNAPSHOT_KIND:
        _, group, index, term, resets, size, checksum, length = _SNAPSHOT.unpack_from(body, at)
        at += _SNAPSHOT.size
        members = Configuration.decode(body[at : at + length])
        mark = SnapshotMark(index, term, members, size, checksum, bool(resets))
        return SnapshotTaken(group, mark), at + length
    if kind == _SEGMENT_KIND:
        _, version, segment, store_id = _SEGMENT.unpack_from(body, at)
        if version != FORMAT:
            raise ValueError(f"format {version} is not {FORMAT}")
        return SegmentHead(segment, store_id), at + _SEGMENT.size
    raise ValueError(f"kind {kind} at byte {at}")
