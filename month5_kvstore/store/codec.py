"""Plain values as bytes: integers, bytes, text, tuples, and records of known types.

Self-describing, so that a newer version may add fields at the end of a record: a reader of an
older one takes the defaults. Same value, same bytes. Layout: docs/formats/store-snapshot.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from scalelab.errors import CorruptData

_DEPTH_MAX = 16
_INT = struct.Struct("<bq")
_SIZED = struct.Struct("<bI")
_RECORD = struct.Struct("<bBB")
_NONE, _FALSE, _TRUE, _NUMBER, _BYTES, _TEXT, _TUPLE, _OBJECT = range(8)
_SINGLES: dict[int, Any] = {_NONE: None, _FALSE: False, _TRUE: True}


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
        self._names: dict[type[Any], tuple[int, tuple[str, ...]]] = {
            kind: (number, _field_names(kind)) for number, kind in types.items()
        }

    def encode(self, value: object) -> bytes:
        """Bytes of a value. Raises TypeError for one of an unknown type: a mistake of ours."""
        parts: list[bytes] = []
        self._write(value, parts)
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

    def _write(self, value: object, parts: list[bytes]) -> None:
        known = self._names.get(type(value))
        if known is not None:
            number, names = known
            parts.append(_RECORD.pack(_OBJECT, number, len(names)))
            for name in names:
                self._write(getattr(value, name), parts)
        elif value is None:
            parts.append(b"\x00")
        elif isinstance(value, bool):
            parts.append(b"\x02" if value else b"\x01")
        elif isinstance(value, int):
            parts.append(_INT.pack(_NUMBER, value))
        elif isinstance(value, bytes):
            parts += (_SIZED.pack(_BYTES, len(value)), value)
        elif isinstance(value, str):
            text = value.encode()
            parts += (_SIZED.pack(_TEXT, len(text)), text)
        elif isinstance(value, tuple):
            parts.append(_SIZED.pack(_TUPLE, len(value)))  # pyright: ignore[reportUnknownArgumentType] - any tuple
            for one in value:  # pyright: ignore[reportUnknownVariableType] - any tuple
                self._write(one, parts)  # pyright: ignore[reportUnknownArgumentType] - any tuple
        else:
            raise TypeError(f"{type(value).__name__} has no bytes")

    def _read(self, data: bytes, at: int, depth: int) -> tuple[Any, int]:
        if depth > _DEPTH_MAX:
            raise ValueError("nested too deep")
        tag = data[at]
        if tag in _SINGLES:
            return _SINGLES[tag], at + 1
        if tag == _NUMBER:
            return _INT.unpack_from(data, at)[1], at + _INT.size
        if tag == _OBJECT:
            return self._read_record(data, at, depth)
        size: int = _SIZED.unpack_from(data, at)[1]
        at += _SIZED.size
        if tag == _TUPLE:
            items: list[Any] = []
            for _ in range(size):
                item, at = self._read(data, at, depth + 1)
                items.append(item)
            return tuple(items), at
        if tag not in (_BYTES, _TEXT) or at + size > len(data):
            raise ValueError(f"tag {tag} at byte {at}")
        part = data[at : at + size]
        return part if tag == _BYTES else part.decode(), at + size

    def _read_record(self, data: bytes, at: int, depth: int) -> tuple[Any, int]:
        _, number, count = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        values: list[Any] = []
        for _ in range(count):
            value, at = self._read(data, at, depth + 1)
            values.append(value)
        return self._types[number](*values), at


def _field_names(kind: type[Any]) -> tuple[str, ...]:
    names: tuple[str, ...] | None = getattr(kind, "_fields", None)
    return names or tuple(field.name for field in fields(kind))
