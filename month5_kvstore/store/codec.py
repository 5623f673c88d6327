"""Plain values as bytes: integers, bytes, text, tuples, and records of known types.

Self-describing, so that a newer version may add fields at the end of a record: a reader of an
older one takes the defaults. Same value, same bytes. Layout: docs/formats/store-snapshot.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from operator import attrgetter
from types import MappingProxyType
from typing import Any, cast

from scalelab.errors import CorruptData

_DEPTH_MAX = 16
_INT = struct.Struct("<bq")
_SIZED = struct.Struct("<bI")
_NUMBER_BEHIND = struct.Struct("<q")
_SIZE_BEHIND = struct.Struct("<I")
_TAG, _HEAD = 1, 3
"""Bytes before what a tag, or a record's head, announces."""

_NONE, _FALSE, _TRUE, _NUMBER, _BYTES, _TEXT, _TUPLE, _OBJECT = range(8)
_SINGLES = (None, False, True)
_Put = Callable[[bytes], None]
_type_of: Callable[[Any], type[Any]] = type


class Codec:
    """Writes and reads values. types: number (1..255) to record type: a dataclass or named tuple.

    An IntEnum is written as its number and read as an int; where a type does not take that, its
    entry in `makers` is called with the fields in its place.
    """

    def __init__(
        self,
        types: Mapping[int, type[Any]],
        makers: Mapping[type[Any], Callable[..., Any]] = MappingProxyType({}),
    ) -> None:
        self._types = {number: makers.get(kind, kind) for number, kind in types.items()}
        self._known: dict[type[Any], tuple[bytes, Callable[[Any], Iterable[Any]]]] = {
            kind: (bytes((_OBJECT, number, len(_field_names(kind)))), _fields_of(kind))
            for number, kind in types.items()
        }

    def encode(self, value: object) -> bytes:
        """Bytes of a value. Raises TypeError for one of an unknown type: a mistake of ours."""
        parts: list[bytes] = []
        self._write(value, parts.append)
        return b"".join(parts)

    def decode(self, data: bytes) -> Any:
        """The value. Raises CorruptData for bytes that `encode` did not write."""
        try:
            value, end = self._read(data, 0, 0)
        except (struct.error, ValueError, TypeError, KeyError, IndexError) as error:
            raise CorruptData(f"these bytes are no value: {error}") from error
        if end != len(data):
            raise CorruptData(f"{len(data) - end} bytes follow the value")
        return value

    def _write(self, value: Any, put: _Put) -> None:
        kind = _type_of(value)
        known = self._known.get(kind)
        if known is not None:
            head, fields_of = known
            put(head)
            self._write_all(fields_of(value), put)
        elif value is None:
            put(b"\x00")
        elif kind is bool:
            put(b"\x02" if value else b"\x01")
        elif isinstance(value, int):
            put(_INT.pack(_NUMBER, value))
        elif isinstance(value, bytes):
            put(_SIZED.pack(_BYTES, len(value)))
            put(value)
        elif isinstance(value, str):
            text = value.encode()
            put(_SIZED.pack(_TEXT, len(text)))
            put(text)
        elif isinstance(value, tuple):
            items = cast("tuple[Any, ...]", value)
            put(_SIZED.pack(_TUPLE, len(items)))
            self._write_all(items, put)
        else:
            raise TypeError(f"{kind.__name__} has no bytes")

    def _write_all(self, values: Iterable[Any], put: _Put) -> None:
        """One after the other. What most fields are is written here, without a call."""
        for value in values:
            kind = _type_of(value)
            if kind is int:
                put(_INT.pack(_NUMBER, value))
            elif kind is bytes:
                put(_SIZED.pack(_BYTES, len(value)))
                put(value)
            else:
                self._write(value, put)

    def _read(self, data: bytes, at: int, depth: int) -> tuple[Any, int]:
        tag = data[at]
        if tag <= _TRUE:
            return _SINGLES[tag], at + _TAG
        if tag == _NUMBER:
            return _NUMBER_BEHIND.unpack_from(data, at + _TAG)[0], at + _INT.size
        if tag == _OBJECT:
            number, count = data[at + _TAG], data[at + _TAG + 1]
            values, at = self._read_all(data, at + _HEAD, count, depth)
            return self._types[number](*values), at
        size: int = _SIZE_BEHIND.unpack_from(data, at + _TAG)[0]
        at += _SIZED.size
        if tag == _TUPLE:
            items, at = self._read_all(data, at, size, depth)
            return tuple(items), at
        if tag not in (_BYTES, _TEXT) or at + size > len(data):
            raise ValueError(f"tag {tag} at byte {at}")
        part = data[at : at + size]
        return part if tag == _BYTES else part.decode(), at + size

    def _read_all(self, data: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
        """So many values, one level deeper. What most fields are is read here, without a call."""
        if count and depth >= _DEPTH_MAX:
            raise ValueError("nested too deep")
        values: list[Any] = []
        for _ in range(count):
            tag = data[at]
            if tag == _NUMBER:
                values.append(_NUMBER_BEHIND.unpack_from(data, at + _TAG)[0])
                at += _INT.size
            elif tag <= _TRUE:
                values.append(_SINGLES[tag])
                at += _TAG
            else:
                value, at = self._read(data, at, depth + 1)
                values.append(value)
        return values, at


def _field_names(kind: type[Any]) -> tuple[str, ...]:
    names: tuple[str, ...] | None = getattr(kind, "_fields", None)
    return names or tuple(field.name for field in fields(kind))


def _fields_of(kind: type[Any]) -> Callable[[Any], Iterable[Any]]:
    """The values of a record's fields, in order."""
    if issubclass(kind, tuple):
        return iter
    names = _field_names(kind)
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: [getattr(value, name) for name in names]
