"""A real Celery worker, its database and broker, and a mail server whose answers a test chooses."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import psutil
import psycopg
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from celery import Celery
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from month3_messaging.jobs.broker import BrokerSettings, make_app, sender
from month3_messaging.jobs.mail_sink import receiving
from month3_messaging.jobs.service import migrate
from scalelab.lab.runtime import Runtime, ServiceSpec
from scalelab.lab.servers import Redis

WITHIN_S = 90.0
TAKE = "250 kept"
HOLD_BEFORE = "hold before"
HOLD_AFTER = "hold after"


class MailServer:
    """A real SMTP server in a thread. `answers`: what it does with each next mail of an order; a
    held one is answered never, before or after the mail was kept."""

    def __init__(self) -> None:
        self.kept: defaultdict[str, list[EmailMessage]] = defaultdict(list)
        self.held: defaultdict[str, int] = defaultdict(int)
        self.answers: defaultdict[str, list[str]] = defaultdict(list)
        self.port = 0
        self._listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="mail")

    def __enter__(self) -> MailServer:
        self._thread.start()
        assert self._listening.wait(30)
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with receiving(self, host="127.0.0.1", port=0) as self.port:
            self._listening.set()
            await self._stop.wait()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """As the test chose."""
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        order = str(mail["Message-ID"]).removeprefix("<invoice.").partition("@")[0]
        answer = self.answers[order].pop(0) if self.answers[order] else TAKE
        if answer in (TAKE, HOLD_AFTER):
            self.kept[order].append(mail)
        if answer in (HOLD_BEFORE, HOLD_AFTER):
            self.held[order] += 1
            assert self._stop is not None
            await self._stop.wait()
        return answer


@dataclass
class Bed:
    """One database, one broker, one mail server; and workers that a test may start and kill."""

    runtime: Runtime
    dsn: str
    mail: MailServer
    broker: BrokerSettings
    app: Celery
    workers: list[str] = field(default_factory=list[str])

    def confirmed_order(self, **changes: object) -> UUID:
        """A ready job, as the intake leaves it."""
        order = uuid.uuid4()
        content = order_content(order) | changes
        with psycopg.connect(self.dsn) as conn:
            conn.execute(
                "INSERT INTO job (order_id, content, state) VALUES (%s, %s, 'ready')",
                (order, Jsonb(content)),
            )
        return order

    def send(self, order: UUID) -> None:
        """Hand the job to the broker."""
        sender(self.app)(order)

    def job(self, order: UUID) -> Mapping[str, Any]:
        """The row of a job with its invoice."""
        with psycopg.connect(self.dsn) as conn, conn.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(
                "SELECT * FROM job LEFT JOIN invoice USING (order_id) WHERE order_id = %s",
                (order,),
            ).fetchone()
        assert row is not None
        return row

    def until(self, seen: Callable[[], bool], what: str) -> None:
        """Poll until `seen`; fails naming `what`."""
        deadline_s = time.monotonic() + WITHIN_S
        while not seen():
            if time.monotonic() > deadline_s:
                pytest.fail(f"not within {WITHIN_S:g} s: {what}")
            time.sleep(0.02)

    def until_ended(self, order: UUID) -> Mapping[str, Any]:
        """The row of a job that is done or parked."""
        self.until(lambda: self.job(order)["state"] in ("done", "parked"), "the job's end")
        return self.job(order)

    def until_held(self, order: UUID, times: int = 1) -> None:
        """The mail server has the order's mail and does not answer."""
        self.until(lambda: self.mail.held[str(order)] >= times, "a held mail")

    def start_worker(self) -> str:
        """A worker process with one pool process; returns its name."""
        name = f"jobs-worker-{uuid.uuid4().hex[:6]}"
        port = self.runtime.port(name, 8307)
        self.runtime.service(
            ServiceSpec(
                name,
                ("python", "-m", "month3_messaging.jobs", "worker"),
                port=port,
                env={
                    "JOBS_WORKER_PORT": str(port),
                    "JOBS_WORKER_DATABASE_DSN": self.dsn,
                    "JOBS_WORKER_MAIL_PORT": str(self.mail.port),
                    "JOBS_WORKER_MAIL_TIMEOUT_S": "60",
                    "JOBS_WORKER_PROCESSES": "1",
                    "JOBS_WORKER_MOST_ATTEMPTS": "3",
                    "JOBS_WORKER_FIRST_WAIT_S": "0.05",
                    "JOBS_BROKER_URL": self.broker.url,
                    "JOBS_BROKER_QUEUE": self.broker.queue,
                    "JOBS_BROKER_RESULTS_URL": self.broker.results_url or "",
                    "JOBS_BROKER_LONGEST_WAIT_S": str(self.broker.longest_wait_s),
                    "JOBS_BROKER_JOB_LIMIT_S": str(self.broker.job_limit_s),
                    "JOBS_BROKER_VISIBILITY_TIMEOUT_S": str(self.broker.visibility_timeout_s),
                    "JOBS_BROKER_LOOK_BACK_S": "1",
                },
            )
        )
        self.workers.append(name)
        return name

    def kill_pool_process(self, worker: str) -> None:
        """SIGKILL what carries the job out, and leave the worker's own process."""
        [pid] = [one.pid for one in self.runtime.status() if one.name == worker]
        assert pid is not None
        children = psutil.Process(pid).children()
        assert children
        for child in children:
            child.kill()


def order_content(order: UUID) -> dict[str, object]:
    """What an order's event says."""
    return {
        "order_id": str(order),
        "user_id": "ada",
        "lines": [{"product_id": "tea", "quantity": 2, "unit_minor": 350}],
        "total_minor": 700,
        "currency": "EUR",
        "placed_at": "2026-02-28T10:00:00+00:00",
    }


@contextmanager
def open_bed(runtime: Runtime, dsn: str, broker: BrokerSettings) -> Iterator[Bed]:
    """A bed without a worker. What it started is stopped in the end."""
    migrate(dsn)
    app = make_app(broker)
    with MailServer() as mail:
        bed = Bed(runtime, dsn, mail, broker, app)
        try:
            yield bed
        finally:
            for name in bed.workers:
                runtime.stop(name)
            app.pool.force_close_all()  # pyright: ignore[reportAttributeAccessIssue]
            app.close()


_databases = itertools.count(40)


@pytest.fixture(scope="module")
def bed(runtime: Runtime, redis_server: Redis, module_database_dsn: str) -> Iterator[Bed]:
    """A bed over Redis, shared by a module: jobs are told apart by their order."""
    url = redis_server.url_of(next(_databases) % 60)
    settings = BrokerSettings(
        url=url, results_url=url, longest_wait_s=1, job_limit_s=120, visibility_timeout_s=300
    )
    with open_bed(runtime, module_database_dsn, settings) as opened:
        yield opened
