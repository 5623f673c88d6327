"""The Kafka adapter: acknowledged, in order, committed by hand."""

from __future__ import annotations

import pytest

from scalelab.clients.kafka import (
    Consumer,
    Message,
    Partition,
    Record,
    ensure_topics,
    open_consumer,
    open_producer,
)
from scalelab.errors import Conflict, TooLarge, Unavailable


async def drain(consumer: Consumer, count: int) -> list[Record]:
    """The next `count` records; the test's own time-out bounds the wait."""
    records: list[Record] = []
    while len(records) < count:
        records += await consumer.getmany(timeout_ms=200, max_records=count - len(records))
    return records


async def test_records_come_back_whole_and_in_order_per_key(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Key, value, headers and tombstones, over several partitions."""
    topic = f"{topic_prefix}whole"
    await ensure_topics(kafka_bootstrap, {topic: 3})
    messages = [Message(topic, f"k{n % 5}", b"%d" % n, {"ce_id": f"é{n}"}) for n in range(50)]
    messages.append(Message(topic, "k0", None))
    async with open_producer(kafka_bootstrap, "test") as producer:
        positions = await producer.send_all(messages)
    async with open_consumer(kafka_bootstrap, f"{topic_prefix}g", [topic]) as consumer:
        records = await drain(consumer, 51)
    assert len({(p.partition, p.offset) for p in positions}) == 51
    for key in ("k1", "k2", "k3", "k4"):
        values = [int(r.value or b"-1") for r in records if r.key == key]
        assert values == sorted(values)
        assert len(values) == 10
    assert [r.value for r in records if r.key == "k0"][-1] is None
    assert {r.headers["ce_id"] for r in records if r.headers} == {f"é{n}" for n in range(50)}


async def test_what_was_not_committed_is_delivered_again(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Nothing is committed on its own, and a commit names the next offset."""
    topic, group = f"{topic_prefix}again", f"{topic_prefix}g"
    await ensure_topics(kafka_bootstrap, {topic: 1})
    async with open_producer(kafka_bootstrap, "test") as producer:
        await producer.send_all([Message(topic, "k", b"%d" % n) for n in range(4)])
    async with open_consumer(kafka_bootstrap, group, [topic]) as consumer:
        assert [r.offset for r in await drain(consumer, 4)] == [0, 1, 2, 3]
        await consumer.commit({(topic, 0): 2})
        assert await consumer.committed((topic, 0)) == 2
    async with open_consumer(kafka_bootstrap, group, [topic]) as consumer:
        assert [r.offset for r in await drain(consumer, 2)] == [2, 3]
        consumer.seek((topic, 0), 1)
        assert (await drain(consumer, 3))[0].offset == 1
        assert await consumer.end_offsets([(topic, 0)]) == {(topic, 0): 4}


async def test_a_paused_partition_keeps_its_member_and_its_records(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Pause delivers nothing, resume goes on where it stood."""
    topic = f"{topic_prefix}pause"
    await ensure_topics(kafka_bootstrap, {topic: 1})
    async with open_producer(kafka_bootstrap, "test") as producer:
        await producer.send(topic, "k", b"1")
        async with open_consumer(kafka_bootstrap, f"{topic_prefix}g", [topic]) as consumer:
            await drain(consumer, 1)
            consumer.pause([(topic, 0)])
            await producer.send(topic, "k", b"2")
            assert await consumer.getmany(timeout_ms=300) == []
            assert consumer.assignment() == {(topic, 0)}
            consumer.resume([(topic, 0)])
            assert (await drain(consumer, 1))[0].value == b"2"


async def test_a_member_hears_of_its_partitions(kafka_bootstrap: str, topic_prefix: str) -> None:
    """Assigned at the start, revoked before they are given to somebody else."""
    topic = f"{topic_prefix}rebalance"
    await ensure_topics(kafka_bootstrap, {topic: 2})
    heard: list[tuple[str, frozenset[Partition]]] = []

    async def on_assigned(partitions: frozenset[Partition]) -> None:
        heard.append(("assigned", partitions))

    async def on_revoked(partitions: frozenset[Partition]) -> None:
        heard.append(("revoked", partitions))

    both = frozenset({(topic, 0), (topic, 1)})
    group = f"{topic_prefix}g"
    async with open_consumer(
        kafka_bootstrap, group, [topic], on_assigned=on_assigned, on_revoked=on_revoked
    ) as first:
        while first.assignment() != both:
            await first.getmany(timeout_ms=100)
        async with open_consumer(kafka_bootstrap, group, [topic]) as second:
            while len(second.assignment()) != 1:
                await first.getmany(timeout_ms=100)
                await second.getmany(timeout_ms=100)
            with pytest.raises(Conflict) as refusal:
                await second.commit({next(iter(both - second.assignment())): 1})
    assert ("assigned", both) in heard
    assert ("revoked", both) in heard
    assert refusal.value.stable_code == "rebalanced"


async def test_topics_are_made_once_and_never_silently_too_small(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A repeat changes nothing; more partitions than there are is a conflict."""
    topic = f"{topic_prefix}topic"
    await ensure_topics(kafka_bootstrap, {topic: 2}, {"retention.ms": "60000"})
    await ensure_topics(kafka_bootstrap, {topic: 2})
    with pytest.raises(Conflict) as refusal:
        await ensure_topics(kafka_bootstrap, {topic: 3})
    assert refusal.value.stable_code == "topic_partitions_differ"


async def test_a_record_that_is_too_large_is_refused_before_it_is_sent(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Nothing was stored; the producer goes on."""
    topic = f"{topic_prefix}large"
    await ensure_topics(kafka_bootstrap, {topic: 1})
    async with open_producer(kafka_bootstrap, "test") as producer:
        with pytest.raises(TooLarge):
            await producer.send(topic, "k", b"x" * 2_000_000)
        assert (await producer.send(topic, "k", b"small")).offset == 0


async def test_a_broker_that_is_away_is_unavailable() -> None:
    """Neither hangs nor leaks a half-open client."""
    with pytest.raises(Unavailable):
        async with open_producer("127.0.0.1:1", "test", start_timeout_s=0.5):
            pytest.fail("there is no broker")
    with pytest.raises(Unavailable):
        async with open_consumer("127.0.0.1:1", "g", ["t"], start_timeout_s=0.5):
            pytest.fail("there is no broker")
