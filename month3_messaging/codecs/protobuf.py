"""Protobuf's wire format over plain mappings: numbered fields, unknown ones skipped.

Theory of operation
    A message is a sequence of (key, value); a key holds the field's number and one of four wire
    types, which is all a reader needs to step over a field that it does not know. No name and no
    type is on the wire. Numbers in a `repeated` field stand packed under one key.

Invariants (tests cite them)
    P1  Bytes are those of the official library for the same message; each reads the other's.
    P2  A field that the reader does not know changes nothing that it does know.
    P3  A field that is not there is its type's zero, None if optional, empty if repeated.

Absent on purpose: maps, oneof, groups, enums, fixed and unsigned integers, code generation;
unknown fields are dropped, not carried on. Differs in: a known field with another wire type is an
error; the official library puts it with the unknown ones.
Source: Protocol Buffers, "Encoding" and "proto3".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from month3_messaging.codecs import wire
from month3_messaging.codecs.errors import WrongSchema
from scalelab.errors import InvalidInput

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""

_NUMBER_MAX = (1 << 29) - 1
_RESERVED_BY_PROTOBUF = range(19_000, 20_000)
_DOUBLE = struct.Struct("<d")
_INT64 = range(-(1 << 63), 1 << 63)


class Kind(StrEnum):
    """Type of a field's value. int64: two's complement; sint64: zigzag."""

    STRING = "string"
    BYTES = "bytes"
    INT64 = "int64"
    SINT64 = "sint64"
    BOOL = "bool"
    DOUBLE = "double"
    MESSAGE = "message"


class Label(StrEnum):
    """single: zero is not written, and cannot be told from absence. optional: it can."""

    SINGLE = "single"
    OPTIONAL = "optional"
    REPEATED = "repeated"


WIRE_TYPES: Mapping[Kind, int] = {
    Kind.STRING: LENGTH,
    Kind.BYTES: LENGTH,
    Kind.INT64: VARINT,
    Kind.SINT64: VARINT,
    Kind.BOOL: VARINT,
    Kind.DOUBLE: FIXED64,
    Kind.MESSAGE: LENGTH,
}
"""How each kind stands on the wire when it is not packed."""

_ZEROS: Mapping[Kind, object] = {
    Kind.STRING: "",
    Kind.BYTES: b"",
    Kind.INT64: 0,
    Kind.SINT64: 0,
    Kind.BOOL: False,
    Kind.DOUBLE: 0.0,
}


@dataclass(frozen=True, slots=True)
class Field:
    """number: what stands for the field, for ever. name: for people. message: of that kind."""

    number: int
    name: str
    kind: Kind
    label: Label = Label.SINGLE
    message: MessageType | None = None


@dataclass(frozen=True, slots=True)
class MessageType:
    """reserved: numbers of fields that were, which no field may have again.

    Raises InvalidInput if numbers or names repeat, or a number is reserved or out of range.
    """

    name: str
    fields: tuple[Field, ...]
    reserved: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Check the numbers."""
        numbers = [field.number for field in self.fields]
        names = [field.name for field in self.fields]
        if len(set(numbers)) < len(numbers) or len(set(names)) < len(names):
            raise InvalidInput(f"{self.name} has a number or a name twice", field="fields")
        for field in self.fields:
            number = field.number
            if not 1 <= number <= _NUMBER_MAX or number in _RESERVED_BY_PROTOBUF:
                raise InvalidInput(f"{self.name} may not use the number {number}", field=field.name)
            if number in self.reserved:
                raise InvalidInput(f"{self.name} reserved the number {number}", field=field.name)
            if (field.kind is Kind.MESSAGE) != (field.message is not None):
                raise InvalidInput(
                    f"{field.name} needs a message's kind and type", field=field.name
                )


def encode(message: MessageType, data: Mapping[str, object]) -> bytes:
    """The bytes of `data`, fields in the order of their numbers: equal data are equal bytes.

    Raises InvalidInput for a value of another type and for a name that is no field's.
    """
    names = {field.name for field in message.fields}
    for name in data:
        if name not in names:
            raise InvalidInput(f"{message.name} has no field {name!r}", field=name)
    out = bytearray()
    for field in sorted(message.fields, key=lambda field: field.number):
        value = data.get(field.name)
        if field.label is Label.REPEATED:
            _append_repeated(out, field, value)
        elif value is not None:
            _append_single(out, field, value)
    return bytes(out)


