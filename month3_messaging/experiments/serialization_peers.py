"""The formats' own libraries behind plain functions; what their stubs leave open ends here."""

from __future__ import annotations

import io
from typing import Any, cast

import fastavro
import msgpack  # pyright: ignore[reportMissingTypeStubs]
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from month3_messaging.codecs import Kind, Label, MessageType

_FieldProto = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    Kind.STRING: _FieldProto.TYPE_STRING,
    Kind.BYTES: _FieldProto.TYPE_BYTES,
    Kind.INT64: _FieldProto.TYPE_INT64,
    Kind.SINT64: _FieldProto.TYPE_SINT64,
    Kind.BOOL: _FieldProto.TYPE_BOOL,
    Kind.DOUBLE: _FieldProto.TYPE_DOUBLE,
    Kind.MESSAGE: _FieldProto.TYPE_MESSAGE,
}

_avro: Any = fastavro
_messagepack: Any = msgpack


def write_messagepack(value: object) -> bytes:
    """Plain values as MessagePack."""
    return cast("bytes", _messagepack.packb(value))


def read_messagepack(value: bytes) -> object:
    """The plain values in it."""
    return _messagepack.unpackb(value)


class AvroLibrary:
    """fastavro with one schema."""

    def __init__(self, schema: object) -> None:
        self._schema = _avro.parse_schema(schema)

    def write(self, value: object) -> bytes:
        """The bytes of a value."""
        out = io.BytesIO()
        _avro.schemaless_writer(out, self._schema, value)
        return out.getvalue()

    def read(self, value: bytes) -> object:
        """The value in bytes."""
        return _avro.schemaless_reader(io.BytesIO(value), self._schema, self._schema)


def message_class(message: MessageType) -> Any:
    """The library's class for a message type of ours; types of one name must be one type."""
    file = descriptor_pb2.FileDescriptorProto(name="peer.proto", package="peer", syntax="proto3")
    _declare(file, message)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"peer.{message.name}")
    return message_factory.GetMessageClass(found)


def _declare(file: descriptor_pb2.FileDescriptorProto, message: MessageType) -> None:
    declared = file.message_type.add(name=message.name)
    for field in message.fields:
        repeated = field.label is Label.REPEATED
        made = declared.field.add(
            name=field.name,
            number=field.number,
            type=_TYPES[field.kind],
            label=_FieldProto.LABEL_REPEATED if repeated else _FieldProto.LABEL_OPTIONAL,
        )
        if field.label is Label.OPTIONAL:
            made.proto3_optional = True
            made.oneof_index = len(declared.oneof_decl)
            declared.oneof_decl.add(name=f"_{field.name}")
        if field.message is not None:
            made.type_name = f".peer.{field.message.name}"
            if all(one.name != field.message.name for one in file.message_type):
                _declare(file, field.message)
