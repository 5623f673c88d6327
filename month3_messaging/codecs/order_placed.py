"""One event in three formats and two revisions: the worked example of this room.

Revision 2 adds a note that a customer may leave. It is optional in each format's own way, so both
revisions read each other (full compatibility); the proof runs when this module is loaded.
"""

from __future__ import annotations

import json

from month3_messaging.codecs import avro_evolution, protobuf_evolution
from month3_messaging.codecs.avro_schema import Schema, parse_schema
from month3_messaging.codecs.codec import AvroCodec, Codec, JsonCodec, JsonModel, ProtobufCodec
from month3_messaging.codecs.events import EventCodecs
from month3_messaging.codecs.evolution import Revisions
from month3_messaging.codecs.protobuf import Field, Kind, Label, MessageType

ORDER_PLACED = "orders.order.placed.v1"


class Line(JsonModel):
    """One product of an order. price_minor: of one piece, in the currency's smallest unit."""

    product_id: str
    quantity: int
    price_minor: int


class FirstOrderPlaced(JsonModel):
    """Revision 1. placed_at_us: microseconds since 1970."""

    order_id: str
    user_id: str
    placed_at_us: int
    currency: str
    total_minor: int
    lines: list[Line]


class OrderPlaced(FirstOrderPlaced):
    """Revision 2."""

    note: str | None = None


_LINE = MessageType(
    "Line",
    (
        Field(1, "product_id", Kind.STRING),
        Field(2, "quantity", Kind.INT64),
        Field(3, "price_minor", Kind.INT64),
    ),
)
_FIRST_FIELDS = (
    Field(1, "order_id", Kind.STRING),
    Field(2, "user_id", Kind.STRING),
    Field(3, "placed_at_us", Kind.INT64),
    Field(4, "currency", Kind.STRING),
    Field(5, "total_minor", Kind.INT64),
    Field(6, "lines", Kind.MESSAGE, Label.REPEATED, _LINE),
)
PROTOBUF = Revisions(
    MessageType("OrderPlaced", _FIRST_FIELDS),
    MessageType("OrderPlaced", (*_FIRST_FIELDS, Field(7, "note", Kind.STRING, Label.OPTIONAL))),
    problems=protobuf_evolution.problems,
)

_AVRO_LINE = {
    "type": "record",
    "name": "Line",
    "fields": [
        {"name": "product_id", "type": "string"},
        {"name": "quantity", "type": "long"},
        {"name": "price_minor", "type": "long"},
    ],
}
_AVRO_FIRST: list[dict[str, object]] = [
    {"name": "order_id", "type": "string"},
    {"name": "user_id", "type": "string"},
    {"name": "placed_at_us", "type": "long"},
    {"name": "currency", "type": "string"},
    {"name": "total_minor", "type": "long"},
    {"name": "lines", "type": {"type": "array", "items": _AVRO_LINE}},
]
_AVRO_NOTE: dict[str, object] = {"name": "note", "type": ["null", "string"], "default": None}
AVRO_TEXTS = tuple(
    json.dumps({"type": "record", "name": "OrderPlaced", "fields": fields})
    for fields in (_AVRO_FIRST, [*_AVRO_FIRST, _AVRO_NOTE])
)
"""The schemas as other programs would be given them."""
AVRO: Revisions[Schema] = Revisions(
    *map(parse_schema, AVRO_TEXTS), problems=avro_evolution.problems
)


def codecs(revision: int) -> tuple[Codec, Codec, Codec]:
    """JSON, Protobuf and Avro of a program that knows revisions up to `revision`, 1 or 2."""
    model = (FirstOrderPlaced, OrderPlaced)[revision - 1]
    return JsonCodec(model, revision), ProtobufCodec(PROTOBUF, revision), AvroCodec(AVRO, revision)


def order_codecs(revision: int = 2) -> EventCodecs:
    """What a service that reads and writes this event is given."""
    return EventCodecs({ORDER_PLACED: codecs(revision)})
