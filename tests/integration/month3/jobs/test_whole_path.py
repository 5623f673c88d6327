"""Intake, worker and mail sink as processes: from two events on Kafka to a mail in a folder."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from month3_messaging.broker import Event, to_headers, to_value
from month3_messaging.jobs.intake import CONFIRMED, PLACED
from month3_messaging.jobs.mail_sink import MailFolder
from month3_messaging.jobs.service import migrate
from scalelab.clients.kafka import Message, ensure_topics, open_producer
from scalelab.lab.runtime import Runtime, ServiceSpec
from scalelab.lab.servers import Redis
from tests.integration.month3.jobs.conftest import WITHIN_S, order_content


async def _publish(bootstrap: str, topic: str, events: list[Event]) -> None:
    await ensure_topics(bootstrap, {topic: 3})
    async with open_producer(bootstrap, "test") as producer:
        await producer.send_all(
            Message(topic, one.subject, to_value(one), to_headers(one)) for one in events
        )


def _process(runtime: Runtime, role: str, env: dict[str, str], prefix: str) -> None:
    name = f"whole-{role}"
    port = runtime.port(name, 8306)
    argv = ("python", "-m", "month3_messaging.jobs", role)
    runtime.service(ServiceSpec(name, argv, port=port, env=env | {f"{prefix}_PORT": str(port)}))


@pytest.mark.timeout(240)
def test_a_confirmed_order_ends_as_a_mail_in_the_sinks_folder(
    own_runtime: Runtime,
    redis_server: Redis,
    kafka_bootstrap: str,
    topic_prefix: str,
    database_dsn: str,
    tmp_path: Path,
) -> None:
    """Every event twice on the topic, one mail with one document."""
    topic, order = f"{topic_prefix}orders", uuid4()
    now = datetime.now(UTC)
    events = [
        Event(uuid4(), kind, "/orders", str(order), now, order_content(order))
        for kind in (PLACED, CONFIRMED)
    ]
    asyncio.run(_publish(kafka_bootstrap, topic, [*events, *events]))
    migrate(database_dsn)
    smtp_port = own_runtime.port("smtp", 8309)
    broker = {"JOBS_BROKER_URL": redis_server.url_of(63)}
    mail = {"MAIL_FOLDER": str(tmp_path), "MAIL_SMTP_PORT": str(smtp_port)}
    _process(own_runtime, "mail", mail, "MAIL")
    worker = {
        "JOBS_WORKER_DATABASE_DSN": database_dsn,
        "JOBS_WORKER_MAIL_PORT": str(smtp_port),
        "JOBS_WORKER_PROCESSES": "1",
    }
    _process(own_runtime, "worker", broker | worker, "JOBS_WORKER")
    intake = {
        "JOBS_DATABASE_DSN": database_dsn,
        "JOBS_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "JOBS_ORDERS_TOPIC": topic,
    }
    _process(own_runtime, "intake", broker | intake, "JOBS")
    folder = MailFolder(tmp_path)
    deadline_s = time.monotonic() + WITHIN_S
    while not folder.numbers() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    [only] = folder.mails()
    assert only.recipients == ["ada@shop.example"]
    assert (only.subject, only.attachments) == ("Your invoice INV-000001", ["INV-000001.pdf"])
