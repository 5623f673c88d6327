"""A Celery worker for invoices: the task, and the process with its probe."""

from __future__ import annotations

import http.server
import random
import threading
from typing import Annotated, Any
from uuid import UUID

from celery import Celery, Task
from celery.signals import worker_ready
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from month3_messaging.jobs.broker import TASK, BrokerSettings, make_app
from month3_messaging.jobs.carrying import Bench, Mailed, carry_out
from month3_messaging.jobs.post import PostSettings
from month3_messaging.jobs.verdicts import Again, AttemptPolicy, Park
from scalelab.resilience.backoff import Backoff


class WorkerSettings(BaseSettings):
    """Environment variables JOBS_WORKER_… . port: of the probe. processes: jobs at once."""

    model_config = SettingsConfigDict(env_prefix="JOBS_WORKER_", frozen=True)

    host: str = "127.0.0.1"
    port: int = 8307
    database_dsn: str
    mail_host: str = "127.0.0.1"
    mail_port: int
    mail_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    processes: Annotated[int, Field(ge=1, le=64)] = 2
    most_attempts: Annotated[int, Field(ge=1)] = 6
    first_wait_s: Annotated[float, Field(ge=0)] = 1.0
    log_level: str = "warning"


def register(app: Celery, bench: Bench) -> None:
    """Give `app` the task."""

    @app.task(name=TASK, bind=True, max_retries=None)
    def invoice(  # pyright: ignore[reportUnusedFunction] - the decorator registers it
        task: Task[Any, Any], order_id: str
    ) -> dict[str, Any]:
        outcome = carry_out(UUID(order_id), bench, retries=task.request.retries)
        if isinstance(outcome, Again):
            raise task.retry(countdown=outcome.delay_s)
        return {
            "state": type(outcome).__name__.lower(),
            "number": outcome.number if isinstance(outcome, Mailed) else None,
            "code": outcome.code if isinstance(outcome, Park) else None,
        }


def run_worker(settings: WorkerSettings, broker: BrokerSettings) -> None:
    """Work until SIGTERM, which lets begun jobs end."""
    app = make_app(broker)
    policy = AttemptPolicy(
        settings.most_attempts,
        Backoff(min(settings.first_wait_s, broker.longest_wait_s), 2.0, broker.longest_wait_s),
    )
    post = PostSettings(settings.mail_host, settings.mail_port, timeout_s=settings.mail_timeout_s)
    register(app, Bench(settings.database_dsn, post, policy, random.SystemRandom().random))

    def ready(**_kwargs: Any) -> None:
        _answer_probes(settings.host, settings.port)

    worker_ready.connect(ready, weak=False)
    app.worker_main(
        [
            "worker",
            f"--concurrency={settings.processes}",
            f"--loglevel={settings.log_level}",
            f"--hostname=jobs-{settings.port}@localhost",
            "--without-gossip",
            "--without-mingle",
        ]
    )


class _Probe(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """200 while the worker's own process is there; it answers from its first moment on."""
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _answer_probes(host: str, port: int) -> None:
    server = http.server.ThreadingHTTPServer((host, port), _Probe)
    threading.Thread(target=server.serve_forever, name="probe", daemon=True).start()
