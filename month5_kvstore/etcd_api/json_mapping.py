"""Messages as JSON: bytes are base64, 64-bit numbers are strings, choices are names.

What has its default is not written. Both spellings of a name are read (`range_end`, `rangeEnd`),
numbers as such or as strings, choices by name or value; an unknown name is passed over.
Source: the JSON mapping of Protocol Buffers, with field names as etcd's gateway writes them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, cast

from month5_kvstore.etcd_api.errors import malformed
from month5_kvstore.etcd_api.schema import Field, Kind, Message, MessageType, Schema
from scalelab.web.json_depth import nests_deeper_than

_DEPTH_MAX = 32
_DIGITS = re.compile("-?[0-9]{1,20}")
_BOUNDS = {
    Kind.INT64: (-(1 << 63), (1 << 63) - 1),
    Kind.UINT64: (0, (1 << 64) - 1),
    Kind.UINT32: (0, (1 << 32) - 1),
}


def parse(schema: Schema, kind: MessageType, body: bytes) -> Message:
    """The message of a request's body. Raises EtcdError (INVALID_ARGUMENT): why it is none."""
    if nests_deeper_than(body, _DEPTH_MAX):
        raise malformed("the body nests too deep")
    try:
        document: object = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise malformed("the body is not JSON") from error
    return from_json(schema, kind, document)


def render(schema: Schema, kind: MessageType, message: Message) -> bytes:
    """The body of an answer."""
    return json_bytes(to_json(schema, kind, message))


def json_bytes(document: dict[str, Any]) -> bytes:
    """An object without needless spaces."""
    return json.dumps(document, separators=(",", ":")).encode()


def to_json(schema: Schema, kind: MessageType, message: Message) -> dict[str, Any]:
    """A message as a JSON object."""
    document: dict[str, Any] = {}
    for one in kind.fields:
        value = message.get(one.name)
        if value is None or not (value or (one.kind is Kind.PART and not one.many)):
            continue
        if one.many:
            document[one.name] = [_told(schema, one, item) for item in value]
        else:
            document[one.name] = _told(schema, one, value)
    return document


def from_json(schema: Schema, kind: MessageType, document: object) -> Message:
    """A JSON object as a message. Raises EtcdError (INVALID_ARGUMENT) that names the field."""
    if not isinstance(document, dict):
        raise malformed(f"a {kind.name} is a JSON object")
    message: Message = {}
    for name, value in cast("dict[str, Any]", document).items():
        one = kind.by_name.get(name)
        if one is None or value is None:
            continue
        if not one.many:
            message[one.name] = _read(schema, one, value)
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            message[one.name] = [_read(schema, one, item) for item in items]
        else:
            raise malformed(f"{one.name} is a list")
    return message


def _told(schema: Schema, one: Field, value: Any) -> Any:
    match one.kind:
        case Kind.INT64 | Kind.UINT64:
            return str(value)
        case Kind.BYTES:
            return base64.b64encode(value).decode()
        case Kind.CHOICE:
            return one.names[int(value)]
        case Kind.PART:
            return to_json(schema, schema[one.of], value)
        case _:
            return value


def _read(schema: Schema, one: Field, value: Any) -> Any:
    match one.kind:
        case Kind.PART:
            return from_json(schema, schema[one.of], value)
        case Kind.BYTES if isinstance(value, str):
            return _bytes(one, value)
        case Kind.BOOL if value is True or value is False:
            return bool(value)
        case Kind.TEXT if isinstance(value, str):
            return str(value)
        case Kind.CHOICE:
            return _choice(one, value)
        case Kind.INT64 | Kind.UINT64 | Kind.UINT32:
            return _number(one, value)
        case _:
            raise malformed(f"{one.name} is not a {one.kind.value}")


def _bytes(one: Field, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise malformed(f"illegal base64 data in {one.name}") from error


def _choice(one: Field, value: object) -> int:
    if isinstance(value, str) and value in one.names:
        return one.names.index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(one.names):
        return value
    raise malformed(f"{one.name} is none of {', '.join(one.names)}")


def _number(one: Field, value: object) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    lowest, highest = _BOUNDS[one.kind]
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise malformed(f"{one.name} is not a number of kind {one.kind.value}")
    return value
