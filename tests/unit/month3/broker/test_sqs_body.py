"""How messages lie in SQS: names, bodies, batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from month3_messaging.broker import Message, Topic, dead_letters_of
from month3_messaging.broker.sqs_body import (
    ENTRIES_MAX,
    batches,
    decode_body,
    encode_body,
    entry_of,
    queue_name,
)
from scalelab.errors import CorruptData, InvalidInput


@given(
    key=st.text(min_size=1, max_size=8),
    value=st.binary(max_size=20),
    headers=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_a_body_is_read_back(key: str, value: bytes, headers: dict[str, str]) -> None:
    """Bytes that are no text, too."""
    body = decode_body(encode_body("things", Message(key, value, headers)))
    assert (body.topic, body.key, body.value, body.headers) == ("things", key, value, headers)


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", "null", '{"topic":"t","key":"k","headers":{},"value":"%","reason":"r"}'],
)
def test_a_body_of_somebody_else_is_corrupt(body: str) -> None:
    """A queue has a URL: anyone with the keys may write to it."""
    with pytest.raises(CorruptData):
        decode_body(body)


@given(sizes=st.lists(st.integers(1, 60), max_size=40))
def test_batches_keep_order_and_both_bounds(sizes: list[int]) -> None:
    """Nothing is lost, and a message as large as the bound goes alone."""
    entries = [{"Id": str(n), "MessageBody": "x" * size} for n, size in enumerate(sizes)]
    made = list(batches(entries, 60))
    assert [one for batch in made for one in batch] == entries
    for batch in made:
        assert len(batch) <= ENTRIES_MAX
        assert sum(len(one["MessageBody"]) for one in batch) <= 60


def test_names_are_what_sqs_takes() -> None:
    """No dots, `.fifo` where order is kept; the dead letters' queue is named once."""
    topic = Topic("orders.order", keyed=False)
    parked = dead_letters_of(topic, "mail")
    assert queue_name(topic, "mail") == "orders__order__mail"
    assert queue_name(parked, parked.name) == "orders__order__mail__dlq.fifo"
    with pytest.raises(InvalidInput):
        queue_name(Topic("x" * 76), "a")


def test_only_a_keyed_topic_has_message_groups() -> None:
    """A lane is a message group; each publish is a message of its own."""
    message, keyed = Message("k", b"x"), Topic("things")
    one, two = (entry_of(keyed, message, "body") for _ in range(2))
    assert one["MessageGroupId"] == two["MessageGroupId"] == str(keyed.lane_of("k"))
    assert one["MessageDeduplicationId"] != two["MessageDeduplicationId"]
    assert "MessageGroupId" not in entry_of(Topic("things", keyed=False), message, "body")
