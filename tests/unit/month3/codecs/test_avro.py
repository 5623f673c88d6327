"""Avro's binary encoding beside fastavro (V1..V3), and bytes that are damaged."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.codecs import InvalidUtf8, Schema, WrongSchema, parse_schema
from month3_messaging.codecs.avro import decode, encode
from month3_messaging.experiments.serialization_peers import AvroLibrary
from scalelab.errors import InvalidInput

_TAGS = {"type": "array", "items": "string"}
EVERYTHING: dict[str, Any] = {
    "type": "record",
    "name": "Everything",
    "fields": [
        {"name": "flag", "type": "boolean"},
        {"name": "small", "type": "int"},
        {"name": "number", "type": "long"},
        {"name": "real", "type": "double"},
        {"name": "text", "type": "string"},
        {"name": "raw", "type": "bytes"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}},
        {
            "name": "points",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Point",
                    "fields": [{"name": "x", "type": "long"}, {"name": "tags", "type": _TAGS}],
                },
            },
        },
    ],
}
OURS = parse_schema(json.dumps(EVERYTHING))
THEIRS = AvroLibrary(EVERYTHING)

longs = st.integers(-(1 << 63), (1 << 63) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
everything = st.fixed_dictionaries(
    {
        "flag": st.booleans(),
        "small": st.integers(-(1 << 31), (1 << 31) - 1),
        "number": longs,
        "real": st.floats(allow_nan=False),
        "text": texts,
        "raw": st.binary(max_size=8),
        "note": st.none() | texts,
        "state": st.sampled_from(["NEW", "PAID"]),
        "points": st.lists(
            st.fixed_dictionaries({"x": longs, "tags": st.lists(texts, max_size=2)}), max_size=3
        ),
    }
)


@given(data=everything)
def test_the_bytes_are_fastavros(data: dict[str, Any]) -> None:
    """V1: and we read what it wrote."""
    theirs = THEIRS.write(data)
    assert encode(OURS, data) == theirs
    assert decode(OURS, OURS, theirs) == data


@given(data=st.binary(max_size=60))
def test_any_bytes_are_a_value_or_an_error_of_ours(data: bytes) -> None:
    """Damage has a code; nothing else escapes."""
    with contextlib.suppress(WrongSchema, InvalidUtf8):
        decode(OURS, OURS, data)


def test_an_array_cannot_claim_more_items_than_there_are_bytes() -> None:
    """V3: no room is made for a billion, and items without bytes are no schema."""
    flags = parse_schema('{"type": "array", "items": "boolean"}')
    billion = b"\x80\xa8\xd6\xb9\x07"
    with pytest.raises(WrongSchema, match="items in"):
        decode(flags, flags, billion + b"\x00")
    with pytest.raises(InvalidInput):
        parse_schema('{"type": "array", "items": "null"}')


def test_a_block_that_tells_its_size_is_read() -> None:
    """Other writers write them: a negative count, then the bytes."""
    longs_ = parse_schema('{"type": "array", "items": "long"}')
    assert decode(longs_, longs_, b"\x03\x04\x02\x04\x00") == [1, 2]


@pytest.mark.parametrize(
    ("schema", "data", "error"),
    [
        ('"string"', b"\x02\xff", InvalidUtf8),
        ('"string"', b"\x0aab", WrongSchema),
        ('"string"', b"\x01", WrongSchema),
        ('"boolean"', b"\x02", WrongSchema),
        ('"int"', b"\x80\x80\x80\x80\x20", WrongSchema),
        ('["null", "long"]', b"\x04", WrongSchema),
        ('"long"', b"\x02\x02", WrongSchema),
    ],
    ids=["not UTF-8", "cut", "length < 0", "boolean", "range", "branch", "rest"],
)
def test_damage_is_named(schema: str, data: bytes, error: type[Exception]) -> None:
    """Each with its own kind."""
    with pytest.raises(error):
        decode(parse_schema(schema), parse_schema(schema), data)


@pytest.mark.parametrize(
    "changed",
    [{"number": "1"}, {"small": 1 << 31}, {"flag": 1}, {"state": "LOST"}, {"points": [{}]}],
    ids=["type", "range", "bool", "symbol", "inside"],
)
def test_data_that_do_not_fit_are_refused(changed: dict[str, Any]) -> None:
    """And the place is named."""
    whole: dict[str, Any] = {
        "flag": True,
        "small": 1,
        "number": 1,
        "real": 1.0,
        "text": "",
        "raw": b"",
        "state": "NEW",
        "points": [],
    }
    assert encode(OURS, whole)
    with pytest.raises(InvalidInput) as told:
        encode(OURS, {**whole, **changed})
    assert (told.value.field or "").startswith(f"value.{next(iter(changed))}")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '"text"',
        '{"type": "map", "values": "int"}',
        '[["null"], "int"]',
        '["int", "int"]',
        '{"type": "enum", "name": "E", "symbols": ["A", "A"]}',
        '{"type": "record", "name": "R", "fields": [{"name": "a b", "type": "int"}]}',
        '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "R"}]}',
        '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "default": "x"}]}',
    ],
    ids=["json", "name", "map", "union", "twice", "symbols", "field", "itself", "default"],
)
def test_a_schema_that_makes_no_sense_is_refused(text: str) -> None:
    """Before anything is written with it."""
    with pytest.raises(InvalidInput):
        parse_schema(text)


def test_a_named_type_may_be_mentioned_again() -> None:
    """As the specification has it: declared once, then by name."""
    inner = '{"type": "enum", "name": "E", "symbols": ["A"]}'
    schema: Schema = parse_schema(
        '{"type": "record", "name": "R", "fields":'
        f' [{{"name": "a", "type": {inner}}}, {{"name": "b", "type": "E"}}]}}'
    )
    assert decode(schema, schema, encode(schema, {"a": "A", "b": "A"})) == {"a": "A", "b": "A"}
