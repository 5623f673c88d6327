"""A node's hub on Redis: one subscription tells all its streams that an order moved.

Theory of operation
    The relay (redis_relay.py) publishes every notification to one channel; every node takes all
    of them and keeps what somebody follows here. Redis remembers nothing: what was published
    while a node was not subscribed is lost to it, so each new subscription, and each silence
    longer than `silence_s` (no notice, no beat: the relay may be dead), sends all followers to
    the history. So a dead relay costs delay, never an update.

Bounds as in hub.py. A node reads as fast as it can: Redis drops a subscriber whose output buffer
it cannot empty, which is a lost subscription like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, cast
from uuid import UUID

import redis.asyncio as redis_asyncio
from redis.asyncio.client import PubSub

from month3_messaging.status.followers import Followers
from month3_messaging.status.hub import HubSettings, Watcher, watch
from month3_messaging.status.postgres_notices import read_notice
from month3_messaging.status.redis_relay import BEAT, CHANNEL, LOOK
from scalelab.clients.redis import map_errors
from scalelab.errors import CorruptData, ScalelabError
from scalelab.telemetry import Log


@dataclass(frozen=True, slots=True)
class RedisFeed:
    """channel: of the relay. silence_s: several of the relay's beats."""

    channel: str = CHANNEL
    silence_s: float = 5.0


class RedisHub:
    """Fans what Redis publishes out to followers; an async context manager owning its task."""

    def __init__(
        self,
        client: redis_asyncio.Redis,
        *,
        log: Log,
        settings: HubSettings | None = None,
        feed: RedisFeed | None = None,
    ) -> None:
        self._client = client
        self._log = log
        self._settings = settings or HubSettings()
        self._feed = feed or RedisFeed()
        self.followers = Followers(per_user=self._settings.per_user, in_all=self._settings.watchers)
        self._subscribed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen(), name="status from Redis")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def watch(self, user_id: str, order_id: UUID) -> AbstractAsyncContextManager[Watcher]:
        """Hints about `order_id` from now on. Raises RateLimited or Overloaded at the bounds."""
        return watch(self.followers, user_id, order_id, queue=self._settings.queue)

    async def ready(self) -> None:
        """Return when the channel is subscribed; waits for it without a bound of its own."""
        await self._subscribed.wait()

    async def _listen(self) -> None:
        while True:
            try:
                async with self._subscription() as subscription:
                    while True:
                        self._hear(await self._next(subscription))
            except ScalelabError as error:
                self._log.warning("status_subscription_lost", error=str(error))
            self._subscribed.clear()
            await asyncio.sleep(self._settings.reconnect_s)

    @asynccontextmanager
    async def _subscription(self) -> AsyncGenerator[PubSub]:
        subscription: PubSub = self._client.pubsub()  # pyright: ignore[reportUnknownMemberType]
        try:
            with map_errors(read_only=True):
                await subscription.subscribe(self._feed.channel)  # pyright: ignore[reportUnknownMemberType]
            yield subscription
        finally:
            await subscription.aclose()  # pyright: ignore[reportUnknownMemberType]

    async def _next(self, subscription: PubSub) -> str:
        """The next payload; LOOK after a silence that is too long, and when it begins to hear."""
        with map_errors(read_only=True):
            message = cast(
                "dict[str, Any] | None",
                await subscription.get_message(timeout=self._feed.silence_s),
            )
            if message is None:
                # A broken connection that nobody reset looks like silence, too: ask.
                await subscription.ping()  # pyright: ignore[reportUnknownMemberType]
                return LOOK
        if message["type"] == "subscribe":
            # What was published while nobody listened is in the history.
            self._subscribed.set()
            return LOOK
        return str(message["data"], errors="replace") if message["type"] == "message" else BEAT

    def _hear(self, payload: str) -> None:
        if payload == LOOK:
            self.followers.look_again()
        elif payload != BEAT:
            try:
                self.followers.spread(*read_notice(payload))
            except CorruptData as error:
                self._log.warning("status_notice_unreadable", error=str(error))
