"""What Kafka's adapter adds to the brokers' suite: lanes that come to a member while it pauses."""

from __future__ import annotations

import asyncio

from month3_messaging.broker import Message, Topic
from month3_messaging.broker.kafka import KafkaBrokerSettings, open_kafka


async def test_a_rebalance_does_not_end_a_members_pause(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    """B7: the client forgets who paused when lanes are given out anew; a member that pauses for
    want of room must not fill up then."""
    topic, group = Topic(f"{topic_prefix}things", lanes=4), f"{topic_prefix}a"
    async with open_kafka(KafkaBrokerSettings(kafka_bootstrap)) as broker:
        await broker.declare(topic, ["a"])
        async with broker.subscribe(topic, group, member=f"{topic_prefix}m1") as reader:
            await reader.pause()
            before = reader.consumer.assignment()
            await broker.publish(topic, [Message(f"k{n}", b"x" * 1000) for n in range(200)])
            async with broker.subscribe(topic, group, member=f"{topic_prefix}m2"):
                async with asyncio.timeout(60):
                    while reader.consumer.assignment() == before:
                        assert await reader.receive(wait_s=0.5) == []
                for _ in range(4):  # time to fetch what must not be fetched
                    assert await reader.receive(wait_s=0.5) == []
                assert reader.held == 0
                await reader.resume()
                async with asyncio.timeout(60):
                    while not reader.held:
                        await reader.receive(wait_s=0.5)
