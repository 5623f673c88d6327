"""The event envelope: what is written is read back, and nothing else is accepted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.broker import VALUE_BYTES_MAX, Event, from_wire, to_headers, to_value
from scalelab.errors import CorruptData, InvalidInput

EVENT = Event(
    id=UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    type="orders.order.placed.v1",
    source="/orders",
    subject="01890a5d-ac96-774b-bcce-b302099a8057",
    time=datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
    data={"order_id": "x", "lines": [{"quantity": 1}]},
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_the_headers_are_those_of_the_binding() -> None:
    """CloudEvents 1.0, Kafka binary mode: ce_ headers, the key repeated as partition key."""
    assert to_headers(EVENT) == {
        "ce_specversion": "1.0",
        "ce_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "ce_type": "orders.order.placed.v1",
        "ce_source": "/orders",
        "ce_subject": "01890a5d-ac96-774b-bcce-b302099a8057",
        "ce_time": "2026-01-02T03:04:05.678900Z",
        "ce_partitionkey": "01890a5d-ac96-774b-bcce-b302099a8057",
        "content-type": "application/json",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }


@given(st.dictionaries(st.text(), json_values, max_size=6))
def test_any_json_object_survives_the_journey(data: dict[str, object]) -> None:
    """from_wire inverts to_headers and to_value."""
    event = Event(EVENT.id, EVENT.type, EVENT.source, EVENT.subject, EVENT.time, data)
    assert from_wire(to_headers(event), to_value(event)) == event


def test_a_time_in_another_zone_is_the_same_instant() -> None:
    """Written in UTC, whatever zone it came in."""
    zone = timezone(timedelta(hours=5, minutes=30))
    event = Event(
        EVENT.id, EVENT.type, EVENT.source, EVENT.subject, EVENT.time.astimezone(zone), {}
    )
    assert from_wire(to_headers(event), to_value(event)).time == EVENT.time


@pytest.mark.parametrize(
    "header", ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time"]
)
def test_a_missing_or_empty_required_header_is_named(header: str) -> None:
    """CorruptData says which one."""
    for harm in ({}, {header: ""}):
        headers = {n: t for n, t in to_headers(EVENT).items() if n != header} | harm
        with pytest.raises(CorruptData, match=header):
            from_wire(headers, b"{}")


@pytest.mark.parametrize(
    "harm",
    [
        {"ce_id": "not-a-uuid"},
        {"ce_time": "yesterday"},
        {"ce_time": "2026-01-02T03:04:05"},
        {"ce_specversion": "0.3"},
        {"content-type": "application/xml"},
    ],
)
def test_a_malformed_header_is_refused(harm: dict[str, str]) -> None:
    """Nothing is guessed."""
    with pytest.raises(CorruptData):
        from_wire(to_headers(EVENT) | harm, b"{}")


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[]", b"1", b'{"a": NaN}', b"\xff", b"[" * 100_000]
)
def test_a_value_that_is_no_json_object_is_refused(value: bytes | None) -> None:
    """Also a tombstone, NaN, bytes that are no UTF-8, and nesting without end."""
    with pytest.raises(CorruptData):
        from_wire(to_headers(EVENT), value)


@pytest.mark.parametrize(
    "data", [{"a": float("nan")}, {"a": object()}, {"a": "x" * VALUE_BYTES_MAX}]
)
def test_data_that_cannot_be_sent_are_refused(data: dict[str, object]) -> None:
    """InvalidInput at the producer, where the mistake is."""
    with pytest.raises(InvalidInput):
        to_value(Event(EVENT.id, EVENT.type, EVENT.source, EVENT.subject, EVENT.time, data))


def test_headers_need_a_zone_and_texts() -> None:
    """A naive time or an empty subject is refused."""
    naive = datetime(2026, 1, 2)  # noqa: DTZ001 - the mistake under test
    for event in (
        Event(EVENT.id, EVENT.type, EVENT.source, EVENT.subject, naive, {}),
        Event(EVENT.id, EVENT.type, EVENT.source, "", EVENT.time, {}),
    ):
        with pytest.raises(InvalidInput):
            to_headers(event)
