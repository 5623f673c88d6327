"""Bloom filter: "surely not there" or "perhaps there", in some bits a key.

Theory of operation
    Adding a key sets k of m bits; a key is perhaps there if all its k bits are set. With n keys
    a bit is still clear with probability (1 - 1/m)**(k*n), so a key never added passes with
    (1 - that)**k. For a wanted rate p the least memory is m = -n ln p / (ln 2)**2 with
    k = m/n ln 2: 9.6 bits a key for 1 %, 14.4 for 0.1 %.
    The k places come from one 128-bit hash, cut in halves: start + i * step.

Invariants (tests cite them)
    I1  No false negative: a key added, here or in a filter of the union, is always found.
    I2  Up to the capacity a key not added is found with about the rate asked for.
    I3  from_bytes(f.to_bytes()) answers as f does; bytes changed by accident are refused.
    I4  A union has exactly the bits of both, in either order.

Absent on purpose: removing keys (bits are shared; build a new filter). Beyond its capacity the
filter still never loses a key, and lets more and more others pass: watch `fill_ratio`, 0.5 is full.
Whoever may choose the keys and knows the filter can find false positives; it is no access control.
Sources: Bloom 1970, "Space/time trade-offs in hash coding with allowable errors"; Kirsch and
Mitzenmacher 2006, "Less hashing, same performance".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import xxhash

from scalelab.errors import CorruptData, InvalidInput

_MAGIC = b"SLBF\x01"
_HEADER = struct.Struct("<5sQHQ")  # magic with version, bits, hashes, keys added
_CHECKSUM = struct.Struct("<Q")
_MAX_HASHES = 64
_MASKS = bytes(1 << bit for bit in range(8))
_digest = xxhash.xxh3_128_digest
_halves = struct.Struct(">QQ").unpack


@dataclass(frozen=True, slots=True)
class Sizing:
    """bits: m, a multiple of 8, >= 8. hashes: k, 1..64."""

    bits: int
    hashes: int

    def __post_init__(self) -> None:
        if self.bits < 8 or self.bits % 8:
            raise InvalidInput(f"{self.bits} bits are no whole number of bytes", field="bits")
        if not 1 <= self.hashes <= _MAX_HASHES:
            raise InvalidInput(f"{self.hashes} hashes are outside 1..{_MAX_HASHES}", field="hashes")

    def false_positive_rate(self, keys: int) -> float:
        """The share 0..1 of other keys that pass once `keys` different keys are in."""
        clear = math.exp(keys * self.hashes * math.log1p(-1 / self.bits))
        return (1 - clear) ** self.hashes


def size_for(capacity: int, false_positive_rate: float) -> Sizing:
    """The least memory for `capacity` keys, >= 1, at a rate strictly between 0 and 1.

    Raises InvalidInput for other values.
    """
    if capacity < 1:
        raise InvalidInput(f"capacity {capacity} is below 1", field="capacity")
    if not 0 < false_positive_rate < 1:
        raise InvalidInput(
            f"a rate of {false_positive_rate} is not between 0 and 1", field="false_positive_rate"
        )
    exact = -capacity * math.log(false_positive_rate) / math.log(2) ** 2
    bits = 8 * max(1, math.ceil(exact / 8))
    hashes = round(bits / capacity * math.log(2))
    return Sizing(bits, min(_MAX_HASHES, max(1, hashes)))


class BloomFilter:
    """A set that may say yes too often. One writer at a time; `sizing` never changes.

    `add` and `in` walk the same k places, each in a loop of its own: a generator for both would
    cost as much again as all the rest. The step is 1..m-1: a step of 0 would make one bit of all.
    """

    __slots__ = ("_bits", "_rounds", "_size", "added", "sizing")

    def __init__(self, sizing: Sizing) -> None:
        self.sizing = sizing
        self.added = 0
        """Calls of `add`, over all filters of a union: at least the number of different keys."""
        self._bits = bytearray(sizing.bits // 8)
        self._size = sizing.bits
        self._rounds = range(sizing.hashes)

    @classmethod
    def holding(cls, keys: Iterable[str], sizing: Sizing) -> BloomFilter:
        """A filter with these keys in it."""
        made = cls(sizing)
        for key in keys:
            made.add(key)
        return made

    def add(self, key: str) -> None:
        """Have `key` found from now on (I1). Cost: one hash, k bits."""
        size, bits = self._size, self._bits
        high, low = _halves(_digest(key.encode()))
        place, step = low % size, 1 + high % (size - 1)
        for _ in self._rounds:
            bits[place >> 3] |= _MASKS[place & 7]
            place = (place + step) % size
        self.added += 1

    def __contains__(self, key: str) -> bool:
        """False: surely never added. True: perhaps. Cost: one hash, at most k bits."""
        size, bits = self._size, self._bits
        high, low = _halves(_digest(key.encode()))
        place, step = low % size, 1 + high % (size - 1)
        for _ in self._rounds:
            if not bits[place >> 3] & _MASKS[place & 7]:
                return False
            place = (place + step) % size
        return True

    def fill_ratio(self) -> float:
        """The share 0..1 of bits that are set; about 0.5 at the capacity. Cost: O(m)."""
        return int.from_bytes(self._bits, "little").bit_count() / self.sizing.bits

    def union(self, other: BloomFilter) -> BloomFilter:
        """A new filter that finds what either finds (I4). Raises InvalidInput unless same size."""
        if self.sizing != other.sizing:
            raise InvalidInput(f"{self.sizing} and {other.sizing} do not join", field="sizing")
        made = BloomFilter(self.sizing)
        both = int.from_bytes(self._bits, "little") | int.from_bytes(other._bits, "little")
        made._bits[:] = both.to_bytes(len(made._bits), "little")
        made.added = self.added + other.added
        return made

    def to_bytes(self) -> bytes:
        """Header, bits, and an xxh3_64 over both. Same bytes on every machine."""
        header = _HEADER.pack(_MAGIC, self.sizing.bits, self.sizing.hashes, self.added)
        body = header + self._bits
        return body + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(body))

    @classmethod
    def from_bytes(cls, raw: bytes) -> BloomFilter:
        """The inverse of `to_bytes`. Raises CorruptData for bytes it did not make (I3)."""
        if len(raw) < _HEADER.size + _CHECKSUM.size or not raw.startswith(_MAGIC):
            raise CorruptData("these bytes are no Bloom filter")
        body = raw[: -_CHECKSUM.size]
        if _CHECKSUM.unpack_from(raw, len(body))[0] != xxhash.xxh3_64_intdigest(body):
            raise CorruptData("a Bloom filter's checksum does not fit its bytes")
        _, bits, hashes, added = _HEADER.unpack_from(body)
        if bits != 8 * (len(body) - _HEADER.size):
            raise CorruptData("a Bloom filter's length does not fit its header")
        try:
            made = cls(Sizing(bits, hashes))
        except InvalidInput as error:
            raise CorruptData("a Bloom filter's header is not readable") from error
        made._bits[:] = body[_HEADER.size :]
        made.added = added
        return made
