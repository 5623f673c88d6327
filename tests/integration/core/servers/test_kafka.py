"""Kafka: crash and return."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from scalelab.errors import CorruptData
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import Kafka
from scalelab.lab.servers.kafka_protocol import living_brokers


async def send(bootstrap: str, topic: str, value: bytes) -> None:
    """One record, acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def test_acknowledged_records_survive_kill_9(own_runtime: Runtime) -> None:
    """A record acknowledged before the kill is read after the restart, before the next one."""
    server = Kafka("log")
    own_runtime.start(server)
    admin = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("orders", num_partitions=1, replication_factor=1)])
    await admin.close()
    await send(server.bootstrap, "orders", b"first")
    own_runtime.kill("log")
    own_runtime.restart("log")
    await send(server.bootstrap, "orders", b"second")
    partition = TopicPartition("orders", 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([partition])
        values = [(await consumer.getone()).value for _ in range(2)]
    finally:
        await consumer.stop()
    assert values == [b"first", b"second"]


def test_the_probe_does_not_take_another_server_for_kafka(
    kafka_server: Kafka, redis_server: object
) -> None:
    """The readiness question is Kafka's own: Redis does not pass for a broker."""
    assert living_brokers("127.0.0.1", kafka_server.port, timeout_s=5.0) == 1
    port: int = getattr(redis_server, "port")  # noqa: B009 -- fixtures are typed by their conftest
    with pytest.raises((OSError, CorruptData)):
        living_brokers("127.0.0.1", port, timeout_s=1.0)
