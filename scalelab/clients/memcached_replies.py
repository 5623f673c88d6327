"""Memcached's text answers, from bytes as they arrive. Pure.

A reply is one line (`STORED`, `NOT_FOUND`, `SERVER_ERROR …`), or the items of a `gets`: any number
of `VALUE key flags bytes cas` with their data, ended by `END`. A piece of a reply waits for the
rest. Bytes that can be no reply raise CorruptData; the connection is then of no more use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from scalelab.errors import CorruptData

_END_OF_LINE = b"\r\n"
_LONGEST_LINE = 2048


@dataclass(frozen=True, slots=True)
class Item:
    """A stored item. cas: changes with every store of the key; give it back to compare."""

    value: bytes
    cas: int


Items: TypeAlias = dict[bytes, Item]
Reply: TypeAlias = bytes | Items


class ReplyReader:
    """Feed it bytes, get whole replies in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._items: Items = {}
        self._wanted: tuple[bytes, int, int] | None = None  # key, length and cas of coming data

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that are complete now. Cost: O(bytes)."""
        self._buffer += data
        replies: list[Reply] = []
        at = 0
        while True:
            if self._wanted is not None:
                at, is_whole = self._take_data(at)
                if not is_whole:
                    break
            end = self._buffer.find(_END_OF_LINE, at)
            if end < 0:
                if len(self._buffer) - at > _LONGEST_LINE:
                    raise CorruptData("Memcached sent a line without an end")
                break
            line = bytes(self._buffer[at:end])
            at = end + 2
            if line.startswith(b"VALUE "):
                self._wanted = _value_header(line)
            elif line == b"END":
                replies.append(self._items)
                self._items = {}
            else:
                replies.append(line)
        del self._buffer[:at]
        return replies

    def _take_data(self, at: int) -> tuple[int, bool]:
        """Where to go on, and whether the data that was announced is there."""
        assert self._wanted is not None
        key, length, cas = self._wanted
        end = at + length
        if len(self._buffer) < end + 2:
            return at, False
        if not self._buffer.startswith(_END_OF_LINE, end):
            raise CorruptData("Memcached's data does not end where it said")
        self._items[key] = Item(bytes(self._buffer[at:end]), cas)
        self._wanted = None
        return end + 2, True


def _value_header(line: bytes) -> tuple[bytes, int, int]:
    try:
        _, key, _flags, length, cas = line.split(b" ")
        return key, int(length), int(cas)
    except ValueError as error:
        raise CorruptData("Memcached's VALUE line is not readable") from error
