"""Frames: what one flush writes, and how a torn one is told from a damaged one.

Theory of operation
    A flush writes one frame at the end of a segment and syncs it before the next one is written.
    So at most one frame is under way at any time, and only the last frame of a log can be torn: if
    a later frame is there, an earlier one was synced, and if it cannot be read, it was damaged.

    The last frame alone needs a closer look. What a crash tears off is missing: the file ends too
    early, or zeros stand in whole sectors, or from some byte to the end. The header says how many
    of the frame's sectors were zero when it was written; more than that now means torn, as many or
    fewer with a wrong checksum means that bits changed. A torn frame was never acknowledged and is
    cut off. A damaged one may have been: whoever opens the log halts.

Invariants (tests cite them)
    F1  read(encode(body)) gives the body back; at another place or number it does not.
    F2  Cut at any byte, or with any of its sectors zeroed, the last frame is `Torn`.
    F3  One changed bit anywhere in a whole frame is `Damaged`, the last frame included.
    F4  An unreadable frame with a later one behind it is `Damaged`, whatever it looks like.

Bytes: docs/formats/write-ahead-log.md. Sources: the doublewrite problem as PostgreSQL and etcd's
wal package meet it; differs in: the count of zero sectors, which makes F3 hold for bodies with
zeros in them too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

import xxhash

from scalelab.errors import InvalidInput

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

MAX_BODY_BYTES = 1 << 30
MAX_OFFSET = (1 << 32) - 1

_MAGIC = b"SLF\x01"
_HEAD = struct.Struct("<4sIQI")  # magic with version, body bytes, number, zero sectors
_HEAD_END = struct.Struct("<IB")  # checksum of what is before it, header mark
_TAIL = struct.Struct("<QB")  # checksum of the body, end mark
_HEADER_MARK, _END_MARK = 0x5A, 0xA5  # never zero: where they are zero, bytes are missing
HEADER_BYTES = _HEAD.size + _HEAD_END.size
OVERHEAD_BYTES = HEADER_BYTES + _TAIL.size
_ZEROS = bytes(SECTOR)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame begins: segment number >= 1, offset in bytes. Part of every checksum."""

    segment: int
    offset: int

    @property
    def seed(self) -> int:
        """A number that no other place has."""
        return self.segment << 32 | self.offset


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole one. number: 1, 2, 3 … over all segments. end: offset behind it."""

    number: int
    body: bytes
    end: int


@dataclass(frozen=True, slots=True)
class Torn:
    """A flush that a crash broke off; nothing in it was acknowledged. end: where it began."""

    end: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes that were whole once. offset: where. why: for a person."""

    offset: int
    why: str


def encode(body: bytes, number: int, place: Place) -> bytes:
    """The frame's bytes. Raises InvalidInput for a body or an offset over its limit.

    Cost: one copy, one hash, one search for zeros.
    """
    if not body or len(body) > MAX_BODY_BYTES or place.offset > MAX_OFFSET:
        raise InvalidInput(f"a frame of {len(body)} bytes at {place.offset} is over its limit")
    tail = _TAIL.pack(xxhash.xxh3_64_intdigest(body, place.seed), _END_MARK)
    zeros = 0
    if _ZEROS in body:
        zeros = _zero_parts(bytes(HEADER_BYTES).replace(b"\0", b"\1") + body + tail, place.offset)
    head = _HEAD.pack(_MAGIC, len(body), number, zeros)
    return b"".join((head, _HEAD_END.pack(_head_sum(head, place), _HEADER_MARK), body, tail))


def read(data: bytes, place: Place, number: int) -> Frame | Torn | Damaged | None:
    """The frame `number` at `place` of a segment's bytes; None if the bytes end there.

    F2, F3 and F4 as far as this segment goes: the caller knows whether a later one exists.
    """
    start = place.offset
    if start >= len(data):
        return None
    length = _body_length(data, place, number)
    if length is None:
        if _later_frame(data, place.segment, start + 1, number):
            return Damaged(start, "its header cannot be read, but later frames can")
        if _header_is_torn(data, start):
            return Torn(start)
        return Damaged(start, "its header was changed")
    end = start + OVERHEAD_BYTES + length
    body = data[start + HEADER_BYTES : end - _TAIL.size]
    if end <= len(data):
        checksum, mark = _TAIL.unpack_from(data, end - _TAIL.size)
        if mark == _END_MARK and checksum == xxhash.xxh3_64_intdigest(body, place.seed):
            return Frame(number, body, end)
    if _later_frame(data, place.segment, end, number):
        return Damaged(start, "its checksum is wrong, and later frames follow")
    written_zeros = _HEAD.unpack_from(data, start)[3]
    missing = end > len(data) or not data[end - 1]
    if missing or _zero_parts(data[start:end], start) > written_zeros:
        return Torn(start)
    return Damaged(start, "its checksum is wrong, and nothing is missing from it")


def _body_length(data: bytes, place: Place, number: int) -> int | None:
    """From a header that holds, or None."""
    start = place.offset
    if start + HEADER_BYTES > len(data):
        return None
    head = data[start : start + _HEAD.size]
    magic, length, found, _ = _HEAD.unpack(head)
    ending: tuple[int, int] = _HEAD_END.unpack_from(data, start + _HEAD.size)
    holds = ending == (_head_sum(head, place), _HEADER_MARK)
    return length if holds and magic == _MAGIC and found == number else None


def _head_sum(head: bytes, place: Place) -> int:
    return xxhash.xxh3_64_intdigest(head, place.seed) & 0xFFFFFFFF


def _later_frame(data: bytes, segment: int, start: int, number: int) -> bool:
    """Whether a frame's header with a number above `number` holds anywhere from `start` on."""
    at = data.find(_MAGIC, start)
    while at >= 0 and at + HEADER_BYTES <= len(data):
        found: int = _HEAD.unpack_from(data, at)[2]
        if found > number and _body_length(data, Place(segment, at), found) is not None:
            return True
        at = data.find(_MAGIC, at + 1)
    return False


def _header_is_torn(data: bytes, start: int) -> bool:
    """Whether bytes of a header are missing, not changed: cut off, or zero to the end or a sector.

    A header begins with its magic and ends with its mark, neither of them zero: no sector's share
    of it is all zero once it was written.
    """
    if start + HEADER_BYTES > len(data):
        return True
    if not data[start + HEADER_BYTES - 1 :].strip(b"\0"):
        return True
    return _zero_parts(data[start : start + HEADER_BYTES], start) > 0


def _zero_parts(frame: bytes, offset: int) -> int:
    """Sectors of the file, as far as the frame covers them, in which every byte is zero."""
    first = SECTOR - offset % SECTOR
    cuts = [0, *range(first, len(frame), SECTOR), len(frame)]
    return sum(not any(frame[cut:following]) for cut, following in pairwise(cuts))
