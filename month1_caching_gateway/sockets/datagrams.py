"""Numbered datagrams, and what their numbers tell about the way they came.

UDP may lose, repeat and reorder datagrams and says nothing about it. With a number in each, the
receiver can count repetitions and overtaking by itself; what was *lost* it can only say once the
sender tells how many it sent, because nothing follows the last one that could show a gap.

Wire, big-endian: 4 bytes run (so that an old run's stragglers are not counted), 8 bytes number from
0, then padding. A number of all ones is no datagram but the end of the run; the padding's first 8
bytes then are how many were sent.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from scalelab.errors import CorruptData, InvalidInput

_HEAD = struct.Struct(">IQ")
_COUNT = struct.Struct(">Q")
_END = 2**64 - 1
SMALLEST, LARGEST = _HEAD.size + _COUNT.size, 65_507
"""Sizes of a datagram in bytes: room for the end's count; what IPv4 and UDP allow."""
MOST = 10_000_000
"""Datagrams in one run: what a tally keeps a bit for."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One arrival. number: from 0; None for the end of the run, with `sent` then saying how many
    were sent."""

    run: int
    number: int | None
    sent: int = 0


def encode(run: int, number: int, size: int) -> bytes:
    """A datagram of exactly `size` bytes. Raises InvalidInput for a size or number out of range."""
    if not SMALLEST <= size <= LARGEST:
        raise InvalidInput(
            f"a datagram of {size} bytes; from {SMALLEST} to {LARGEST} are possible", field="size"
        )
    if not 0 <= number < MOST:
        raise InvalidInput(f"datagram number {number}", field="number")
    return _HEAD.pack(run, number).ljust(size, b"\0")


def encode_end(run: int, sent: int) -> bytes:
    """The end of a run in which `sent` datagrams were sent."""
    return _HEAD.pack(run, _END) + _COUNT.pack(sent)


def parse(data: bytes) -> Datagram:
    """Read what arrived. Raises CorruptData for anything that is not of the wire above."""
    if len(data) < SMALLEST:
        raise CorruptData(f"a datagram of {len(data)} bytes", code="datagram_malformed")
    run, number = _HEAD.unpack_from(data)
    if number == _END:
        (sent,) = _COUNT.unpack_from(data, _HEAD.size)
        if sent > MOST:
            raise CorruptData(f"a run of {sent} datagrams", code="datagram_malformed")
        return Datagram(run, None, sent)
    if number >= MOST:
        raise CorruptData(f"datagram number {number}", code="datagram_malformed")
    return Datagram(run, number)


@dataclass(frozen=True, slots=True)
class Count:
    """What came of one run. received: different datagrams. reordered: arrived after a later one.

    sent = received + lost.
    """

    sent: int
    received: int
    lost: int
    duplicated: int
    reordered: int


class Tally:
    """Counts one run's arrivals in one bit a datagram. Not told the end, it knows no loss."""

    def __init__(self, run: int) -> None:
        self.run = run
        self.received = self.duplicated = self.reordered = 0
        self._seen = bytearray()
        self._highest = -1

    def note(self, number: int) -> bool:
        """Count one arrival; False for a number seen before. number: 0 <= number < MOST."""
        byte, bit = divmod(number, 8)
        if byte >= len(self._seen):
            self._seen.extend(bytes(byte + 1 - len(self._seen)))
        if self._seen[byte] >> bit & 1:
            self.duplicated += 1
            return False
        self._seen[byte] |= 1 << bit
        self.received += 1
        if number < self._highest:
            self.reordered += 1
        self._highest = max(self._highest, number)
        return True

    def count(self, sent: int) -> Count:
        """The account of the run. Raises CorruptData if more came than were sent."""
        if self.received > sent or self._highest >= sent:
            raise CorruptData(
                f"{self.received} datagrams up to number {self._highest} came of {sent} sent",
                code="datagram_count",
            )
        return Count(sent, self.received, sent - self.received, self.duplicated, self.reordered)
