"""Events in any format: what is written is read back, and whatever else comes has a code."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from month3_messaging.broker import VALUE_BYTES_MAX, Event
from month3_messaging.codecs.order_placed import ORDER_PLACED, order_codecs
from scalelab.errors import InvalidInput, ScalelabError, TooLarge

FORMATS = ("application/json", "application/protobuf", "application/avro")
CODECS = order_codecs()


def event(**changed: Any) -> Event:
    """An order's event."""
    data: dict[str, object] = {
        "order_id": "o-1",
        "user_id": "u-1",
        "placed_at_us": 1,
        "currency": "EUR",
        "total_minor": 5,
        "lines": [],
        "note": None,
    }
    made: dict[str, Any] = {
        "id": UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
        "type": ORDER_PLACED,
        "source": "/orders",
        "subject": "o-1",
        "time": datetime(2026, 1, 2, tzinfo=UTC),
        "data": data,
    }
    return Event(**{**made, **changed})


@pytest.mark.parametrize("content_type", FORMATS)
def test_an_event_is_read_back(content_type: str) -> None:
    """With its format and revision in the headers."""
    packed = CODECS.pack(event(), content_type)
    assert packed.key == "o-1"
    assert packed.headers["content-type"] == content_type
    assert packed.headers["ce_dataschema"] == "/schemas/orders.order.placed.v1/2"
    assert CODECS.unpack(packed.headers, packed.value) == event()


@pytest.mark.parametrize("content_type", FORMATS)
def test_a_program_of_the_first_revision_reads_the_second(content_type: str) -> None:
    """It is deployed later: no format makes it wait, once it was given the schema."""
    packed = CODECS.pack(event(), content_type)
    read = order_codecs(1).unpack(packed.headers, packed.value)
    assert read.data == {name: v for name, v in event().data.items() if name != "note"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ce_type": "orders.order.placed.v9"}, "unknown_version"),
        ({"ce_type": "orders.order.lost.v1"}, "unknown_type"),
        ({"ce_type": "nonsense"}, "unknown_type"),
        ({"content-type": "application/xml"}, "unknown_content_type"),
        ({"content-type": ""}, "unknown_content_type"),
        ({"ce_dataschema": "/schemas/orders.order.placed.v1/3"}, "unknown_version"),
        ({"ce_dataschema": "/schemas/orders.order.placed.v1/²"}, "unknown_version"),
        ({"ce_dataschema": "/schemas/other/2"}, "wrong_schema"),
        ({"ce_id": "7"}, "corrupt_data"),
    ],
)
def test_headers_that_nobody_understands_have_a_code(changed: dict[str, str], code: str) -> None:
    """None of them is worth another try."""
    packed = CODECS.pack(event(), "application/avro")
    with pytest.raises(ScalelabError) as told:
        CODECS.unpack({**packed.headers, **changed}, packed.value)
    assert (told.value.stable_code, told.value.retryable) == (code, False)


@pytest.mark.parametrize("content_type", FORMATS)
def test_five_megabytes_are_refused_before_they_are_parsed(content_type: str) -> None:
    """In both directions; zeros would be no message of any format."""
    packed = CODECS.pack(event(), content_type)
    with pytest.raises(TooLarge) as told:
        CODECS.unpack(packed.headers, bytes(5 * 2**20))
    assert told.value.stable_code == "too_large"
    huge = event(data={**event().data, "note": "x" * VALUE_BYTES_MAX})
    with pytest.raises(TooLarge):
        CODECS.pack(huge, content_type)


def test_another_formats_bytes_are_the_wrong_schema() -> None:
    """A content type that lies."""
    packed = CODECS.pack(event(), "application/json")
    for other in FORMATS[1:]:
        with pytest.raises(ScalelabError) as told:
            CODECS.unpack({**packed.headers, "content-type": other}, packed.value)
        assert told.value.stable_code == "wrong_schema"


def test_a_format_nobody_offers_is_refused_when_writing() -> None:
    """And a type nobody knows."""
    for content_type, kind in (("text/plain", ORDER_PLACED), (FORMATS[0], "orders.order.lost.v1")):
        with pytest.raises(InvalidInput):
            CODECS.pack(event(type=kind), content_type)
