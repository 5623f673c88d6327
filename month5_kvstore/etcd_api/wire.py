"""Messages as Protocol Buffers write them: a tag of number and wire type before each value.

Wire types: 0 varint, 1 and 5 fixed 8 and 4 bytes, 2 length and bytes. What is not known is skipped,
as newer clients expect; what has its default is not written.
"""

from __future__ import annotations

from typing import Any

from month5_kvstore.etcd_api.errors import malformed
from month5_kvstore.etcd_api.schema import Field, Kind, Message, MessageType, Schema

_DEPTH_MAX = 16
_U64 = (1 << 64) - 1
_VARINTS = frozenset({Kind.INT64, Kind.UINT64, Kind.UINT32, Kind.BOOL, Kind.CHOICE})


def encode(schema: Schema, kind: MessageType, message: Message) -> bytes:
    """Bytes of a message, fields in the order of their type."""
    out = bytearray()
    for one in kind.fields:
        value = message.get(one.name)
        if value is None:
            continue
        if not one.many:
            if value or one.kind is Kind.PART:
                _write(schema, one, value, out)
        elif one.kind in _VARINTS and value:
            packed = bytearray()
            for item in value:
                _write_varint(int(item) & _U64, packed)
            _write_sized(one.number, packed, out)
        else:
            for item in value:
                _write(schema, one, item, out)
    return bytes(out)


def decode(schema: Schema, kind: MessageType, data: bytes, depth: int = 0) -> Message:
    """The message. Raises EtcdError (INVALID_ARGUMENT) for bytes that are none."""
    if depth > _DEPTH_MAX:
        raise malformed("the message nests too deep")
    message: Message = {}
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        one = kind.by_number.get(number)
        if wire == 0:
            value, at = _varint(data, at)
            if one is not None and one.kind in _VARINTS:
                _keep(message, one, _number(one, value))
        elif wire == 2:
            size, at = _varint(data, at)
            if size > end - at:
                raise malformed("the message ends early")
            part = data[at : at + size]
            at += size
            if one is not None:
                _keep_sized(schema, message, one, part, depth)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
            if at > end:
                raise malformed("the message ends early")
        else:
            raise malformed(f"there is no wire type {wire}")
    return message


def _write(schema: Schema, one: Field, value: Any, out: bytearray) -> None:
    if one.kind in _VARINTS:
        _write_varint(one.number << 3, out)
        _write_varint(int(value) & _U64, out)
    elif one.kind is Kind.BYTES:
        _write_sized(one.number, value, out)
    elif one.kind is Kind.TEXT:
        _write_sized(one.number, value.encode(), out)
    else:
        _write_sized(one.number, encode(schema, schema[one.of], value), out)


def _write_sized(number: int, data: bytes | bytearray, out: bytearray) -> None:
    _write_varint(number << 3 | 2, out)
    _write_varint(len(data), out)
    out += data


def _write_varint(value: int, out: bytearray) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise malformed("a number in the message does not end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _U64, at
        shift += 7


def _number(one: Field, value: int) -> int | bool:
    match one.kind:
        case Kind.BOOL:
            return bool(value)
        case Kind.UINT64:
            return value
        case Kind.UINT32:
            return value & 0xFFFFFFFF
        case Kind.CHOICE:
            if value >= len(one.names):
                raise malformed(f"{one.name} has no value {value}")
            return value
        case _:
            return value - (1 << 64) if value >> 63 else value


def _keep(message: Message, one: Field, value: Any) -> None:
    if one.many:
        message.setdefault(one.name, []).append(value)
    else:
        message[one.name] = value


def _keep_sized(schema: Schema, message: Message, one: Field, part: bytes, depth: int) -> None:
    if one.kind is Kind.BYTES:
        _keep(message, one, part)
    elif one.kind is Kind.TEXT:
        try:
            _keep(message, one, part.decode())
        except UnicodeDecodeError as error:
            raise malformed(f"{one.name} is not UTF-8") from error
    elif one.kind is Kind.PART:
        value = decode(schema, schema[one.of], part, depth + 1)
        if not one.many and one.name in message:
            value = {**message[one.name], **value}  # given twice: the two are one
        _keep(message, one, value)
    elif one.many:
        at = 0
        while at < len(part):
            number, at = _varint(part, at)
            _keep(message, one, _number(one, number))
