"""A worker that is killed whole, with its pool: when and how often its job is done once more."""

from __future__ import annotations

import pytest

from month3_messaging.jobs.broker import BrokerSettings
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import RabbitMQ, Redis
from tests.integration.month3.jobs.conftest import HOLD_AFTER, open_bed

pytestmark = pytest.mark.timeout(240)


def killed_whole(runtime: Runtime, dsn: str, broker: BrokerSettings) -> None:
    """Kill the worker while its mail is taken and unanswered, start another, and compare."""
    with open_bed(runtime, dsn, broker) as bed:
        first = bed.start_worker()
        order = bed.confirmed_order()
        bed.mail.answers[str(order)] = [HOLD_AFTER]
        bed.send(order)
        bed.until_held(order)
        number = bed.job(order)["number"]
        runtime.kill(first)
        bed.start_worker()
        row = bed.until_ended(order)
    assert (row["state"], row["number"]) == ("done", number)
    mails = [mail.as_bytes() for mail in bed.mail.kept[str(order)]]
    # Each attempt mailed; on a machine that stands still there may be one more than two.
    assert len(mails) == row["attempts"] >= 2
    assert len({str(mail["Message-ID"]) for mail in bed.mail.kept[str(order)]}) == 1


def test_over_redis_the_visibility_time_out_hands_the_job_on(
    runtime: Runtime, redis_server: Redis, database_dsn: str
) -> None:
    """Nobody acked it, so it comes back after the time-out."""
    killed_whole(
        runtime,
        database_dsn,
        BrokerSettings(
            url=redis_server.url_of(62),
            longest_wait_s=0.5,
            job_limit_s=7.0,
            visibility_timeout_s=8.0,
        ),
    )


def test_over_rabbitmq_the_end_of_the_connection_hands_the_job_on(
    runtime: Runtime, rabbitmq_server: RabbitMQ, topic_prefix: str, database_dsn: str
) -> None:
    """At once: no time-out is involved, and none could be long enough to be noticed here."""
    killed_whole(
        runtime,
        database_dsn,
        BrokerSettings(
            url=rabbitmq_server.url,
            queue=f"{topic_prefix}invoices",
            job_limit_s=3_000.0,
            visibility_timeout_s=10_000.0,
        ),
    )
