"""pgoutput: the messages of PostgreSQL's logical replication, protocol version 1. Pure.

    R  relation   id, name, columns                 before the first row of a table in a session
    B  begin      final LSN                         a transaction, in the order of commits
    I  insert     new row
    U  update     (old key or row), new row         the old key only where it changed
    D  delete     old key or row
    T  truncate   tables
    M  message    prefix, content                   pg_logical_emit_message
    C  commit     end LSN

Values are text as `column::text` shows them, None for NULL; UNCHANGED marks a large value that the
update did not touch and the log therefore does not have.
Source: PostgreSQL documentation, "Logical Replication Message Formats".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from scalelab.errors import CorruptData


class Untouched(Enum):
    """The one value that is no value."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Untouched.UNCHANGED
Value = str | None | Untouched
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the following rows of it are laid out. keys: columns of its replica identity."""

    id: int
    name: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """final_lsn: of the commit to come."""

    final_lsn: int


@dataclass(frozen=True, slots=True)
class Commit:
    """end_lsn: just after the commit; a reader that has it needs nothing before it."""

    end_lsn: int


@dataclass(frozen=True, slots=True)
class Insert:
    relation: int
    new: Row


@dataclass(frozen=True, slots=True)
class Update:
    """old: the former key (others None) or the former row; None where the key did not change."""

    relation: int
    old: Row | None
    new: Row


@dataclass(frozen=True, slots=True)
class Delete:
    relation: int
    old: Row


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """A message put into the log by pg_logical_emit_message."""

    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Other:
    """Origins and types: nothing a copy of rows needs."""

    kind: str


Message = Relation | Begin | Commit | Insert | Update | Delete | Truncate | Said | Other


def decode(data: bytes) -> Message:
    """The message in `data`. Raises CorruptData for what is none."""
    try:
        return _decode(data)
    except (struct.error, IndexError, ValueError) as error:
        raise CorruptData(f"no pgoutput message: {data[:16]!r}…") from error


def _decode(data: bytes) -> Message:
    match data[:1]:
        case b"B":
            return Begin(_int64(data, 1))
        case b"C":
            return Commit(_int64(data, 10))
        case b"R":
            return _relation(data)
        case b"I":
            return Insert(_int32(data, 1), _row(data, 6)[0])
        case b"U":
            return _update(data)
        case b"D":
            return Delete(_int32(data, 1), _row(data, 6)[0])
        case b"T":
            count = _int32(data, 1)
            return Truncate(struct.unpack_from(f">{count}I", data, 6))
        case b"M":
            prefix, at = _text(data, 10)
            size = _int32(data, at)
            return Said(prefix, data[at + 4 : at + 4 + size])
        case b"O" | b"Y":
            return Other(data[:1].decode())
        case kind:
            raise ValueError(f"unknown kind {kind!r}")


def _relation(data: bytes) -> Relation:
    _schema, at = _text(data, 5)
    name, at = _text(data, at)
    (count,) = struct.unpack_from(">H", data, at + 1)
    at += 3
    columns: list[str] = []
    keys: list[str] = []
    for _ in range(count):
        is_key = data[at] == 1
        column, at = _text(data, at + 1)
        at += 8
        columns.append(column)
        if is_key:
            keys.append(column)
    return Relation(_int32(data, 1), name, tuple(columns), tuple(keys))


def _update(data: bytes) -> Update:
    old: Row | None = None
    at = 5
    if data[at : at + 1] in (b"K", b"O"):
        old, at = _row(data, at + 1)
    if data[at : at + 1] != b"N":
        raise ValueError("an update without its new row")
    return Update(_int32(data, 1), old, _row(data, at + 1)[0])


def _row(data: bytes, at: int) -> tuple[Row, int]:
    (count,) = struct.unpack_from(">H", data, at)
    at += 2
    values: list[Value] = []
    for _ in range(count):
        kind = data[at]
        at += 1
        if kind == 0x74:  # t
            size = _int32(data, at)
            at += 4
            if at + size > len(data):
                raise ValueError("a value beyond the end")
            values.append(data[at : at + size].decode())
            at += size
        elif kind == 0x6E:  # n
            values.append(None)
        elif kind == 0x75:  # u
            values.append(UNCHANGED)
        else:
            raise ValueError(f"a value of kind {kind}")
    return tuple(values), at


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode(), end + 1


def _int32(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def _int64(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">Q", data, at)[0])
