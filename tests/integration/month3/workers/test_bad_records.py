"""What does not belong on a topic is set aside or refused, and what stands behind it goes on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from month3_messaging.broker import to_headers, to_value
from month3_messaging.workers import EventConsumer, dead_letter_topic
from scalelab.clients.kafka import Message, open_producer
from scalelab.errors import TooLarge
from scalelab.telemetry import Telemetry
from tests.integration.month3.messaging_bed import make_event, read_topic
from tests.integration.month3.workers.effects_bed import FAST, KIND, Effects, publish


async def test_records_that_are_no_events_are_parked_and_the_next_one_is_handled(
    kafka_bootstrap: str, topic: str, effects: Effects, telemetry: Telemetry
) -> None:
    """Invalid UTF-8, no key, an unknown version of the envelope, no id, no value: each is one
    letter with its cause after one attempt. A time far in the future is a fact like any other."""
    fine = make_event("key", 1)
    headers, value = to_headers(fine), to_value(fine)
    bad = [
        Message(topic, "key", b'{"number":"\xff\xfe"}', headers),
        Message(topic, None, value, headers),
        Message(topic, "key", value, {**headers, "ce_specversion": "2.0"}),
        Message(topic, "key", value, {n: text for n, text in headers.items() if n != "ce_id"}),
        Message(topic, "key", None, headers),
    ]
    async with open_producer(kafka_bootstrap, "test") as producer:
        await producer.send_all(bad)
    early = replace(make_event("key", 2), time=datetime.now(UTC) + timedelta(days=3650))
    await publish(kafka_bootstrap, topic, [early])
    async with EventConsumer(
        kafka_bootstrap,
        effects.group,
        [topic],
        {KIND: effects},
        telemetry=telemetry,
        settings=FAST,
    ):
        await effects.reaches(1)
        letters = await read_topic(
            kafka_bootstrap,
            dead_letter_topic(topic, effects.group),
            lambda seen: len(seen) >= len(bad),
        )
    assert len(letters) == len(bad)
    assert {letter.headers["error_code"] for letter in letters} == {"corrupt_data"}
    assert {letter.headers["retry_attempt"] for letter in letters} == {"1"}
    assert await effects.by_key() == {"key": [2]}
    assert set(effects.attempts) == {early.id}


async def test_a_message_of_5_mb_is_refused_before_it_is_sent(
    kafka_bootstrap: str, topic: str
) -> None:
    """The producer says so, the topic keeps nothing of it, and the next record is taken."""
    async with open_producer(kafka_bootstrap, "test") as producer:
        with pytest.raises(TooLarge):
            await producer.send(topic, "key", b"x" * (5 << 20))
        await producer.send(topic, "key", b"small")
    [record] = await read_topic(kafka_bootstrap, topic, lambda seen: len(seen) >= 1)
    assert record.value == b"small"
