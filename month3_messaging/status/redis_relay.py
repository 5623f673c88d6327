"""From the databases to every node: a relay listens to PostgreSQL and publishes to Redis.

Theory of operation
    Without it each of N nodes holds a LISTEN connection to each of M databases, and every commit
    wakes all N. The relay holds the M connections and publishes each notification once; a node
    holds one subscription (redis_hub.py). Redis keeps nothing of what it passes on, so a relay
    says when something may have been lost (`LOOK`), and that it lives (`BEAT`) while nothing
    happens: nodes that hear neither look into the history themselves.

Bound: `backlog` notices wait for Redis; more than that become one LOOK.
Several relays may run: each notice then arrives several times, which no follower minds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import redis.asyncio as redis_asyncio

from month3_messaging.status.postgres_notices import ListenPace, PostgresNotices
from scalelab.clients.postgres import Database
from scalelab.clients.redis import map_errors
from scalelab.errors import ScalelabError
from scalelab.telemetry import Log

CHANNEL = "order-status"
LOOK = "look"
"""Said instead of notices: some may have been lost."""
BEAT = "beat"
"""Said in silence: the relay lives and the databases are listened to."""

_BATCH = 256


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """channel: of Redis; a slash of its own per deployment. beat_s: silence before a beat.

    backlog: notices that wait while Redis does not answer. retry_s: pause after a failure.
    """

    channel: str = CHANNEL
    beat_s: float = 1.0
    backlog: int = 4096
    retry_s: float = 0.5
    listen: ListenPace = field(default_factory=ListenPace)


class StatusRelay:
    """Carries notifications to Redis; an async context manager that owns its tasks."""

    def __init__(
        self,
        databases: Sequence[Database],
        client: redis_asyncio.Redis,
        *,
        log: Log,
        settings: RelaySettings | None = None,
    ) -> None:
        self._client = client
        self._log = log
        self._settings = settings or RelaySettings()
        self._waiting: deque[str] = deque()
        self._stirred = asyncio.Event()
        self._notices = PostgresNotices(
            databases,
            on_notice=self._take,
            on_gap=self._lost,
            log=log,
            pace=self._settings.listen,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._notices.__aenter__()
        self._task = asyncio.create_task(self._publish(), name="status relay")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._notices.__aexit__(*exc)

    async def ready(self) -> None:
        """Return when every database is listened to; waits for it without a bound of its own."""
        await self._notices.ready()

    def _take(self, payload: str) -> None:
        if len(self._waiting) >= self._settings.backlog:
            self._lost()
        else:
            self._waiting.append(payload)
            self._stirred.set()

    def _lost(self) -> None:
        """Whatever waits is superseded by the advice to look."""
        self._waiting.clear()
        self._waiting.append(LOOK)
        self._stirred.set()

    async def _publish(self) -> None:
        await self._notices.ready()
        while True:
            try:
                async with asyncio.timeout(self._settings.beat_s):
                    await self._stirred.wait()
            except TimeoutError:
                self._waiting.append(BEAT)
            self._stirred.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                try:
                    await self._send(batch)
                except ScalelabError as error:
                    self._log.warning("status_relay_failed", error=str(error))
                    self._lost()
                    await asyncio.sleep(self._settings.retry_s)

    async def _send(self, batch: list[str]) -> None:
        with map_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for payload in batch:
                    # Queued, not awaited: the pipeline answers with itself.
                    pipeline.publish(self._settings.channel, payload)  # pyright: ignore[reportUnusedCoroutine, reportUnknownMemberType]
                await pipeline.execute()
