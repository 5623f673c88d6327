"""Which changes of a schema may be published, in Avro and in Protobuf; and the checkers' proof."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.codecs import (
    Compatibility,
    Field,
    IncompatibleSchema,
    Kind,
    Label,
    MessageType,
    Revisions,
    Schema,
    UnknownVersion,
    WrongSchema,
    avro_evolution,
    parse_schema,
    protobuf_evolution,
)
from month3_messaging.codecs.avro import decode, encode
from month3_messaging.codecs.avro_schema import (
    Array,
    Enum,
    Primitive,
    Record,
    RecordField,
    Union,
    fits,
    takes_bytes,
)
from month3_messaging.codecs.protobuf import decode as decode_message
from month3_messaging.codecs.protobuf import encode as encode_message

BACKWARD, FORWARD, FULL = Compatibility
NEITHER: set[Compatibility] = set()


def record(*fields: dict[str, Any]) -> Schema:
    """An Avro record of these fields."""
    return parse_schema(json.dumps({"type": "record", "name": "Order", "fields": fields}))


ID = {"name": "id", "type": "string"}
TOTAL = {"name": "total", "type": "int"}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}
STATES = {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}
MORE_STATES = {**STATES, "symbols": ["NEW", "PAID", "SENT"]}

AVRO_CHANGES = {
    "an optional field is added": (record(ID), record(ID, NOTE), {BACKWARD, FORWARD, FULL}),
    "an optional field is removed": (record(ID, NOTE), record(ID), {BACKWARD, FORWARD, FULL}),
    "a required field is added without a default": (record(ID), record(ID, TOTAL), {FORWARD}),
    "a required field is removed": (record(ID, TOTAL), record(ID), {BACKWARD}),
    "a field is renamed": (record(TOTAL), record({**TOTAL, "name": "sum"}), NEITHER),
    "a field is renamed with an alias": (
        record(TOTAL),
        record({**TOTAL, "name": "sum", "aliases": ["total"]}),
        {BACKWARD},
    ),
    "a number is widened": (record(TOTAL), record({**TOTAL, "type": "long"}), {BACKWARD}),
    "a type is changed": (record(TOTAL), record({**TOTAL, "type": "string"}), NEITHER),
    "a required field becomes optional": (
        record(TOTAL),
        record({**TOTAL, "type": ["null", "int"]}),
        {BACKWARD},
    ),
    "a symbol is added": (
        record({"name": "state", "type": STATES}),
        record({"name": "state", "type": MORE_STATES}),
        {BACKWARD},
    ),
    "a symbol is added where unknown ones have a default": (
        record({"name": "state", "type": {**STATES, "default": "NEW"}}),
        record({"name": "state", "type": {**MORE_STATES, "default": "NEW"}}),
        {BACKWARD, FORWARD, FULL},
    ),
}

_ID, _TOTAL = Field(1, "id", Kind.STRING), Field(2, "total", Kind.INT64)


def message(*fields: Field, reserved: frozenset[int] = frozenset()) -> MessageType:
    """A Protobuf message of these fields."""
    return MessageType("Order", fields, reserved)


PROTOBUF_CHANGES = {
    "a field is added": (message(_ID), message(_ID, _TOTAL), {BACKWARD, FORWARD, FULL}),
    "a field is removed and reserved": (
        message(_ID, _TOTAL),
        message(_ID, reserved=frozenset({2})),
        {BACKWARD, FORWARD, FULL},
    ),
    "a field is removed and its number left free": (message(_ID, _TOTAL), message(_ID), NEITHER),
    "a reservation is forgotten": (message(_ID, reserved=frozenset({2})), message(_ID), NEITHER),
    "a field is renamed": (
        message(_TOTAL),
        message(Field(2, "sum", Kind.INT64)),
        {BACKWARD, FORWARD, FULL},
    ),
    "a field gets another number": (
        message(_ID, _TOTAL),
        message(_ID, Field(3, "total", Kind.INT64), reserved=frozenset({2})),
        {BACKWARD, FORWARD, FULL},  # readable, and every old total is a zero: see the page
    ),
    "a type is changed": (message(_TOTAL), message(Field(2, "total", Kind.STRING)), NEITHER),
    "a number is folded that was not": (
        message(_TOTAL),
        message(Field(2, "total", Kind.SINT64)),
        NEITHER,
    ),
    "one value becomes many": (
        message(_TOTAL),
        message(Field(2, "total", Kind.INT64, Label.REPEATED)),
        {BACKWARD},
    ),
    "a text becomes bytes": (message(_ID), message(Field(1, "id", Kind.BYTES)), {BACKWARD}),
    "a field inside a field changes": (
        message(Field(1, "line", Kind.MESSAGE, message=message(_ID))),
        message(
            Field(1, "line", Kind.MESSAGE, message=message(Field(1, "id", Kind.BOOL))),
        ),
        NEITHER,
    ),
}


@pytest.mark.parametrize("compatibility", Compatibility)
@pytest.mark.parametrize("change", AVRO_CHANGES)
def test_a_change_in_avro(change: str, compatibility: Compatibility) -> None:
    """Allowed where the table says so, refused with a sentence elsewhere."""
    old, new, allowed = AVRO_CHANGES[change]
    assert (not avro_evolution.problems(old, new, compatibility)) == (compatibility in allowed)


@pytest.mark.parametrize("compatibility", Compatibility)
@pytest.mark.parametrize("change", PROTOBUF_CHANGES)
def test_a_change_in_protobuf(change: str, compatibility: Compatibility) -> None:
    """Allowed where the table says so, refused with a sentence elsewhere."""
    old, new, allowed = PROTOBUF_CHANGES[change]
    assert (not protobuf_evolution.problems(old, new, compatibility)) == (compatibility in allowed)


def test_a_refusal_names_field_and_direction() -> None:
    """What a person needs to mend it."""
    [told] = avro_evolution.problems(record(ID), record(ID, TOTAL), BACKWARD)
    assert told == "backward: value.total: the writer lacks it and the reader has no default"


def test_a_revision_is_checked_against_every_earlier_one() -> None:
    """A field that comes back with another type breaks with the one before the last."""
    text = {"name": "code", "type": ["null", "string"], "default": None}
    number = {"name": "code", "type": ["null", "int"], "default": None}
    with pytest.raises(IncompatibleSchema) as told:
        Revisions(
            record(ID, text), record(ID), record(ID, number), problems=avro_evolution.problems
        )
    assert told.value.stable_code == "incompatible_schema"
    assert "revision 3 breaks with revision 1" in told.value.message
    assert len(told.value.problems) == 2


def test_a_revision_nobody_has_is_unknown() -> None:
    """With a stable code, in both directions."""
    revisions = Revisions(record(ID), problems=avro_evolution.problems)
    for number in (0, 2):
        with pytest.raises(UnknownVersion) as told:
            revisions.schema(number)
        assert told.value.stable_code == "unknown_version"


primitives = st.sampled_from([Primitive(k) for k in ("null", "int", "long", "double", "string")])
enums = st.builds(
    lambda symbols, known: Enum("E", tuple(symbols), symbols[0] if known else None),
    st.lists(st.sampled_from("ABC"), min_size=1, unique=True),
    st.booleans(),
)
leaves = primitives | enums
unions = st.lists(leaves, min_size=1, max_size=3, unique_by=lambda s: getattr(s, "kind", "E")).map(
    lambda branches: Union(tuple(branches))
)


def _fields(drawn: Mapping[str, tuple[Schema, bool]]) -> Schema:
    return Record(
        "R",
        tuple(
            RecordField(name, schema, default=(None,) if given and fits(schema, None) else ())
            for name, (schema, given) in drawn.items()
        ),
    )


schemas: st.SearchStrategy[Schema] = st.dictionaries(
    st.sampled_from("xyz"),
    st.tuples(leaves | unions | leaves.filter(takes_bytes).map(Array), st.booleans()),
    max_size=3,
).map(_fields)


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Every value a schema can have."""
    match schema:
        case Primitive("null"):
            return st.none()
        case Primitive("int") | Primitive("long"):
            return st.integers(-9, 9)
        case Primitive("double"):
            return st.floats(allow_nan=False)
        case Primitive(_):
            return st.sampled_from(["", "é"])
        case Enum(_, symbols):
            return st.sampled_from(symbols)
        case Array(items):
            return st.lists(values(items), max_size=2)
        case Union(branches):
            return st.one_of([values(branch) for branch in branches])
        case Record(_, fields):
            return st.fixed_dictionaries({one.name: values(one.schema) for one in fields})


