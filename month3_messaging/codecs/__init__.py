"""The data of events as JSON, Protobuf and Avro, and the changes a schema may live through.

Both binary formats are written out here, in the few lines that a message of orders needs; the
libraries are the peers that tests and experiments compare with. Loading this room loads neither.
"""

from month3_messaging.codecs import avro_evolution, protobuf_evolution
from month3_messaging.codecs.avro_schema import Schema, parse_schema
from month3_messaging.codecs.codec import (
    AvroCodec,
    Codec,
    JsonCodec,
    JsonModel,
    ProtobufCodec,
)
from month3_messaging.codecs.errors import (
    IncompatibleSchema,
    InvalidUtf8,
    UnknownContentType,
    UnknownType,
    UnknownVersion,
    WrongSchema,
)
from month3_messaging.codecs.events import EventCodecs
from month3_messaging.codecs.evolution import Compatibility, Revisions
from month3_messaging.codecs.protobuf import Field, Kind, Label, MessageType

__all__ = [
    "AvroCodec",
    "Codec",
    "Compatibility",
    "EventCodecs",
    "Field",
    "IncompatibleSchema",
    "InvalidUtf8",
    "JsonCodec",
    "JsonModel",
    "Kind",
    "Label",
    "MessageType",
    "ProtobufCodec",
    "Revisions",
    "Schema",
    "UnknownContentType",
    "UnknownType",
    "UnknownVersion",
    "WrongSchema",
    "avro_evolution",
    "parse_schema",
    "protobuf_evolution",
]
