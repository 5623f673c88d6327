"""The Celery application: which broker, and what a death of a worker means there.

Over Redis a message that a worker took lies in a set until it is acked. A worker that dies whole
leaves it there, and another takes it back after `visibility_timeout_s`. It cannot tell death from
slowness, and a retry's waiting counts too, because a worker holds the message until it is due: so
the time-out must be longer than the longest wait and the longest job together (`BrokerSettings`
refuses anything else). Over RabbitMQ a worker's connection ends with it, and what it had taken is
handed out at once; no time-out is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Self
from uuid import UUID

from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from scalelab.errors import Unavailable

TASK = "scalelab.jobs.invoice"
"""The name under which the job is known to senders and workers."""


class BrokerSettings(BaseSettings):
    """Environment variables JOBS_BROKER_… .

    url: `redis://…` or `amqp://…`. results_url: where outcomes are kept for `results_keep_s`, or
    none. longest_wait_s: before a retry. job_limit_s: a job that takes longer is killed and handed
    out again.
    """

    model_config = SettingsConfigDict(env_prefix="JOBS_BROKER_", frozen=True)

    url: str
    queue: str = "invoices"
    results_url: str | None = None
    results_keep_s: Annotated[int, Field(ge=1)] = 3600
    longest_wait_s: Annotated[float, Field(ge=0)] = 60.0
    job_limit_s: Annotated[float, Field(gt=0)] = 45.0
    visibility_timeout_s: Annotated[float, Field(gt=0)] = 180.0
    look_back_s: Annotated[int, Field(ge=1)] = 2

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.visibility_timeout_s <= self.longest_wait_s + self.job_limit_s:
            raise ValueError(
                "visibility_timeout_s must be longer than longest_wait_s and job_limit_s together:"
                " else a job that only waits is handed to a second worker"
            )
        return self


def make_app(settings: BrokerSettings) -> Celery:
    """A configured application without tasks. Connects to nothing yet."""
    app = Celery(
        "jobs", broker=settings.url, backend=settings.results_url or None, set_as_current=False
    )
    options: dict[str, object] = {"socket_timeout": 10.0, "socket_connect_timeout": 5.0}
    if settings.url.startswith("redis"):
        options |= {
            "visibility_timeout": settings.visibility_timeout_s,
            # How often a worker looks for what others left behind: every so many seconds.
            "unacked_restore_interval": settings.look_back_s,
            "unacked_restore_throttle": 1,
        }
    else:
        options = {"confirm_publish": True}
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_serializer="json",
        result_expires=settings.results_keep_s,
        task_default_queue=settings.queue,
        task_acks_late=True,  # acked when done, not when taken
        task_reject_on_worker_lost=True,  # a killed pool process: handed out again
        task_acks_on_timeout=False,  # so is a job that was killed at its limit
        task_time_limit=settings.job_limit_s,
        worker_prefetch_multiplier=1,  # a worker takes what it can do now, not a store of it
        worker_hijack_root_logger=False,
        worker_enable_remote_control=True,
        broker_connection_retry_on_startup=True,
        broker_transport_options=options,
    )
    return app


def sender(app: Celery) -> Callable[[UUID], None]:
    """What hands a job to the broker: blocking. It raises Unavailable if that is away."""

    def send(order_id: UUID) -> None:
        try:
            app.send_task(TASK, args=[str(order_id)], task_id=str(order_id), retry=False)
        except OperationalError as error:
            raise Unavailable(
                f"the job broker is away: {error}", code="jobs_unavailable"
            ) from error

    return send