@given(writer=schemas, reader=schemas, data=st.data())
def test_what_avros_checker_allows_is_read(
    writer: Schema, reader: Schema, data: st.DataObject
) -> None:
    """X1: for any two schemas and any value."""
    if not avro_evolution.reading_problems(reader, writer):
        decode(writer, reader, encode(writer, data.draw(values(writer))))


def examples(schema: Schema) -> list[Any]:
    """A few values that together use every branch and symbol."""
    match schema:
        case Primitive(kind):
            return {"null": [None], "double": [0.5], "string": ["a"]}.get(kind, [1])
        case Enum(_, symbols):
            return list(symbols)
        case Array(items):
            return [[one] for one in examples(items)]
        case Union(branches):
            return [one for branch in branches for one in examples(branch)]
        case Record(_, fields):
            first = {one.name: examples(one.schema)[0] for one in fields}
            others = [{**first, one.name: more} for one in fields for more in examples(one.schema)]
            return [first, *others]


@given(writer=schemas, reader=schemas)
def test_what_avros_checker_forbids_is_refused_by_some_reader(
    writer: Schema, reader: Schema
) -> None:
    """X2: the checker forbids nothing that would have been read."""

    def refused(value: Any) -> bool:
        written = encode(writer, value)
        try:
            decode(writer, reader, written)
        except WrongSchema:
            return True
        return False

    if avro_evolution.reading_problems(reader, writer):
        assert any(refused(value) for value in examples(writer))


@pytest.mark.parametrize("change", PROTOBUF_CHANGES)
def test_what_protobufs_checker_allows_arrives(change: str) -> None:
    """Y1: fields that both know have the value that was written, by number."""
    old, new, _ = PROTOBUF_CHANGES[change]
    for reader, writer in ((new, old), (old, new)):
        if protobuf_evolution.reading_problems(reader, writer):
            continue
        written = {one.name: {Kind.STRING: "a", Kind.INT64: -5}[one.kind] for one in writer.fields}
        seen = decode_message(reader, encode_message(writer, written))
        for one in reader.fields:
            sent = {other.number: written[other.name] for other in writer.fields}.get(one.number)
            if sent is not None:
                assert seen[one.name] in (sent, [sent], str(sent).encode())


def test_protobuf_cannot_demand_a_field() -> None:
    """What Avro refuses reads as a zero here: whoever needs the field must look."""
    assert decode_message(message(_ID, _TOTAL), encode_message(message(_ID), {"id": "a"})) == {
        "id": "a",
        "total": 0,
    }
