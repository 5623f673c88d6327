"""What the experiments about queues count, on the session's servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from month3_messaging.experiments.queue_spike import Kill, arithmetic, arrivals, queued
from month3_messaging.experiments.task_queue_vs_log import LANES, compare, judged
from scalelab.lab.course.experiment import Lab
from scalelab.lab.runtime import Runtime
from scalelab.lab.servers import RabbitMQ


async def test_a_queue_loses_nothing_of_a_spike(
    runtime: Runtime, rabbitmq_server: RabbitMQ, topic_prefix: str, tmp_path: Path
) -> None:
    """Backlog, waiting and drain are those of the arithmetic, and each request is done once."""
    lab = Lab(True, runtime, tmp_path, 1, lambda _note: None)
    seen = await queued(rabbitmq_server, arrivals(2), topic_prefix, Kill(lab, rabbitmq_server))
    assert seen == arithmetic(arrivals(2), None)


@pytest.mark.timeout(300)
async def test_a_queue_and_a_log_differ_as_claimed(
    rabbitmq_server: RabbitMQ, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """Every claim of task-queue-vs-log, with one group larger than the topic's lanes."""
    queue, log = await compare(
        rabbitmq_server.url, kafka_bootstrap, topic_prefix, sizes=(LANES, LANES + 1), number=20
    )
    assert [claim for claim in judged(queue, log).shape if not claim.holds] == []