def decode(message: MessageType, value: bytes) -> dict[str, object]:
    """The message's fields by name, every one of them (P3).

    Raises WrongSchema if the bytes end early or a field stands there as another wire type, and
    InvalidUtf8. Cost: O(bytes); a message nests no deeper than its type.
    """
    known = {field.number: field for field in message.fields}
    found: dict[str, object] = {field.name: _absent(field) for field in message.fields}
    reader = wire.Reader(value)
    while reader.left:
        key = reader.varint()
        number, wire_type = key >> 3, key & 7
        if number == 0:
            raise WrongSchema(f"{message.name}: field number 0")
        field = known.get(number)
        if field is None:
            _skip(reader, wire_type)
        elif field.label is Label.REPEATED:
            items = cast("list[object]", found[field.name])
            items.extend(_read_repeated(reader, field, wire_type))
        else:
            found[field.name] = _read(reader, field, wire_type)
    return found


def _absent(field: Field) -> object:
    if field.label is Label.REPEATED:
        return []
    return None if field.label is Label.OPTIONAL else _ZEROS.get(field.kind)


def _append_single(out: bytearray, field: Field, value: object) -> None:
    payload = _payload(field, value)
    # A payload of zeros alone is the kind's zero; -0.0 is none.
    if field.label is Label.SINGLE and field.kind is not Kind.MESSAGE and not any(payload):
        return
    wire.append_varint(out, field.number << 3 | WIRE_TYPES[field.kind])
    out += payload


def _append_repeated(out: bytearray, field: Field, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, list | tuple):
        raise InvalidInput(f"{field.name} is no sequence", field=field.name)
    payloads = [_payload(field, item) for item in cast("Iterable[object]", value)]
    if not payloads:
        return
    if WIRE_TYPES[field.kind] != LENGTH:
        wire.append_varint(out, field.number << 3 | LENGTH)
        wire.append_bytes(out, b"".join(payloads))
        return
    for payload in payloads:
        wire.append_varint(out, field.number << 3 | LENGTH)
        out += payload


def _payload(field: Field, value: object) -> bytes:
    """The value as it stands behind its key."""
    out = bytearray()
    match field.kind, value:
        case Kind.STRING, str():
            wire.append_bytes(out, wire.to_utf8(value))
        case Kind.BYTES, bytes():
            wire.append_bytes(out, value)
        case Kind.BOOL, bool():
            wire.append_varint(out, int(value))
        case Kind.INT64 | Kind.SINT64, int() if not isinstance(value, bool) and value in _INT64:
            signed = field.kind is Kind.SINT64
            wire.append_varint(out, wire.zigzag(value) if signed else wire.to_unsigned(value))
        case Kind.DOUBLE, float() | int() if not isinstance(value, bool):
            out += _DOUBLE.pack(value)
        case Kind.MESSAGE, Mapping() if field.message is not None:
            wire.append_bytes(out, encode(field.message, cast("Mapping[str, object]", value)))
        case _:
            shown = type(value).__name__
            raise InvalidInput(f"{field.name} is a {field.kind}, not {shown}", field=field.name)
    return bytes(out)


def _read(reader: wire.Reader, field: Field, wire_type: int) -> object:
    if wire_type != WIRE_TYPES[field.kind]:
        raise WrongSchema(f"field {field.number} ({field.name}) has wire type {wire_type}")
    match field.kind:
        case Kind.INT64:
            return wire.to_signed(reader.varint())
        case Kind.SINT64:
            return wire.unzigzag(reader.varint())
        case Kind.BOOL:
            return reader.varint() != 0
        case Kind.DOUBLE:
            return cast("float", _DOUBLE.unpack(reader.take(8))[0])
        case Kind.STRING:
            return wire.to_text(reader.take(reader.varint()))
        case Kind.BYTES:
            return reader.take(reader.varint())
        case Kind.MESSAGE:
            assert field.message is not None
            return decode(field.message, reader.take(reader.varint()))


def _read_repeated(reader: wire.Reader, field: Field, wire_type: int) -> list[object]:
    """One item, or several that are packed; both forms are legal for numbers."""
    own = WIRE_TYPES[field.kind]
    if own == LENGTH or wire_type != LENGTH:
        return [_read(reader, field, wire_type)]
    packed = wire.Reader(reader.take(reader.varint()))
    items: list[object] = []
    while packed.left:
        items.append(_read(packed, field, own))
    return items


def _skip(reader: wire.Reader, wire_type: int) -> None:
    match wire_type:
        case 0:
            reader.varint()
        case 1:
            reader.take(8)
        case 2:
            reader.take(reader.varint())
        case 5:
            reader.take(4)
        case _:
            raise WrongSchema(f"wire type {wire_type} is none")
