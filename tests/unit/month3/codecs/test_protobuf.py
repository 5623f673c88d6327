"""Protobuf's wire format beside the official library (P1..P3), and bytes that are damaged."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.codecs import Field, InvalidUtf8, Kind, Label, MessageType, WrongSchema
from month3_messaging.codecs.protobuf import decode, encode
from month3_messaging.experiments.serialization_peers import message_class
from scalelab.errors import InvalidInput

_POINT = MessageType("Point", (Field(1, "x", Kind.SINT64), Field(2, "label", Kind.STRING)))
EVERYTHING = MessageType(
    "Everything",
    (
        Field(1, "text", Kind.STRING),
        Field(2, "raw", Kind.BYTES),
        Field(3, "number", Kind.INT64),
        Field(4, "folded", Kind.SINT64),
        Field(5, "flag", Kind.BOOL),
        Field(6, "real", Kind.DOUBLE),
        Field(7, "maybe", Kind.INT64, Label.OPTIONAL),
        Field(8, "numbers", Kind.INT64, Label.REPEATED),
        Field(9, "texts", Kind.STRING, Label.REPEATED),
        Field(1000, "points", Kind.MESSAGE, Label.REPEATED, _POINT),
    ),
)
PEER = message_class(EVERYTHING)

longs = st.integers(-(1 << 63), (1 << 63) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
everything = st.fixed_dictionaries(
    {
        "text": texts,
        "raw": st.binary(max_size=8),
        "number": longs,
        "folded": longs,
        "flag": st.booleans(),
        "real": st.floats(allow_nan=False),
        "maybe": st.none() | longs,
        "numbers": st.lists(longs, max_size=3),
        "texts": st.lists(texts, max_size=3),
        "points": st.lists(st.fixed_dictionaries({"x": longs, "label": texts}), max_size=3),
    }
)


def in_peer(data: dict[str, Any]) -> Any:
    """The library's message with these fields."""
    made = PEER(**{k: v for k, v in data.items() if k != "points" and v is not None})
    for point in data["points"]:
        made.points.add(**point)
    return made


@given(data=everything)
def test_the_bytes_are_the_librarys(data: dict[str, Any]) -> None:
    """P1: and we read what it wrote."""
    theirs = in_peer(data).SerializeToString(deterministic=True)
    assert encode(EVERYTHING, data) == theirs
    assert decode(EVERYTHING, theirs) == data


@given(data=everything)
def test_a_reader_steps_over_what_it_does_not_know(data: dict[str, Any]) -> None:
    """P2: whichever fields it knows."""
    few = MessageType("Few", tuple(f for f in EVERYTHING.fields if f.number in (2, 5, 8)))
    seen = decode(few, encode(EVERYTHING, data))
    assert seen == {name: data[name] for name in ("raw", "flag", "numbers")}


def test_nothing_at_all_is_a_message_of_zeros() -> None:
    """P3."""
    assert decode(EVERYTHING, b"") == {
        "text": "",
        "raw": b"",
        "number": 0,
        "folded": 0,
        "flag": False,
        "real": 0.0,
        "maybe": None,
        "numbers": [],
        "texts": [],
        "points": [],
    }


def test_an_optional_zero_is_told_from_absence() -> None:
    """P3: what `optional` is for."""
    assert decode(EVERYTHING, encode(EVERYTHING, {"maybe": 0}))["maybe"] == 0
    assert len(encode(EVERYTHING, {"number": 0})) == 0


def test_numbers_are_read_packed_or_not() -> None:
    """Older writers wrote a key before each."""
    assert decode(EVERYTHING, b"\x40\x01\x40\x02")["numbers"] == [1, 2]
    assert decode(EVERYTHING, b"\x42\x02\x01\x02")["numbers"] == [1, 2]


@given(data=st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error_of_ours(data: bytes) -> None:
    """Damage has a code; nothing else escapes."""
    with contextlib.suppress(WrongSchema, InvalidUtf8):
        decode(EVERYTHING, data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x08\x01", WrongSchema),  # a number where the text stands
        (b"\x0a\x05ab", WrongSchema),
        (b"\x0a\x01\xff", InvalidUtf8),
        (b"\x02\x00", WrongSchema),  # field number 0
        (b"\x5b", WrongSchema),  # a group
    ],
    ids=["wire type", "cut", "not UTF-8", "field 0", "group"],
)
def test_damage_is_named(data: bytes, error: type[Exception]) -> None:
    """Each with its own kind."""
    with pytest.raises(error):
        decode(EVERYTHING, data)


@pytest.mark.parametrize(
    "data",
    [{"number": "1"}, {"number": 1 << 63}, {"flag": 1}, {"texts": "ab"}, {"nobody": 1}],
    ids=["type", "range", "bool", "sequence", "name"],
)
def test_data_that_do_not_fit_are_refused(data: dict[str, Any]) -> None:
    """And the field is named."""
    with pytest.raises(InvalidInput) as told:
        encode(EVERYTHING, data)
    assert told.value.field == next(iter(data))


@pytest.mark.parametrize(
    "fields",
    [
        (Field(1, "a", Kind.BOOL), Field(1, "b", Kind.BOOL)),
        (Field(1, "a", Kind.BOOL), Field(2, "a", Kind.BOOL)),
        (Field(19_500, "a", Kind.BOOL),),
        (Field(0, "a", Kind.BOOL),),
        (Field(7, "a", Kind.BOOL),),
        (Field(1, "a", Kind.MESSAGE),),
    ],
    ids=["number twice", "name twice", "protobuf's own", "zero", "reserved", "no type"],
)
def test_a_type_that_makes_no_sense_is_refused(fields: tuple[Field, ...]) -> None:
    """Before anything is written with it."""
    with pytest.raises(InvalidInput):
        MessageType("M", fields, reserved=frozenset({7}))
