"""Avro's binary encoding: values one after another, with nothing in between that names them.

Theory of operation
    Bytes without their schema mean nothing: no names, no numbers, no types. So a reader needs the
    schema that *wrote* them, and lays its own over it while it reads: fields meet by name or alias,
    what only the writer has is read and dropped, what only the reader has takes its default, and
    numbers are widened.

Invariants (tests cite them)
    V1  Bytes are those of fastavro for the same value; each reads the other's.
    V2  What `reading_problems` (avro_evolution.py) finds nothing against is read without error.
    V3  A value takes no more room than its bytes allow: an item has at least one.

Absent on purpose: container files, blocks with sizes, compression.
Source: Apache Avro 1.11 specification, "Binary encoding" and "Schema resolution".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from copy import deepcopy
from typing import TypeVar, cast

from month3_messaging.codecs import wire
from month3_messaging.codecs.avro_schema import (
    INT,
    Array,
    Enum,
    Primitive,
    Record,
    RecordField,
    Schema,
    Union,
    fits,
)
from month3_messaging.codecs.errors import WrongSchema
from scalelab.errors import InvalidInput

WIDER: Mapping[str, frozenset[str]] = {
    "int": frozenset({"long", "double"}),
    "long": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
"""What a primitive of the writer may be to a reader, besides itself."""

_T = TypeVar("_T")
_DOUBLE = struct.Struct("<d")


def encode(schema: Schema, value: object) -> bytes:
    """The bytes of a value. Raises InvalidInput naming the field that does not fit the schema."""
    out = bytearray()
    _write(out, schema, value, "value")
    return bytes(out)


def decode(writer: Schema, reader: Schema, data: bytes) -> object:
    """The value as `reader` sees it, of bytes that `writer` wrote.

    Raises WrongSchema if the bytes are not the writer's, or the two schemas do not meet at what
    stands there; InvalidUtf8.
    """
    source = wire.Reader(data)
    value = _read(source, writer, reader)
    if source.left:
        raise WrongSchema(f"{source.left} bytes behind the value")
    return value


def _write(out: bytearray, schema: Schema, value: object, path: str) -> None:
    if not fits(schema, value):
        raise InvalidInput(f"{path} is no value of its schema: {type(value).__name__}", field=path)
    match schema:
        case Primitive(kind):
            _write_primitive(out, kind, value)
        case Enum(_, symbols):
            wire.append_varint(out, wire.zigzag(symbols.index(cast("str", value))))
        case Array(items):
            _write_array(out, items, cast("list[object]", value), path)
        case Union(branches):
            number = next(n for n, branch in enumerate(branches) if fits(branch, value))
            wire.append_varint(out, wire.zigzag(number))
            _write(out, branches[number], value, path)
        case Record():
            _write_record(out, schema, cast("Mapping[str, object]", value), path)


def _write_array(out: bytearray, items: Schema, value: list[object], path: str) -> None:
    if value:
        wire.append_varint(out, wire.zigzag(len(value)))
    for number, item in enumerate(value):
        _write(out, items, item, f"{path}[{number}]")
    wire.append_varint(out, 0)


def _write_record(out: bytearray, schema: Record, value: Mapping[str, object], path: str) -> None:
    unknown = value.keys() - {field.name for field in schema.fields}
    if unknown:
        raise InvalidInput(f"{schema.name} has no field {min(unknown)!r}", field=min(unknown))
    for field in schema.fields:
        inner = value[field.name] if field.name in value else field.default[0]
        _write(out, field.schema, inner, f"{path}.{field.name}")


def _write_primitive(out: bytearray, kind: str, value: object) -> None:
    match kind:
        case "boolean":
            out.append(int(cast("bool", value)))
        case "int" | "long":
            wire.append_varint(out, wire.zigzag(cast("int", value)))
        case "double":
            out += _DOUBLE.pack(cast("float", value))
        case "string":
            wire.append_varint(out, wire.zigzag(len(text := wire.to_utf8(cast("str", value)))))
            out += text
        case "bytes":
            wire.append_varint(out, wire.zigzag(len(cast("bytes", value))))
            out += cast("bytes", value)
        case _:  # null has no bytes
            pass


def _read(source: wire.Reader, writer: Schema, reader: Schema) -> object:
    """One value; the two schemas go down together."""
    if isinstance(writer, Union):
        return _read(source, _chosen(source, writer.branches, "a union's branch"), reader)
    if isinstance(reader, Union):
        return _read(source, writer, branch_for(writer, reader))
    match writer, reader:
        case Primitive(written), Primitive(wanted):
            return _read_primitive(source, written, wanted)
        case Enum(_, symbols), Enum(name, known, default):
            symbol = _chosen(source, symbols, "a symbol")
            if symbol in known:
                return symbol
            if default is None:
                raise WrongSchema(f"{name} has no symbol {symbol!r}")
            return default
        case Array(written), Array(wanted):
            return _read_array(source, written, wanted)
        case Record(), Record():
            return _read_record(source, writer, reader)
        case _:
            raise WrongSchema(f"{writer} is not what {reader} reads")


def branch_for(writer: Schema, reader: Union) -> Schema:
    """The reader's branch for what was written: of the same kind, else the first wider one.

    Raises WrongSchema if there is none.
    """
    for branch in reader.branches:
        if type(branch) is type(writer) and (not isinstance(writer, Primitive) or branch == writer):
            return branch
    wider = WIDER.get(writer.kind, ()) if isinstance(writer, Primitive) else ()
    for branch in reader.branches:
        if isinstance(branch, Primitive) and branch.kind in wider:
            return branch
    raise WrongSchema(f"none of {reader.branches} reads {writer}")


def _chosen(source: wire.Reader, choices: tuple[_T, ...], what: str) -> _T:
    number = wire.unzigzag(source.varint())
    if not 0 <= number < len(choices):
        raise WrongSchema(f"{what} has the number {number} of {len(choices)}")
    return choices[number]


def _read_primitive(source: wire.Reader, written: str, wanted: str) -> object:
    if wanted != written and wanted not in WIDER.get(written, ()):
        raise WrongSchema(f"a {written} is not what a reader of {wanted} takes")
    match written:
        case "null":
            return None
        case "boolean":
            flag = source.take(1)[0]
            if flag > 1:
                raise WrongSchema(f"a boolean of {flag}")
            return flag == 1
        case "int" | "long":
            number = wire.unzigzag(source.varint())
            if written == "int" and number not in INT:
                raise WrongSchema(f"an int of {number}")
            return float(number) if wanted == "double" else number
        case "double":
            return cast("float", _DOUBLE.unpack(source.take(8))[0])
        case _:
            raw = source.take(wire.unzigzag(source.varint()))
            return wire.to_text(raw) if wanted == "string" else raw


def _read_array(source: wire.Reader, written: Schema, wanted: Schema) -> list[object]:
    items: list[object] = []
    while count := wire.unzigzag(source.varint()):
        if count < 0:  # a block that tells its size, for readers who skip it
            count = -count
            wire.unzigzag(source.varint())
        if count > source.left:
            raise WrongSchema(f"{count} items in {source.left} bytes")
        items.extend(_read(source, written, wanted) for _ in range(count))
    return items


def _read_record(source: wire.Reader, writer: Record, reader: Record) -> dict[str, object]:
    wanted = meeting(writer, reader)
    found: dict[str, object] = {}
    for field in writer.fields:
        own = wanted.get(field.name)
        if own is None:
            _read(source, field.schema, field.schema)
        else:
            found[own.name] = _read(source, field.schema, own.schema)
    for field in reader.fields:
        if field.name not in found:
            if not field.default:
                raise WrongSchema(f"{writer.name} was written without {field.name}")
            found[field.name] = deepcopy(field.default[0])
    return found


def meeting(writer: Record, reader: Record) -> dict[str, RecordField]:
    """The reader's field for each of the writer's names: the same name first, then an alias."""
    met = {field.name: field for field in reader.fields}
    written = {field.name for field in writer.fields}
    for field in reader.fields:
        if field.name not in written:
            met.update({alias: field for alias in field.aliases if alias in written})
    return {name: field for name, field in met.items() if name in written}
