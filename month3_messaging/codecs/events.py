"""Events whose data are in any of the formats: which codec, which revision, how much.

Wire form
    as in the envelope (broker/envelope.py), and
    content-type        of the codec
    ce_dataschema       /schemas/<event type>/<revision>: the schema the data were written with

A version in the *type* (`….v2`) is another fact, with readers of its own; a *revision* is the same
fact with a compatible schema.

Source: CloudEvents 1.0.2, attributes `datacontenttype` and `dataschema`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from month3_messaging.broker import VALUE_BYTES_MAX, Event, Message, from_wire, to_headers
from month3_messaging.codecs.codec import Codec
from month3_messaging.codecs.errors import (
    UnknownContentType,
    UnknownType,
    UnknownVersion,
    WrongSchema,
)
from scalelab.errors import InvalidInput, TooLarge

_CONTENT_TYPE, _SCHEMA = "content-type", "ce_dataschema"


class EventCodecs:
    """What a service can write and read: for each event type, codecs by their content types."""

    def __init__(self, codecs: Mapping[str, Sequence[Codec]]) -> None:
        self._codecs = {
            kind: {codec.content_type: codec for codec in offered}
            for kind, offered in codecs.items()
        }

    def pack(self, event: Event, content_type: str) -> Message:
        """The event as a message, its data in that format.

        Raises InvalidInput if the data do not fit, or nobody named a codec; TooLarge.
        """
        codec = self._codecs.get(event.type, {}).get(content_type)
        if codec is None:
            raise InvalidInput(f"no codec for {event.type} as {content_type}", field="type")
        value = codec.encode(event.data)
        if len(value) > VALUE_BYTES_MAX:
            raise TooLarge(f"data of {event.type} have {len(value)} bytes, over {VALUE_BYTES_MAX}")
        schema = f"/schemas/{event.type}/{codec.revision}"
        headers = {**to_headers(event), _CONTENT_TYPE: content_type, _SCHEMA: schema}
        return Message(event.subject, value, headers)

    def unpack(self, headers: Mapping[str, str], value: bytes) -> Event:
        """The event in a message; its data as this service's revision has them.

        Raises TooLarge before anything is parsed, and CorruptData: UnknownContentType, UnknownType,
        UnknownVersion, WrongSchema, InvalidUtf8, or what the envelope refuses.
        """
        if len(value) > VALUE_BYTES_MAX:
            raise TooLarge(f"a message of {len(value)} bytes, over {VALUE_BYTES_MAX}")
        # The envelope's own reader checks all but the data, which it knows in one format only.
        plain = {name: text for name, text in headers.items() if name != _CONTENT_TYPE}
        event = from_wire(plain, b"{}")
        content_type = headers.get(_CONTENT_TYPE, "").partition(";")[0].strip()
        codec = self._codec(event.type, content_type)
        written = _revision(headers.get(_SCHEMA), event.type)
        return replace(event, data=codec.decode(value, written))

    def _codec(self, kind: str, content_type: str) -> Codec:
        offered = self._codecs.get(kind)
        if offered is None:
            thing = kind.rpartition(".v")[0]
            if thing and any(known.rpartition(".v")[0] == thing for known in self._codecs):
                raise UnknownVersion(f"no reader for this version of {thing}: {kind}")
            raise UnknownType(f"no reader for events of type {kind!r}")
        codec = offered.get(content_type)
        if codec is None:
            raise UnknownContentType(f"{kind} as {content_type!r} is not read here")
        return codec


def _revision(schema: str | None, kind: str) -> int:
    """The revision in `ce_dataschema`; a message without one is of the first."""
    if schema is None:
        return 1
    path, _, number = schema.rpartition("/")
    if path != f"/schemas/{kind}":
        raise WrongSchema(f"ce_dataschema {schema[:120]!r} is not of {kind}")
    if not number.isascii() or not number.isdigit() or len(number) > 6:
        raise UnknownVersion(f"ce_dataschema {schema[:120]!r} names no revision")
    return int(number)
