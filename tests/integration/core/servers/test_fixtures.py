"""The session's servers answer, and hand each test something of its own."""

from __future__ import annotations

import psycopg
import pytest
import redis
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic


@pytest.mark.parametrize("visit", [1, 2])
def test_every_test_gets_an_empty_database(database_dsn: str, visit: int) -> None:
    """A table made by one test is unknown to the next; the owner is no superuser."""
    with psycopg.connect(database_dsn) as connection:
        connection.execute("CREATE TABLE left_over (visit int)")
        query = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
        assert connection.execute(query).fetchone() == (False,)


@pytest.mark.parametrize("visit", [1, 2])
def test_every_test_gets_an_empty_redis_database(redis_url: str, visit: int) -> None:
    """A key set by one test is unknown to the next."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("visit", visit)


async def test_a_record_is_acknowledged(kafka_bootstrap: str, topic_prefix: str) -> None:
    """A topic can be made and takes a record with acks=all."""
    topic = f"{topic_prefix}orders"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all")
    await producer.start()
    try:
        sent = await producer.send_and_wait(topic, b"value", key=b"key")
    finally:
        await producer.stop()
    assert (sent.topic, sent.offset) == (topic, 0)
