"""Messages as bytes and as JSON, held against Protocol Buffers' own library."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from month5_kvstore.etcd_api import Code, EtcdError
from month5_kvstore.etcd_api.json_mapping import parse, render
from month5_kvstore.etcd_api.messages import SCHEMA
from month5_kvstore.etcd_api.schema import Field, Kind, Message, MessageType
from month5_kvstore.etcd_api.wire import decode, encode

_PROTO = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    Kind.INT64: _PROTO.TYPE_INT64,
    Kind.UINT64: _PROTO.TYPE_UINT64,
    Kind.UINT32: _PROTO.TYPE_UINT32,
    Kind.BOOL: _PROTO.TYPE_BOOL,
    Kind.BYTES: _PROTO.TYPE_BYTES,
    Kind.TEXT: _PROTO.TYPE_STRING,
    Kind.CHOICE: _PROTO.TYPE_ENUM,
    Kind.PART: _PROTO.TYPE_MESSAGE,
}


def library() -> dict[str, Any]:
    """The same types as classes of the library.

    Its names of choices must be unique in their message; no message of ours has two that clash.
    """
    file = descriptor_pb2.FileDescriptorProto(name="held.proto", package="held", syntax="proto3")
    for kind in SCHEMA.types.values():
        told = file.message_type.add(name=kind.name)
        for one in kind.fields:
            label = _PROTO.LABEL_REPEATED if one.many else _PROTO.LABEL_OPTIONAL
            field = told.field.add(
                name=one.name, number=one.number, label=label, type=_SCALARS[one.kind]
            )
            if one.kind is Kind.PART:
                field.type_name = f".held.{one.of}"
            elif one.kind is Kind.CHOICE:
                field.type_name = f".held.{kind.name}.{one.name}_names"
                names = told.enum_type.add(name=f"{one.name}_names")
                for number, name in enumerate(one.names):
                    names.value.add(name=f"{name}", number=number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"held.{name}"))
        for name in SCHEMA.types
    }


LIBRARY = library()


def values(one: Field, depth: int) -> st.SearchStrategy[Any]:
    match one.kind:
        case Kind.INT64:
            return st.integers(-(1 << 63), (1 << 63) - 1)
        case Kind.UINT64:
            return st.integers(0, (1 << 64) - 1)
        case Kind.UINT32:
            return st.integers(0, (1 << 32) - 1)
        case Kind.BOOL:
            return st.booleans()
        case Kind.BYTES:
            return st.binary(max_size=200)
        case Kind.TEXT:
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
        case Kind.CHOICE:
            return st.integers(0, len(one.names) - 1)
        case Kind.PART:
            return messages(SCHEMA[one.of], depth + 1)


def messages(kind: MessageType, depth: int = 0) -> st.SearchStrategy[Message]:
    fields = [one for one in kind.fields if depth < 2 or one.kind is not Kind.PART]
    return st.fixed_dictionaries(
        {},
        optional={
            one.name: st.lists(values(one, depth), max_size=2) if one.many else values(one, depth)
            for one in fields
        },
    )


types = st.sampled_from(sorted(SCHEMA.types))
named = types.flatmap(lambda name: st.tuples(st.just(name), messages(SCHEMA[name])))


def theirs(name: str, message: Message) -> Any:
    return json_format.ParseDict(json.loads(render(SCHEMA, SCHEMA[name], message)), LIBRARY[name]())


@given(named)
@settings(max_examples=60)
def test_bytes_are_those_that_the_library_writes(case: tuple[str, Message]) -> None:
    name, message = case
    ours = encode(SCHEMA, SCHEMA[name], message)
    assert ours == theirs(name, message).SerializeToString(deterministic=True)


@given(named)
@settings(max_examples=60)
def test_what_the_library_wrote_is_read_as_it_was_meant(case: tuple[str, Message]) -> None:
    name, message = case
    kind = SCHEMA[name]
    read = decode(SCHEMA, kind, theirs(name, message).SerializeToString())
    assert render(SCHEMA, kind, read) == render(SCHEMA, kind, message)


@given(named, st.booleans())
@settings(max_examples=60)
def test_json_of_the_library_is_read_in_either_spelling(
    case: tuple[str, Message], original: bool
) -> None:
    name, message = case
    kind = SCHEMA[name]
    document = json_format.MessageToJson(
        theirs(name, message), preserving_proto_field_name=original
    )
    read = parse(SCHEMA, kind, document.encode())
    assert render(SCHEMA, kind, read) == render(SCHEMA, kind, message)


def test_a_field_that_nobody_knows_is_passed_over() -> None:
    newer = b"\xf8\x07\x01" + b"\xfa\x07\x02hi" + b"\xf9\x07" + bytes(8) + b"\xfd\x07" + bytes(4)
    known = encode(SCHEMA, SCHEMA["RangeRequest"], {"key": b"k", "limit": 3})
    assert decode(SCHEMA, SCHEMA["RangeRequest"], newer + known) == {"key": b"k", "limit": 3}


def test_a_choice_that_nobody_knows_is_refused() -> None:
    with pytest.raises(EtcdError):
        decode(SCHEMA, SCHEMA["RangeRequest"], b"\x28\x07")


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # a length is missing
        b"\x0a\x05k",  # shorter than its length
        b"\x18\xff",  # a number that does not end
        b"\x18" + b"\xff" * 11,  # a number that is too long
        b"\x0b",  # a wire type of old
        b"\x09\x00",  # a fixed number that ends early
    ],
)
def test_bytes_that_are_no_message_are_an_invalid_argument(data: bytes) -> None:
    with pytest.raises(EtcdError) as refused:
        decode(SCHEMA, SCHEMA["RangeRequest"], data)
    assert refused.value.status is Code.INVALID_ARGUMENT


@given(types, st.binary(max_size=60))
@settings(max_examples=100)
def test_any_bytes_are_a_message_or_refused(name: str, data: bytes) -> None:
    with contextlib.suppress(EtcdError):
        decode(SCHEMA, SCHEMA[name], data)


def test_a_message_that_nests_for_ever_is_refused() -> None:
    data = b""
    for _ in range(40):
        operation = b"\x22" + _length(data) + data
        data = b"\x12" + _length(operation) + operation
    with pytest.raises(EtcdError):
        decode(SCHEMA, SCHEMA["TxnRequest"], data)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"7",
        b"{",
        b"\xff",
        b'{"key": 5}',
        b'{"key": "a"}',
        b'{"key": "%%%%"}',
        b'{"limit": "1.5"}',
        b'{"limit": "--1"}',
        b'{"limit": true}',
        b'{"limit": 1e400}',
        b'{"limit": "9223372036854775808"}',
        b'{"sort_order": "UP"}',
        b'{"sort_order": 9}',
        b'{"keys_only": "yes"}',
        b"[" * 100_000,
        b'{"limit": ' + b"9" * 5000 + b"}",
    ],
)
def test_json_that_is_no_request_is_an_invalid_argument(body: bytes) -> None:
    with pytest.raises(EtcdError) as refused:
        parse(SCHEMA, SCHEMA["RangeRequest"], body)
    assert refused.value.status is Code.INVALID_ARGUMENT


def _length(data: bytes) -> bytes:
    out = bytearray()
    value = len(data)
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
